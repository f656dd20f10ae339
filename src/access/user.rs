//! People and programs that keys belong to.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};

use super::limits::{Now, Subject, Terms, Who};
use super::principal::Grants;
use super::rules::Rules;
use crate::config::{Allowance, OnMaxIps, Priority, RankGiven, RateLimit};

/// What is kept of a user: the JSON body of its record.
///
/// Members that are not known are left alone: during an upgrade the older process reads what the newer
/// one has written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub role: Role,
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The operator's words, or ours; a caller is told them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_reason: Option<String>,
    /// Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// Addresses it may call from; `None` is what `users.max_ips` says, 0 any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ips: Option<u32>,
    /// `None` is what `users.on_max_ips` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_max_ips: Option<OnMaxIps>,
    /// Names and globs (`llama-*`); `None` is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_models: Option<Vec<String>>,
    /// Names and globs; `None` is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_providers: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    #[serde(default)]
    pub limits: Allowance,
    /// The highest its keys may have when replicas are busy; `None` is normal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// What its keys have that say nothing of their own; `None` is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Tokens per group of models, where they differ from the configuration's; 0 is unlimited.
    #[serde(default)]
    pub quotas: BTreeMap<String, u64>,
    /// How often its quotas were given anew by hand: each time they are counted from the beginning.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub quota_epoch: u32,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Unix milliseconds.
    #[serde(default)]
    pub created_at: i64,
    /// When it is removed with its keys, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge_at: Option<i64>,
    /// Hashes, in 16 hexadecimal digits, of addresses that are known beforehand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

/// What a user is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    #[default]
    Normal,
    /// No limit and no quota holds for it.
    Special,
    /// Made by itself; it expires, and is removed some time after.
    Temporary,
    /// May use the admin API.
    Admin,
}

/// A user as requests see it. It stays the same object for as long as keys link to it, whatever becomes
/// of its record, and so do its counts.
pub struct User {
    pub id: Arc<str>,
    subject: Arc<Subject>,
    /// `None`: there is no such user, or no longer.
    state: ArcSwapOption<State>,
}

/// What holds for a user now.
#[derive(Debug)]
pub struct State {
    pub name: Arc<str>,
    pub role: Role,
    pub enabled: bool,
    pub disabled_reason: Option<Box<str>>,
    /// Unix milliseconds.
    pub expires_at: Option<i64>,
    pub max_ips: Option<u32>,
    pub on_max_ips: Option<OnMaxIps>,
    pub grants: Grants,
    pub rank: RankGiven,
    rate_limit: Option<RateLimit>,
    limits: Allowance,
    quotas: BTreeMap<String, u64>,
    quota_epoch: u32,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_none_yet(epoch: &u32) -> bool {
    *epoch == 0
}

impl UserRecord {
    /// How its keys stand among others that wait, as far as it says.
    pub fn rank(&self) -> RankGiven {
        RankGiven { priority: self.priority, weight: self.weight }
    }
}

// === impl Role ===

impl Role {
    /// The word for it in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Special => "special",
            Self::Temporary => "temporary",
            Self::Admin => "admin",
        }
    }
}

// === impl User ===

impl User {
    /// A user of whom nothing but the id is known.
    pub(super) fn unknown(id: &str) -> Arc<Self> {
        let id: Arc<str> = Arc::from(id);
        Arc::new(Self {
            subject: Subject::new(Who::User, Arc::clone(&id), Terms::default()),
            id,
            state: ArcSwapOption::empty(),
        })
    }

    /// Puts a record into force, or with `None` its absence.
    pub(super) fn set(&self, record: Option<&UserRecord>, rules: &Rules) {
        let state = record.map(|record| Arc::new(State::of(record)));
        let was_disabled = self.ask(|state| !state.enabled).unwrap_or(false);
        if was_disabled && state.as_ref().is_some_and(|state| state.enabled) {
            // Else one that was disabled for its addresses would be again with its next call.
            self.subject.forget_addresses();
        }
        if let Some(state) = &state {
            self.subject.set_terms(state.terms(rules));
        }
        let hashes = record.iter().flat_map(|record| &record.addresses);
        let hashes: Vec<u64> =
            hashes.filter_map(|hash| u64::from_str_radix(hash, 16).ok()).collect();
        if !hashes.is_empty() {
            self.subject.know_addresses(&hashes, Now::by_clock());
        }
        self.state.store(state);
    }

    /// Puts other rules into force.
    pub(super) fn follow(&self, rules: &Rules) {
        if let Some(state) = self.state.load().as_deref() {
            self.subject.set_terms(state.terms(rules));
        }
    }

    /// What holds for it now; `None`: there is no such user.
    pub fn state(&self) -> Option<Arc<State>> {
        self.state.load_full()
    }

    /// Whether there is a record of it.
    pub(super) fn exists(&self) -> bool {
        self.state.load().is_some()
    }

    /// What is counted of it.
    pub fn subject(&self) -> &Arc<Subject> {
        &self.subject
    }

    /// Asks what holds for it now, without taking hold of it.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&State) -> T) -> Option<T> {
        self.state.load().as_deref().map(question)
    }
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("id", &self.id).finish_non_exhaustive()
    }
}

// === impl State ===

impl State {
    fn of(record: &UserRecord) -> Self {
        Self {
            name: Arc::from(record.name.as_str()),
            role: record.role,
            enabled: record.enabled,
            disabled_reason: record.disabled_reason.as_deref().map(Box::from),
            expires_at: record.expires_at,
            max_ips: record.max_ips,
            on_max_ips: record.on_max_ips,
            grants: Grants::new(
                record.allowed_models.as_deref(),
                record.allowed_providers.as_deref(),
            )
            .within(record.limits.bounds()),
            rank: record.rank(),
            rate_limit: record.rate_limit,
            limits: record.limits.clone(),
            quotas: record.quotas.clone(),
            quota_epoch: record.quota_epoch,
        }
    }

    /// Whether it has expired at `now`, in Unix milliseconds.
    pub fn has_expired(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// No limit holds for it.
    pub fn is_exempt(&self) -> bool {
        self.role == Role::Special
    }

    /// Its own quotas: tokens per group of models.
    pub fn quotas(&self) -> &BTreeMap<String, u64> {
        &self.quotas
    }

    fn terms(&self, rules: &Rules) -> Terms {
        Terms {
            rate: self.rate_limit,
            allowance: self.limits.clone(),
            quotas: rules.quotas(&self.quotas, self.quota_epoch),
            exempt: self.is_exempt(),
        }
    }
}
