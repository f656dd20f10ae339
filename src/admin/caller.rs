//! Who asks, and how much of what they have they may give on.

use std::collections::BTreeMap;

use super::records;
use super::refusal::{Answer, Refusal};
use crate::access::{KeyRecord, Principal, Role, UserRecord, globs_within};
use crate::config::{Allowance, RateLimit};
use crate::store::Store;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Whose name the audit has: `admin`, or a user's id.
    pub by: String,
    /// The key and the user it is of; `None` is the admin key, which has no bounds.
    admin: Option<(String, String)>,
    bounded: bool,
}

/// What a caller may give on.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    of: Vec<Bound>,
}

/// What one record has, or asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    pub models: Option<Vec<String>>,
    pub providers: Option<Vec<String>>,
    /// Unix milliseconds.
    pub expires_at: Option<i64>,
    pub rate: Option<RateLimit>,
    pub limits: Allowance,
    /// Tokens per group of models; of a user only.
    pub quotas: BTreeMap<String, u64>,
}

// === impl Caller ===

impl Caller {
    pub fn operator() -> Self {
        Self { by: "admin".to_owned(), admin: None, bounded: false }
    }

    /// `None`: an ordinary key.
    pub fn of(principal: &Principal) -> Option<Self> {
        let user = principal.user()?;
        let state = user.state().filter(|state| state.role == Role::Admin)?;
        let grants = [principal.grants(), &state.grants];
        let bounded = grants.iter().any(|it| it.models().is_some() || it.providers().is_some());
        let ids = (principal.id.to_string(), user.id.to_string());
        Some(Self { by: ids.1.clone(), admin: Some(ids), bounded })
    }

    /// Whether it may not use everything itself.
    pub fn is_bounded(&self) -> bool {
        self.bounded
    }

    /// Whether it is the admin key.
    pub fn is_operator(&self) -> bool {
        self.admin.is_none()
    }

    pub fn role(&self) -> &'static str {
        if self.admin.is_none() { "operator" } else { "admin" }
    }

    /// What it may give on, by the store's latest word.
    pub async fn bounds(&self, store: &Store) -> Answer<Bounds> {
        let Some((key, user)) = &self.admin else { return Ok(Bounds::default()) };
        let gone = Refusal::unknown_key;
        let key: KeyRecord = records::read(store, key).await?.ok_or_else(gone)?.1;
        let user: UserRecord = records::read(store, user).await?.ok_or_else(gone)?.1;
        Ok(Bounds { of: vec![Bound::of_key(&key), Bound::of_user(&user)] })
    }
}

// === impl Bounds ===

impl Bounds {
    /// Whether limits hold for whoever has these.
    pub fn are_limited(&self) -> bool {
        let limited = |have: &Bound| {
            have.rate.is_some() || !have.limits.is_unlimited() || !have.quotas.is_empty()
        };
        self.of.iter().any(limited)
    }

    /// Refuses what is more than there is to give. Errs on the side of refusing.
    pub fn allow(&self, asked: &Bound) -> Answer<()> {
        self.of.iter().try_for_each(|have| have.allow(asked))
    }

    /// … for a user, who has quotas of their own.
    pub fn allow_user(&self, asked: &Bound) -> Answer<()> {
        self.allow(asked)?;
        let more = |(group, have): (&String, &u64)| {
            let asked = asked.quotas.get(group).copied();
            // 0 is unlimited, and what is not said is what the configuration gives everybody.
            *have > 0 && asked.is_some_and(|asked| asked == 0 || asked > *have)
        };
        if self.of.iter().flat_map(|have| &have.quotas).any(more) {
            return Err(Refusal::beyond("quotas", "`quotas` are more than you have yourself."));
        }
        Ok(())
    }
}

// === impl Bound ===

impl Bound {
    pub fn of_key(key: &KeyRecord) -> Self {
        Self {
            models: key.allowed_models.clone(),
            providers: key.allowed_providers.clone(),
            expires_at: key.expires_at,
            rate: key.rate_limit,
            limits: key.limits.clone(),
            quotas: BTreeMap::new(),
        }
    }

    pub fn of_user(user: &UserRecord) -> Self {
        Self {
            models: user.allowed_models.clone(),
            providers: user.allowed_providers.clone(),
            expires_at: user.expires_at,
            rate: user.rate_limit,
            limits: user.limits.clone(),
            quotas: user.quotas.clone(),
        }
    }

    fn allow(&self, asked: &Self) -> Answer<()> {
        let beyond = |param: &str| {
            Err(Refusal::beyond(param, format!("`{param}` is more than you have yourself.")))
        };
        if !globs_within(asked.models.as_deref(), self.models.as_deref()) {
            return beyond("allowed_models");
        }
        if !globs_within(asked.providers.as_deref(), self.providers.as_deref()) {
            return beyond("allowed_providers");
        }
        if !at_most(asked.expires_at, self.expires_at) {
            return beyond("expires_at");
        }
        let per_second = |rate: &RateLimit| rate.requests_per_second;
        let burst = |rate: &RateLimit| rate.burst_size;
        if !at_most(asked.rate.as_ref().map(per_second), self.rate.as_ref().map(per_second))
            || !at_most(asked.rate.as_ref().map(burst), self.rate.as_ref().map(burst))
        {
            return beyond("rate_limit");
        }
        if !limits_within(&asked.limits, &self.limits) {
            return beyond("limits");
        }
        Ok(())
    }
}

/// `None` is without end.
fn at_most<T: PartialOrd>(asked: Option<T>, have: Option<T>) -> bool {
    match (asked, have) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(asked), Some(have)) => asked <= have,
    }
}

fn limits_within(asked: &Allowance, have: &Allowance) -> bool {
    // 0 is unlimited.
    let some = |limit: u64| (limit > 0).then_some(limit);
    let within = |asked: u64, have: u64| at_most(some(asked), some(have));
    let budget = match (&asked.budget, &have.budget) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(asked), Some(have)) => asked.period == have.period && asked.nanos <= have.nanos,
    };
    budget
        && within(asked.requests_per_minute, have.requests_per_minute)
        && within(asked.tokens_per_minute, have.tokens_per_minute)
        && within(asked.max_concurrent.into(), have.max_concurrent.into())
        && within(asked.max_ips.into(), have.max_ips.into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn bound(value: &Value) -> Bound {
        let list = |name: &str| serde_json::from_value(value[name].clone()).unwrap();
        let limits = value.get("limits").cloned().unwrap_or_else(|| json!({}));
        Bound {
            models: list("models"),
            providers: list("providers"),
            expires_at: value["expires_at"].as_i64(),
            rate: serde_json::from_value(value["rate"].clone()).unwrap(),
            limits: serde_json::from_value(limits).unwrap(),
            quotas: BTreeMap::new(),
        }
    }

    #[test]
    fn nobody_gives_more_than_they_have() {
        let have = json!({
            "models": ["llama-*"], "providers": ["p"], "expires_at": 100,
            "rate": {"requests_per_second": 10, "burst_size": 20},
            "limits": {"tokens_per_minute": 50, "budget": {"usd": 5, "per": "day"}},
        });
        let same = have.clone();
        let changed = |name: &str, value: Value| {
            let mut asked = same.clone();
            asked[name] = value;
            asked
        };
        let bounds = Bounds { of: vec![Bound::default(), bound(&have)] };
        for asked in [
            same.clone(),
            changed("models", json!(["llama-70b"])),
            changed("models", json!([])),
            changed("expires_at", json!(99)),
            changed("rate", json!({"requests_per_second": 0, "burst_size": 0})),
            changed(
                "limits",
                json!({"tokens_per_minute": 1, "budget": {"usd": "4.99", "per": "day"}}),
            ),
        ] {
            assert!(bounds.allow(&bound(&asked)).is_ok(), "{asked}");
        }
        for asked in [
            changed("models", json!(null)),
            changed("models", json!(["*"])),
            changed("providers", json!(null)),
            changed("expires_at", json!(101)),
            changed("expires_at", json!(null)),
            changed("rate", json!(null)),
            changed("rate", json!({"requests_per_second": 10, "burst_size": 21})),
            changed("limits", json!({"budget": {"usd": 5, "per": "day"}})),
            changed("limits", json!({"tokens_per_minute": 50})),
            changed(
                "limits",
                json!({"tokens_per_minute": 50, "budget": {"usd": 5, "per": "hour"}}),
            ),
        ] {
            assert!(bounds.allow(&bound(&asked)).is_err(), "{asked}");
        }
        assert!(Bounds::default().allow(&Bound::default()).is_ok(), "the admin key has no bounds");
    }
}
