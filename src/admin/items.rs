//! Providers and models of the store: each change is checked with the whole configuration before it is
//! written, and in force here before it is answered.

use serde_json::{Map, Value, json};

use super::caller::Caller;
use super::desk::Desk;
use super::dynamic::{Shelf, owner};
use super::moment::in_words;
use super::records::unreachable_store;
use super::refusal::{Answer, Refusal};
use super::seal::Seal;
use super::shape::{Item, Shape};
use crate::store::{Expected, Kind, Note, Put, Record, Still, Store, StoreError};

/// Providers, and models, the store can have.
const MOST: usize = 10_000;
/// Records that are asked for at once.
const AT_ONCE: u32 = 1000;
/// What is shown of an item and cannot be set.
const READ_ONLY: [&str; 6] = ["source", "version", "updated_at", "state", "warning", "object"];

/// What a change of the configuration is checked against.
const SHELVED: &[Kind] = &[Kind::Providers, Kind::Models];
/// How often a change is tried again that one from another node came before.
const TRIES: usize = 8;

/// What a change came to.
pub struct Outcome {
    pub record: Record,
    pub warning: Option<String>,
}

/// Everything the store holds of the configuration.
pub async fn shelf(store: &Store) -> Result<Shelf, StoreError> {
    let providers = all(store, Kind::Providers).await?;
    Ok(Shelf { providers, models: all(store, Kind::Models).await? })
}

async fn all(store: &Store, kind: Kind) -> Result<Vec<Record>, StoreError> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let after = records.last().map(|last| last.id.clone());
        let page = store.list(kind, after.as_deref(), AT_ONCE).await?;
        let whole = page.len() < AT_ONCE as usize;
        records.extend(page);
        if whole || records.len() >= MOST {
            return Ok(records);
        }
    }
}

/// Writes the item of this id. `make` is given the item as it is, its secrets opened, and says what it
/// is to be.
pub async fn put(
    desk: &Desk,
    by: &Caller,
    kind: Kind,
    id: &str,
    expected: Expected,
    make: impl Fn(Option<&Item>) -> Answer<Item> + Send + Sync,
) -> Answer<Outcome> {
    let _one_at_a_time = desk.changing.lock().await;
    for _ in 0..TRIES {
        if let Some(outcome) = try_put(desk, by, kind, id, expected, &make).await? {
            return Ok(outcome);
        }
    }
    Err(contended())
}

/// `None`: something has changed after the check, and nothing is written.
async fn try_put(
    desk: &Desk,
    by: &Caller,
    kind: Kind,
    id: &str,
    expected: Expected,
    make: &(impl Fn(Option<&Item>) -> Answer<Item> + Send + Sync),
) -> Answer<Option<Outcome>> {
    let seal = changeable(desk)?;
    let store = desk.store()?;
    let since = store.revision().await.map_err(|error| unreachable_store(&error))?;
    let mut shelf = shelf(&store).await.map_err(|error| unreachable_store(&error))?;
    let records = of(&mut shelf, kind);
    let place = records.iter().position(|record| record.id == id);
    let before = place.and_then(|place| records.get(place)).cloned();
    match (&before, expected) {
        (Some(_), Expected::Absent) => {
            return Err(Refusal::taken(format!("There is a {} `{id}` already.", noun(kind))));
        }
        (None, Expected::Absent) => {}
        (None, _) => return Err(Refusal::not_found(noun(kind), id)),
        (Some(record), Expected::Version(version)) if record.version != version => {
            return Err(Refusal::stale(Some(record.version)));
        }
        (Some(_), _) => {}
    }
    let opened = before.as_ref().map(|record| open(record, &seal, kind));
    let item = make(opened.as_ref())?;
    if item.names_variables() && !by.is_operator() {
        let message = "Only the admin key may name variables of the environment.";
        return Err(Refusal::beyond("api_keys", message));
    }
    if item.is_called_as_the_machine() && !by.is_operator() {
        let message = "Only the admin key may have a provider called as this machine.";
        return Err(Refusal::beyond("api_keys", message));
    }
    let sealed = item.seal(&seal, &owner(id), opened.as_ref());
    let sealed = sealed.map_err(|error| Refusal::invalid(Some("api_keys"), error.to_string()))?;
    let new = Record {
        id: id.to_owned(),
        version: before.as_ref().map_or(0, |record| record.version),
        handle: None,
        body: sealed.to_body(),
        updated_at: 0,
    };
    match place.and_then(|place| records.get_mut(place)) {
        Some(record) => *record = new.clone(),
        None => records.push(new.clone()),
    }
    let left_out = shelf.compose(Some(&seal)).left_out;
    desk.steward.would_hold(shelf).await.map_err(Refusal::mistakes)?;
    let (was, is) = (opened.map(|it| it.masked().to_body()), item.masked().to_body());
    let note = Note { by: &by.by, before: was.as_deref(), after: Some(&is) };
    let known = before.map_or(Expected::Absent, |record| Expected::Version(record.version));
    let put = Put { kind, id, handle: None, body: &new.body, after: note.after };
    let still = Still { kinds: SHELVED, since };
    let record = match store.put_while(still, put, known, note).await {
        Err(StoreError::Overtaken) => return Ok(None),
        record => record.map_err(|error| unreachable_store(&error))?,
    };
    let mut warnings: Vec<String> = left_out.iter().map(|one| one.message.clone()).collect();
    warnings.extend(follow(desk).await);
    let warning = (!warnings.is_empty()).then(|| warnings.join("; "));
    Ok(Some(Outcome { record, warning }))
}

/// Removes the item of this id.
pub async fn remove(
    desk: &Desk,
    by: &Caller,
    kind: Kind,
    id: &str,
    expected: Expected,
) -> Answer<Value> {
    let _one_at_a_time = desk.changing.lock().await;
    for _ in 0..TRIES {
        if let Some(gone) = try_remove(desk, by, kind, id, expected).await? {
            return Ok(gone);
        }
    }
    Err(contended())
}

/// `None`: something has changed after the check, and nothing is removed.
async fn try_remove(
    desk: &Desk,
    by: &Caller,
    kind: Kind,
    id: &str,
    expected: Expected,
) -> Answer<Option<Value>> {
    let seal = changeable(desk)?;
    let store = desk.store()?;
    let since = store.revision().await.map_err(|error| unreachable_store(&error))?;
    let mut shelf = shelf(&store).await.map_err(|error| unreachable_store(&error))?;
    let records = of(&mut shelf, kind);
    let place = records.iter().position(|record| record.id == id);
    let place = place.ok_or_else(|| Refusal::not_found(noun(kind), id))?;
    let record = records.remove(place);
    if matches!(expected, Expected::Version(version) if version != record.version) {
        return Err(Refusal::stale(Some(record.version)));
    }
    desk.steward.would_hold(shelf).await.map_err(Refusal::mistakes)?;
    let before = open(&record, &seal, kind).masked().to_body();
    let note = Note { by: &by.by, before: Some(&before), after: None };
    let still = Still { kinds: SHELVED, since };
    let known = Expected::Version(record.version);
    match store.delete_while(still, kind, id, known, note).await {
        Err(StoreError::Overtaken) => return Ok(None),
        gone => gone.map_err(|error| unreachable_store(&error))?,
    };
    let warning = follow(desk).await;
    Ok(Some(json!({ "id": id, "object": noun(kind), "deleted": true, "warning": warning })))
}

fn contended() -> Refusal {
    let message = "Too many change the configuration at once; nothing was changed by this request.";
    Refusal::conflict("contended", message)
}

/// Puts what the store has now into force; what kept it from that.
async fn follow(desk: &Desk) -> Option<String> {
    let mistakes = desk.steward.follow_store().await.err()?;
    Some(format!("it is written, and not in force: {}", mistakes.join("; ")))
}

/// The items of one kind as the store has them, by id.
pub async fn stored(desk: &Desk, kind: Kind) -> Answer<Vec<Record>> {
    if !desk.snapshot.load().config.store.as_ref().is_some_and(|store| store.dynamic) {
        return Ok(Vec::new());
    }
    all(&desk.store()?, kind).await.map_err(|error| unreachable_store(&error))
}

/// What is shown of a record: as it was given, with secrets masked.
pub fn shown(desk: &Desk, kind: Kind, record: &Record) -> Map<String, Value> {
    let seal = Seal::of(&desk.snapshot.load().config).ok();
    let Some(item) = Item::read(&record.body) else { return Map::new() };
    let opened = seal.and_then(|seal| item.open(&seal, &owner(&record.id)).ok());
    let item = opened.unwrap_or(item).masked();
    let mut shown = item.item;
    shown.insert("id".to_owned(), json!(record.id));
    if item.shape == Shape::Forebay && kind == Kind::Providers {
        shown.insert("name".to_owned(), json!(record.id));
        shown.insert("enabled".to_owned(), json!(item.enabled));
    } else if item.shape == Shape::Forebay {
        shown.insert("enabled".to_owned(), json!(item.enabled));
    } else {
        shown.insert("is_enabled".to_owned(), json!(item.enabled));
    }
    shown.insert("source".to_owned(), json!("store"));
    shown.insert("version".to_owned(), json!(record.version));
    if let Some(at) = in_words(record.updated_at).filter(|_| record.updated_at > 0) {
        shown.insert("updated_at".to_owned(), json!(at));
    }
    shown
}

/// Takes out what is only ever shown.
pub fn settable(mut given: Map<String, Value>) -> Map<String, Value> {
    given.retain(|name, _| !READ_ONLY.contains(&name.as_str()));
    given
}

/// An item as it would have to be sent to be what it is.
pub fn sent(item: &Item) -> Map<String, Value> {
    let mut sent = item.masked().item;
    let name = if item.shape == Shape::LlmProxy { "is_enabled" } else { "enabled" };
    sent.insert(name.to_owned(), json!(item.enabled));
    sent
}

/// A record with its secrets opened; those that cannot be stay sealed.
fn open(record: &Record, seal: &Seal, kind: Kind) -> Item {
    let empty = || Item { shape: Shape::Forebay, enabled: false, item: Map::new() };
    let item = Item::read(&record.body).unwrap_or_else(empty);
    if kind == Kind::Models {
        return item;
    }
    item.opened_where_possible(seal, &owner(&record.id))
}

/// The key that secrets are sealed with, when the store may hold providers and models at all.
fn changeable(desk: &Desk) -> Answer<Seal> {
    let snapshot = desk.snapshot.load();
    if !snapshot.config.store.as_ref().is_some_and(|store| store.dynamic) {
        let message = "Providers and models are those of the configuration's file. \
            `store: { dynamic: true }` lets the store have some as well.";
        return Err(Refusal::conflict("not_dynamic", message));
    }
    Seal::of(&snapshot.config).map_err(|error| Refusal::conflict("no_key", error.to_string()))
}

fn of(shelf: &mut Shelf, kind: Kind) -> &mut Vec<Record> {
    if kind == Kind::Providers { &mut shelf.providers } else { &mut shelf.models }
}

pub fn noun(kind: Kind) -> &'static str {
    if kind == Kind::Providers { "provider" } else { "model" }
}
