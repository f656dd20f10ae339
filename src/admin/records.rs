//! Keys and users as records of the store: read, changed only when nobody else has, and told of.

use std::sync::Arc;

use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::caller::Caller;
use super::desk::Desk;
use super::given::Maybe;
use super::moment::in_words as moment;
use super::page::{Page, expected, list, one};
use super::refusal::{Answer, Refusal};
use crate::access::limits::Now;
use crate::access::{KeyRecord, UserRecord};
use crate::store::{Expected, Kind, Note, Record, Store, StoreError};

/// How often a change is tried again that another one came before.
const TRIES: usize = 8;

/// Something that is kept in a record of its own.
pub trait Kept: Serialize + DeserializeOwned + Clone + Send {
    const KIND: Kind;
    const NOUN: &'static str;
    /// What is shown of a record and cannot be set.
    const READ_ONLY: &[&str];

    fn id(&self) -> &str;
    /// What no other record of its kind may have.
    fn handle(&self) -> &str;
    /// For eyes and for the audit: without secrets, moments as RFC 3339 has them.
    fn visible(&self) -> Map<String, Value>;
    /// With `Some` reason it is let in no more.
    fn set_disabled(&mut self, reason: Option<String>);
}

/// A record, read.
pub type Read<T> = (i64, T);

/// One record, with its version.
pub async fn read<T: Kept>(store: &Store, id: &str) -> Answer<Option<Read<T>>> {
    let record = store.get(T::KIND, id).await.map_err(|error| failed::<T>(&error))?;
    record.map(|record| Ok((record.version, body(&record)?))).transpose()
}

/// A record's body.
pub fn body<T: Kept>(record: &Record) -> Answer<T> {
    serde_json::from_str(&record.body).map_err(|error| {
        log::error!("the record of {} {} cannot be read: {error}", T::NOUN, record.id);
        Refusal::internal()
    })
}

/// Answers with a page of records, by id.
pub async fn index<T: Kept>(desk: &Desk, page: &Page) -> Answer {
    let limit = page.limit()?;
    let listed = desk.store()?.list(T::KIND, page.after.as_deref(), limit.saturating_add(1)).await;
    let mut records = listed.map_err(|error| unreachable_store(&error))?;
    let more = records.len() > limit as usize;
    records.truncate(limit as usize);
    let shown = records
        .iter()
        .map(|record| Ok(view(&body::<T>(record)?, record.version, Some(record.updated_at))));
    Ok(list(&shown.collect::<Answer<Vec<_>>>()?, more))
}

/// Answers with one record.
pub async fn show<T: Kept>(desk: &Desk, id: &str) -> Answer {
    let found = desk.store()?.get(T::KIND, id).await;
    let found = found.map_err(|error| unreachable_store(&error))?;
    let record = found.ok_or_else(|| Refusal::not_found(T::NOUN, id))?;
    let shown = view(&body::<T>(&record)?, record.version, Some(record.updated_at));
    Ok(one(StatusCode::OK, Some(record.version), &shown))
}

/// Answers a change with the record as it is now.
pub fn changed<T: Kept>((version, kept): &Read<T>) -> Response {
    one(StatusCode::OK, Some(*version), &view(kept, *version, Some(Now::by_clock().0)))
}

/// Disables a record for the reason that is given, or else for this one, and answers with it.
pub async fn disable<T: Kept>(
    desk: &Desk,
    caller: &Caller,
    id: &str,
    headers: &HeaderMap,
    given: Maybe,
    otherwise: &str,
) -> Answer {
    let reason = given.reason()?.unwrap_or_else(|| otherwise.to_owned());
    let disabled = change::<T>(desk, caller, id, expected(headers)?, |record| {
        record.set_disabled(Some(reason.clone()));
        Ok(())
    });
    Ok(changed(&disabled.await?))
}

/// Removes a record, and says so.
pub async fn delete<T: Kept>(
    desk: &Desk,
    caller: &Caller,
    id: &str,
    headers: &HeaderMap,
) -> Answer {
    let gone = remove::<T>(desk, caller, id, expected(headers)?).await?;
    Ok(one(StatusCode::OK, None, &gone))
}

/// A record as the form that would make it, to be patched.
pub fn form_of<T: Kept>(record: &T) -> Map<String, Value> {
    let mut form = record.visible();
    let shown_only =
        |name: &str| T::READ_ONLY.contains(&name) || ["id", "is_enabled"].contains(&name);
    form.retain(|name, value| !value.is_null() && !shown_only(name));
    form
}

/// Writes a record that is not there yet.
pub async fn create<T: Kept>(desk: &Desk, caller: &Caller, new: &T) -> Answer<i64> {
    let store = desk.store()?;
    let after = Value::Object(new.visible()).to_string();
    let note = Note { by: &caller.by, before: None, after: Some(&after) };
    let (body, id) = (text(new)?, new.id());
    let put = store.put(T::KIND, id, Some(new.handle()), &body, Expected::Absent, note).await;
    let version = match put {
        Ok(record) => record.version,
        Err(StoreError::Conflict { .. }) => {
            let message = format!("There is a {} `{id}` already.", T::NOUN);
            return Err(Refusal::taken(message));
        }
        Err(error) => return Err(failed::<T>(&error)),
    };
    tell(desk, &store).await;
    Ok(version)
}

/// Changes a record: reads it, lets `change` at it, and writes it when it has not been changed
/// meanwhile. What comes out is the record as it is now.
pub async fn change<T: Kept>(
    desk: &Desk,
    caller: &Caller,
    id: &str,
    expected: Expected,
    mut change: impl FnMut(&mut T) -> Answer<()>,
) -> Answer<Read<T>> {
    let store = desk.store()?;
    for _ in 0..TRIES {
        let found = read::<T>(&store, id).await?;
        let (version, before) = found.ok_or_else(|| Refusal::not_found(T::NOUN, id))?;
        if expected != Expected::Any && expected != Expected::Version(version) {
            return Err(Refusal::stale(Some(version)));
        }
        let mut after = before.clone();
        change(&mut after)?;
        let (was, is) = (text(&before.visible())?, text(&after.visible())?);
        let note = Note { by: &caller.by, before: Some(&was), after: Some(&is) };
        let (body, known) = (text(&after)?, Expected::Version(version));
        match store.put(T::KIND, id, Some(after.handle()), &body, known, note).await {
            Ok(record) => {
                tell(desk, &store).await;
                return Ok((record.version, after));
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(failed::<T>(&error)),
        }
    }
    let message = "Too many change it at once; nothing was changed by this request.";
    Err(Refusal::conflict("contended", message))
}

async fn remove<T: Kept>(
    desk: &Desk,
    caller: &Caller,
    id: &str,
    expected: Expected,
) -> Answer<Value> {
    let store = desk.store()?;
    let found = read::<T>(&store, id).await?;
    let (version, before) = found.ok_or_else(|| Refusal::not_found(T::NOUN, id))?;
    if expected != Expected::Any && expected != Expected::Version(version) {
        return Err(Refusal::stale(Some(version)));
    }
    let before = Value::Object(before.visible()).to_string();
    let note = Note { by: &caller.by, before: Some(&before), after: None };
    let gone = store.delete(T::KIND, id, expected, note).await;
    if !gone.map_err(|error| failed::<T>(&error))? {
        return Err(Refusal::not_found(T::NOUN, id));
    }
    tell(desk, &store).await;
    Ok(json!({ "id": id, "object": T::NOUN, "deleted": true }))
}

/// Puts what has changed in the store into force here, without waiting for word from it.
async fn tell(desk: &Desk, store: &Store) {
    if let Err(error) = desk.registry.learn(store).await {
        // It is written, and the keeper hears of it when the store is back.
        log::warn!("a change is not in force here yet: {error}");
    }
}

/// What a failure of the store is for whoever asked.
pub fn failed<T: Kept>(error: &StoreError) -> Refusal {
    match error {
        StoreError::Taken => {
            let what = if T::KIND == Kind::Keys { "This key is" } else { "This name is" };
            Refusal::taken(format!("{what} in use by another {}.", T::NOUN))
        }
        StoreError::Conflict { current } => Refusal::stale(*current),
        error => unreachable_store(error),
    }
}

/// What a failure of the store is where nothing can be in conflict.
pub fn unreachable_store(error: &StoreError) -> Refusal {
    log::warn!("the store did not answer an operator: {error}");
    match error {
        StoreError::Conflict { current } => Refusal::stale(*current),
        StoreError::Away(_) => Refusal::store_away(),
        StoreError::Busy(_) => Refusal::store_busy(),
        _ => Refusal::internal(),
    }
}

/// What is shown of a record, with what the store knows about it.
pub fn view<T: Kept>(kept: &T, version: i64, updated_at: Option<i64>) -> Value {
    let mut shown = kept.visible();
    shown.insert("version".to_owned(), json!(version));
    if let Some(at) = updated_at.and_then(moment) {
        shown.insert("updated_at".to_owned(), json!(at));
    }
    Value::Object(shown)
}

fn text<T: Serialize>(value: &T) -> Answer<String> {
    serde_json::to_string(value).map_err(|_| Refusal::internal())
}

/// Moments of a record in words, for eyes.
fn in_words(members: &mut Map<String, Value>) {
    for name in ["created_at", "expires_at", "purge_at"] {
        let ms = members.get(name).and_then(Value::as_i64);
        if let Some(at) = ms.and_then(moment) {
            members.insert(name.to_owned(), json!(at));
        }
    }
}

fn members<T: Serialize>(value: &T) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

impl Kept for KeyRecord {
    const KIND: Kind = Kind::Keys;
    const NOUN: &'static str = "key";
    const READ_ONLY: &[&str] = &[
        "hint",
        "created_by",
        "created_at",
        "updated_at",
        "version",
        "temporary",
        "warning",
        "standing",
    ];

    fn id(&self) -> &str {
        &self.id
    }

    fn handle(&self) -> &str {
        &self.digest
    }

    fn visible(&self) -> Map<String, Value> {
        let mut shown = members(self);
        // That of a short key can be guessed from.
        shown.remove("digest");
        for name in ["user", "allowed_models", "allowed_providers", "expires_at", "rate_limit"] {
            shown.entry(name).or_insert(Value::Null);
        }
        shown.insert("is_enabled".to_owned(), json!(self.enabled));
        in_words(&mut shown);
        shown
    }

    fn set_disabled(&mut self, reason: Option<String>) {
        (self.enabled, self.disabled_reason) = (reason.is_none(), reason);
    }
}

impl Kept for UserRecord {
    const KIND: Kind = Kind::Users;
    const NOUN: &'static str = "user";
    const READ_ONLY: &[&str] =
        &["created_at", "updated_at", "version", "purge_at", "known_addresses", "quota_epoch"];

    fn id(&self) -> &str {
        &self.id
    }

    fn handle(&self) -> &str {
        &self.name
    }

    fn visible(&self) -> Map<String, Value> {
        let mut shown = members(self);
        // Of addresses, even hashed, only how many there are.
        shown.remove("addresses");
        shown.insert("known_addresses".to_owned(), json!(self.addresses.len()));
        for name in ["allowed_models", "allowed_providers", "expires_at", "rate_limit"] {
            shown.entry(name).or_insert(Value::Null);
        }
        in_words(&mut shown);
        shown
    }

    fn set_disabled(&mut self, reason: Option<String>) {
        (self.enabled, self.disabled_reason) = (reason.is_none(), reason);
    }
}

/// What every handler is given.
pub type State = axum::extract::State<Arc<Desk>>;
/// … and who asks.
pub type By = axum::Extension<Arc<Caller>>;
