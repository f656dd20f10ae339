//! Keys: made, shown once, changed, revoked. Also under the name `master-keys`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::desk::Desk;
use super::given::{
    Given, Maybe, Path, Query, check_globs, check_id, check_name, check_rate, check_weight, merge,
};
use super::moment::Moment;
use super::page::{Page, expected, one};
use super::records::{self, By, Kept as _, form_of, view};
use super::refusal::{Answer, Refusal};
use super::shown;
use crate::access::limits::Now;
use crate::access::{Digest, KeyPrivacy, KeyRecord, UserRecord, key};
use crate::config::{Allowance, Priority, RateLimit, Secret};
use crate::store::Expected;

/// A key with fewer characters can be found by trying.
const SHORT: usize = 16;
/// A key as an operator writes it.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeyForm {
    /// What it is known by here; made up when absent.
    id: Option<String>,
    /// The key itself, where it has to be a certain one; better leave it to us.
    key: Option<String>,
    /// What the caller is called in logs and metrics; the id when absent.
    name: Option<String>,
    /// The id of the user it belongs to.
    user: Option<String>,
    /// Names and globs (`llama-*`); absent is all, an empty list none.
    allowed_models: Option<Vec<String>>,
    /// Names and globs; absent is all, an empty list none.
    allowed_providers: Option<Vec<String>>,
    /// RFC 3339, a date, or Unix milliseconds. Also `expires`.
    #[schema(value_type = Option<String>)]
    expires_at: Option<Moment>,
    /// Also `is_enabled`.
    enabled: Option<bool>,
    /// The caller is told it.
    disabled_reason: Option<String>,
    /// `{requests_per_second, burst_size}`; 0 and 0 block.
    #[schema(value_type = Option<Object>)]
    rate_limit: Option<RateLimit>,
    /// `{requests_per_minute, tokens_per_minute, max_concurrent, max_ips, max_output_tokens,
    /// max_prompt_tokens, max_images, budget: {usd, per}}`; 0 is unlimited.
    #[schema(value_type = Option<Object>)]
    limits: Option<Allowance>,
    /// `low`, `normal`, `high` or a number from -100 to 100; absent is its user's.
    #[schema(value_type = Option<String>)]
    priority: Option<Priority>,
    /// 1 to 1000; absent is its user's.
    weight: Option<u32>,
    tags: Option<Vec<String>>,
    /// `strict`: no address, no device header and no content of its calls is kept.
    #[schema(value_type = Option<String>)]
    privacy: Option<KeyPrivacy>,
}

/// A secret that has just been given or made.
struct Fresh {
    secret: Secret,
    warning: Option<&'static str>,
}

pub fn router() -> OpenApiRouter<Arc<Desk>> {
    OpenApiRouter::new()
        .routes(routes!(index, create))
        .routes(routes!(show, replace, update, remove))
        .routes(routes!(rotate))
        .routes(routes!(revoke))
}

/// Keys of the store, by id.
#[utoipa::path(get, path = "/", params(Page), responses((status = 200)))]
async fn index(State(desk): records::State, Query(page): Query<Page>) -> Answer {
    records::index::<KeyRecord>(&desk, &page).await
}

/// Makes a key. The answer is the only one that ever shows it.
#[utoipa::path(post, path = "/", request_body = KeyForm, responses((status = 201), (status = 409)))]
async fn create(State(desk): records::State, Extension(by): By, given: Given) -> Answer {
    let form: KeyForm = normal(given)?.form()?;
    let id = form.id.clone().unwrap_or_else(|| key::new_id("key"));
    check_id(&id)?;
    let fresh = Fresh::of(&desk, form.key.as_deref())?;
    check_user(&desk, form.user.as_deref()).await?;
    let mut record = KeyRecord {
        id,
        name: String::new(),
        hint: String::new(),
        digest: String::new(),
        user: None,
        created_by: by.by.clone(),
        allowed_models: None,
        allowed_providers: None,
        expires_at: None,
        enabled: true,
        disabled_reason: None,
        rate_limit: None,
        limits: Allowance::default(),
        priority: None,
        weight: None,
        tags: Vec::new(),
        created_at: Now::by_clock().0,
        temporary: false,
        privacy: None,
    };
    form.fill(&mut record)?;
    fresh.put(&mut record);
    by.bounds(&desk).await?.allow_key(&record)?;
    let version = records::create(&desk, &by, &record).await?;
    let shown = fresh.shown(&record, version);
    Ok(one(StatusCode::CREATED, Some(version), &shown))
}

/// One key.
#[utoipa::path(get, path = "/{id}", params(("id" = String, Path)), responses((status = 200), (status = 404)))]
async fn show(State(desk): records::State, Path(id): Path<String>) -> Answer {
    records::show::<KeyRecord>(&desk, &id).await
}

/// Sets all of a key: what is not given is as in a new one. The secret stays when none is given.
#[utoipa::path(put, path = "/{id}", params(("id" = String, Path)), request_body = KeyForm, responses((status = 200), (status = 404), (status = 412)))]
async fn replace(
    State(desk): records::State,
    Extension(by): By,
    Path(id): Path<String>,
    headers: HeaderMap,
    mut given: Given,
) -> Answer {
    given.without(KeyRecord::READ_ONLY);
    given.check_id(&id)?;
    let form: KeyForm = normal(given)?.form()?;
    check_user(&desk, form.user.as_deref()).await?;
    put(&desk, &by, &id, expected(&headers)?, |_| Ok(form.clone())).await
}

/// Changes a key by a merge patch (RFC 7396): what is null goes, what is absent stays.
#[utoipa::path(patch, path = "/{id}", params(("id" = String, Path)), request_body = KeyForm, responses((status = 200), (status = 404), (status = 412)))]
async fn update(
    State(desk): records::State,
    Extension(by): By,
    Path(id): Path<String>,
    headers: HeaderMap,
    mut given: Given,
) -> Answer {
    given.without(KeyRecord::READ_ONLY);
    given.check_id(&id)?;
    let patch = normal(given)?.0;
    check_user(&desk, patch.get("user").and_then(Value::as_str)).await?;
    let patched = |record: &KeyRecord| {
        let mut form = form_of(record);
        merge(&mut form, patch.clone());
        Given(form).form()
    };
    put(&desk, &by, &id, expected(&headers)?, patched).await
}

async fn put(
    desk: &Desk,
    by: &Caller,
    id: &str,
    expected: Expected,
    form: impl Fn(&KeyRecord) -> Answer<KeyForm> + Send,
) -> Answer {
    let bounds = by.bounds(desk).await?;
    let mut fresh = None;
    let now = records::change::<KeyRecord>(desk, by, id, expected, |record| {
        // Who may do less than a key must not have it by giving it another secret.
        bounds.allow_key(record)?;
        let form = form(record)?;
        fresh = form.key.as_deref().map(|key| Fresh::of(desk, Some(key))).transpose()?;
        form.fill(record)?;
        if let Some(fresh) = &fresh {
            fresh.put(record);
        }
        bounds.allow_key(record)
    })
    .await?;
    Ok(fresh.map_or_else(|| records::changed(&now), |fresh| fresh.answer(&now)))
}

/// Removes a key. Calls under way go on.
#[utoipa::path(delete, path = "/{id}", params(("id" = String, Path)), responses((status = 200), (status = 404), (status = 412)))]
async fn remove(
    State(desk): records::State,
    Extension(by): By,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    records::delete::<KeyRecord>(&desk, &by, &id, &headers).await
}

/// Gives a key another secret; the old one ends at once.
#[utoipa::path(post, path = "/{id}/rotate", params(("id" = String, Path)), responses((status = 200), (status = 404), (status = 412)))]
async fn rotate(
    State(desk): records::State,
    Extension(by): By,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let bounds = by.bounds(&desk).await?;
    let (expected, fresh) = (expected(&headers)?, Fresh::of(&desk, None)?);
    let now = records::change::<KeyRecord>(&desk, &by, &id, expected, |record| {
        bounds.allow_key(record)?;
        fresh.put(record);
        Ok(())
    });
    Ok(fresh.answer(&now.await?))
}

/// Disables a key, with a reason: `{"reason": "…"}`.
#[utoipa::path(post, path = "/{id}/revoke", params(("id" = String, Path)), responses((status = 200), (status = 404), (status = 412)))]
async fn revoke(
    State(desk): records::State,
    Extension(by): By,
    Path(id): Path<String>,
    headers: HeaderMap,
    given: Maybe,
) -> Answer {
    records::disable::<KeyRecord>(&desk, &by, &id, &headers, given, "revoked").await
}

/// The names members have here, in place of those they have elsewhere.
fn normal(mut given: Given) -> Answer<Given> {
    given.rename("is_enabled", "enabled")?;
    given.rename("expires", "expires_at")?;
    if let Some(rate) = given.0.get_mut("rate_limit")
        && let Some(per_second) = rate.as_u64()
    {
        *rate = json!({ "requests_per_second": per_second });
    }
    Ok(given)
}

/// A key belongs to a user that is there.
async fn check_user(desk: &Desk, user: Option<&str>) -> Answer<()> {
    let Some(user) = user else { return Ok(()) };
    match records::read::<UserRecord>(&desk.store()?, user).await? {
        Some(_) => Ok(()),
        None => Err(Refusal::invalid(Some("user"), format!("There is no user `{user}`."))),
    }
}

impl KeyForm {
    /// Sets what a form says; what it leaves out is as in a new key.
    fn fill(&self, record: &mut KeyRecord) -> Answer<()> {
        let name = self.name.clone().unwrap_or_else(|| record.id.clone());
        check_name(&name)?;
        check_globs("allowed_models", self.allowed_models.as_deref())?;
        check_globs("allowed_providers", self.allowed_providers.as_deref())?;
        check_rate(self.rate_limit)?;
        check_weight(self.weight)?;
        record.name = name;
        record.user.clone_from(&self.user);
        record.allowed_models.clone_from(&self.allowed_models);
        record.allowed_providers.clone_from(&self.allowed_providers);
        record.expires_at = self.expires_at.map(|at| at.0);
        record.enabled = self.enabled.unwrap_or(true);
        record.disabled_reason = self
            .disabled_reason
            .clone()
            .filter(|_| !record.enabled)
            .or_else(|| (!record.enabled).then(|| "disabled by an operator".to_owned()));
        record.rate_limit = self.rate_limit;
        record.limits = self.limits.clone().unwrap_or_default();
        (record.priority, record.weight) = (self.priority, self.weight);
        record.tags = self.tags.clone().unwrap_or_default();
        record.privacy = self.privacy;
        Ok(())
    }
}

// === impl Fresh ===

impl Fresh {
    /// The key an operator wants, or one of ours.
    fn of(desk: &Desk, wanted: Option<&str>) -> Answer<Self> {
        let Some(wanted) = wanted else {
            return Ok(Self { secret: key::generate().secret, warning: None });
        };
        let refused = |said: &str| Err(Refusal::invalid(Some("key"), said));
        if wanted.is_empty() || wanted.len() > 512 {
            return refused("A key has 1 to 512 characters.");
        }
        if !wanted.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refused("The key holds characters that no header can carry.");
        }
        let snapshot = desk.snapshot.load();
        let digest = Digest::of(wanted);
        if snapshot.config.admin.as_ref().is_some_and(|it| Digest::of(it.key.expose()) == digest) {
            return refused("This is the admin key.");
        }
        if snapshot.keyring.find(&digest).is_some() {
            return Err(Refusal::taken("This key is in the configuration's file already."));
        }
        let short = "The key is shorter than 16 characters: it can be found by trying.";
        let warning = (wanted.len() < SHORT).then_some(short);
        Ok(Self { secret: Secret::new(wanted), warning })
    }

    fn put(&self, record: &mut KeyRecord) {
        record.digest = hex::encode(Sha256::digest(self.secret.expose()));
        record.hint = self.secret.hint();
    }

    /// Answers a change of the secret.
    fn answer(&self, (version, record): &records::Read<KeyRecord>) -> Response {
        one(StatusCode::OK, Some(*version), &self.shown(record, *version))
    }

    /// The record with its secret: this once.
    fn shown(&self, record: &KeyRecord, version: i64) -> Value {
        let mut shown = shown::object(view(record, version, Some(Now::by_clock().0)));
        shown.insert("key".to_owned(), json!(self.secret.expose()));
        let nothing = record.allowed_models.as_ref().is_some_and(Vec::is_empty);
        let nothing = nothing.then_some("`allowed_models` is empty: the key may use no model.");
        let over = record.expires_at.is_some_and(|at| at <= Now::by_clock().0);
        let over = over.then_some("`expires_at` has passed: the key is refused.");
        let warnings: Vec<&str> = self.warning.into_iter().chain(nothing).chain(over).collect();
        if !warnings.is_empty() {
            shown.insert("warning".to_owned(), json!(warnings.join(" ")));
        }
        Value::Object(shown)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// JSON of any kind, some of it under names that mean something.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        let name = prop_oneof![
            Just("id"),
            Just("key"),
            Just("name"),
            Just("limits"),
            Just("budget"),
            Just("usd"),
            Just("per"),
            Just("rate_limit"),
            Just("expires_at"),
            Just("expires"),
            Just("enabled"),
            Just("is_enabled"),
            Just("allowed_models"),
            Just("tags"),
            Just("privacy"),
            Just("targets"),
            Just("provider"),
            Just("kind"),
            Just("api_keys"),
            Just("model_mapping"),
        ];
        let name = prop_oneof![name.prop_map(str::to_owned), "[a-z]{1,8}"];
        leaf.prop_recursive(4, 32, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(name.clone(), inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_body_does_any_harm(body in any_json()) {
            let members = shown::object(body);
            let form = normal(Given(members.clone())).and_then(Given::form::<KeyForm>);
            if let Ok(form) = form {
                let mut record: KeyRecord = serde_json::from_value(
                    json!({"id": "a", "name": "a", "hint": "", "digest": ""})).unwrap();
                if form.fill(&mut record).is_ok() {
                    // What was written is what would be written again.
                    let again: KeyForm = Given(form_of(&record)).form().unwrap();
                    let mut twice = record.clone();
                    again.fill(&mut twice).unwrap();
                    prop_assert_eq!(twice, record);
                }
            }
            let _item = crate::admin::shape::Item::of(members).map(|item| item.masked());
        }
    }
}
