//! Users: made, changed, disabled with a reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
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
use crate::access::limits::Now;
use crate::access::{Role, UserRecord, key};
use crate::config::{Allowance, OnMaxIps, Priority, RateLimit};
use crate::store::Expected;

/// What callers are told of a user that an operator has disabled without a word.
const OPERATOR: &str = "disabled by an operator";

/// A user as an operator writes it.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UserForm {
    /// What it is known by here; made up when absent.
    id: Option<String>,
    /// Unlike any other's; the id when absent.
    name: Option<String>,
    /// `normal`, `special` (no limit and no quota holds), `temporary` or `admin`.
    #[schema(value_type = Option<String>)]
    role: Option<Role>,
    /// Also `is_enabled`.
    enabled: Option<bool>,
    /// Callers are told it.
    disabled_reason: Option<String>,
    /// RFC 3339, a date, or Unix milliseconds. Also `expires`.
    #[schema(value_type = Option<String>)]
    expires_at: Option<Moment>,
    /// Addresses it may call from; 0 is any number, absent what `users.max_ips` says.
    max_ips: Option<u32>,
    /// `refuse` or `disable`; absent is what `users.on_max_ips` says.
    #[schema(value_type = Option<String>)]
    on_max_ips: Option<OnMaxIps>,
    /// Names and globs (`llama-*`); absent is all, an empty list none.
    allowed_models: Option<Vec<String>>,
    /// Names and globs; absent is all, an empty list none.
    allowed_providers: Option<Vec<String>>,
    /// `{requests_per_second, burst_size}`; 0 and 0 block.
    #[schema(value_type = Option<Object>)]
    rate_limit: Option<RateLimit>,
    /// As a key's.
    #[schema(value_type = Option<Object>)]
    limits: Option<Allowance>,
    /// The highest its keys may have: `low`, `normal`, `high` or a number from -100 to 100.
    #[schema(value_type = Option<String>)]
    priority: Option<Priority>,
    /// 1 to 1000, for its keys that have none of their own.
    weight: Option<u32>,
    /// Tokens per group of models, where they differ from the configuration's; 0 is unlimited.
    quotas: Option<BTreeMap<String, u64>>,
    tags: Option<Vec<String>>,
    note: Option<String>,
}

pub fn router() -> OpenApiRouter<Arc<Desk>> {
    OpenApiRouter::new()
        .routes(routes!(index, create))
        .routes(routes!(show, replace, update, remove))
        .routes(routes!(disable))
        .routes(routes!(enable))
        .routes(routes!(refresh_quota))
}

/// Users, by id.
#[utoipa::path(get, path = "/", params(Page), responses((status = 200)))]
async fn index(State(desk): records::State, Query(page): Query<Page>) -> Answer {
    records::index::<UserRecord>(&desk, &page).await
}

/// Makes a user.
#[utoipa::path(post, path = "/", request_body = UserForm, responses((status = 201), (status = 409)))]
async fn create(State(desk): records::State, Extension(by): By, given: Given) -> Answer {
    let form: UserForm = normal(given)?.form()?;
    let id = form.id.clone().unwrap_or_else(|| key::new_id("user"));
    check_id(&id)?;
    let mut record = UserRecord {
        id,
        name: String::new(),
        role: Role::Normal,
        enabled: true,
        disabled_reason: None,
        expires_at: None,
        max_ips: None,
        on_max_ips: None,
        allowed_models: None,
        allowed_providers: None,
        rate_limit: None,
        limits: Allowance::default(),
        priority: None,
        weight: None,
        quotas: BTreeMap::new(),
        quota_epoch: 0,
        tags: Vec::new(),
        note: None,
        created_at: Now::by_clock().0,
        purge_at: None,
        addresses: Vec::new(),
    };
    form.fill(&mut record)?;
    check_groups(&desk, &record, &BTreeMap::new())?;
    by.bounds(&desk).await?.allow_user(&record)?;
    let version = records::create(&desk, &by, &record).await?;
    let shown = view(&record, version, Some(Now::by_clock().0));
    Ok(one(StatusCode::CREATED, Some(version), &shown))
}

/// One user.
#[utoipa::path(get, path = "/{id}", params(("id" = String, Path)), responses((status = 200), (status = 404)))]
async fn show(State(desk): records::State, Path(id): Path<String>) -> Answer {
    records::show::<UserRecord>(&desk, &id).await
}

/// Sets all of a user: what is not given is as in a new one.
#[utoipa::path(put, path = "/{id}", params(("id" = String, Path)), request_body = UserForm, responses((status = 200), (status = 404), (status = 412)))]
async fn replace(
    State(desk): records::State,
    Extension(by): By,
    Path(id): Path<String>,
    headers: HeaderMap,
    mut given: Given,
) -> Answer {
    given.without(UserRecord::READ_ONLY);
    given.check_id(&id)?;
    let form: UserForm = normal(given)?.form()?;
    put(&desk, &by, &id, expected(&headers)?, |_| Ok(form.clone())).await
}

/// Changes a user by a merge patch (RFC 7396): what is null goes, what is absent stays.
#[utoipa::path(patch, path = "/{id}", params(("id" = String, Path)), request_body = UserForm, responses((status = 200), (status = 404), (status = 412)))]
async fn update(
    State(desk): records::State,
    Extension(by): By,
    Path(id): Path<String>,
    headers: HeaderMap,
    mut given: Given,
) -> Answer {
    given.without(UserRecord::READ_ONLY);
    given.check_id(&id)?;
    let patch = normal(given)?.0;
    let patched = |record: &UserRecord| {
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
    form: impl Fn(&UserRecord) -> Answer<UserForm> + Send + Sync,
) -> Answer {
    bounded(desk, by, id, expected, |record| {
        let before = record.quotas.clone();
        form(record)?.fill(record)?;
        check_groups(desk, record, &before)
    })
    .await
}

/// Changes a user that can do no more than the caller, before and after.
async fn bounded(
    desk: &Desk,
    by: &Caller,
    id: &str,
    expected: Expected,
    change: impl Fn(&mut UserRecord) -> Answer<()> + Send + Sync,
) -> Answer {
    let bounds = by.bounds(desk).await?;
    let now = records::change::<UserRecord>(desk, by, id, expected, |record| {
        bounds.allow_user(record)?;
        change(record)?;
        bounds.allow_user(record)
    });
    Ok(records::changed(&now.await?))
}

/// Removes a user. Its keys stay, and open nothing.
#[utoipa::path(delete, path = "/{id}", params(("id" = String, Path)), responses((status = 200), (status = 404), (status = 412)))]
async fn remove(
    State(desk): records::State,
    Extension(by): By,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    records::delete::<UserRecord>(&desk, &by, &id, &headers).await
}

/// Disables a user and with it its keys, with a reason: `{"reason": "…"}`.
#[utoipa::path(post, path = "/{id}/disable", params(("id" = String, Path)), responses((status = 200), (status = 404), (status = 412)))]
async fn disable(
    State(desk): records::State,
    Extension(by): By,
    Path(id): Path<String>,
    headers: HeaderMap,
    given: Maybe,
) -> Answer {
    records::disable::<UserRecord>(&desk, &by, &id, &headers, given, OPERATOR).await
}

/// Enables a user again. The addresses it was called from are forgotten.
#[utoipa::path(post, path = "/{id}/enable", params(("id" = String, Path)), responses((status = 200), (status = 404), (status = 412)))]
async fn enable(
    State(desk): records::State,
    Extension(by): By,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let enable = |record: &mut UserRecord| {
        record.set_disabled(None);
        Ok(())
    };
    bounded(&desk, &by, &id, expected(&headers)?, enable).await
}

/// Gives a user its quotas anew, before their time: what was used of them is forgotten.
#[utoipa::path(post, path = "/{id}/quota/refresh", params(("id" = String, Path)), responses((status = 200), (status = 404), (status = 412)))]
async fn refresh_quota(
    State(desk): records::State,
    Extension(by): By,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let refresh = |record: &mut UserRecord| {
        record.quota_epoch = record.quota_epoch.saturating_add(1);
        Ok(())
    };
    bounded(&desk, &by, &id, expected(&headers)?, refresh).await
}

/// The names members have here, in place of those they have elsewhere.
fn normal(mut given: Given) -> Answer<Given> {
    given.rename("is_enabled", "enabled")?;
    given.rename("expires", "expires_at")?;
    Ok(given)
}

/// Quotas are of groups that there are, or of those the user had before: a group may have been taken
/// out of the file. Where there are none at all, they may be yet to come.
fn check_groups(desk: &Desk, user: &UserRecord, before: &BTreeMap<String, u64>) -> Answer<()> {
    let snapshot = desk.snapshot.load();
    let known: Vec<&str> =
        snapshot.config.quotas.groups.iter().map(|group| group.name.as_str()).collect();
    if known.is_empty() {
        return Ok(());
    }
    let is_known = |name: &str| known.contains(&name) || before.contains_key(name);
    match user.quotas.keys().find(|name| !is_known(name)) {
        Some(name) => Err(Refusal::unknown_group(name, &known)),
        None => Ok(()),
    }
}

impl UserForm {
    /// Sets what a form says; what it leaves out is as in a new user.
    fn fill(&self, record: &mut UserRecord) -> Answer<()> {
        let name = self.name.clone().unwrap_or_else(|| record.id.clone());
        check_name(&name)?;
        check_globs("allowed_models", self.allowed_models.as_deref())?;
        check_globs("allowed_providers", self.allowed_providers.as_deref())?;
        check_rate(self.rate_limit)?;
        check_weight(self.weight)?;
        if self.limits.as_ref().is_some_and(|limits| limits.max_ips > 0) {
            let message = "`limits.max_ips` is for keys; a user's own number is `max_ips`.";
            return Err(Refusal::invalid(Some("limits"), message));
        }
        let enabled = self.enabled.unwrap_or(true);
        let reason = self.disabled_reason.clone().unwrap_or_else(|| OPERATOR.to_owned());
        if self.role == Some(Role::Temporary) && self.expires_at.is_none() {
            let message = "A temporary user has an end: give it `expires_at`.";
            return Err(Refusal::invalid(Some("expires_at"), message));
        }
        record.name = name;
        record.role = self.role.unwrap_or_default();
        record.enabled = enabled;
        record.disabled_reason = (!enabled).then_some(reason);
        record.expires_at = self.expires_at.map(|at| at.0);
        record.max_ips = self.max_ips;
        record.on_max_ips = self.on_max_ips;
        record.allowed_models.clone_from(&self.allowed_models);
        record.allowed_providers.clone_from(&self.allowed_providers);
        record.rate_limit = self.rate_limit;
        record.limits = self.limits.clone().unwrap_or_default();
        (record.priority, record.weight) = (self.priority, self.weight);
        record.quotas = self.quotas.clone().unwrap_or_default();
        record.tags = self.tags.clone().unwrap_or_default();
        record.note.clone_from(&self.note);
        Ok(())
    }
}
