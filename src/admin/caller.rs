//! Who asks, and how much of what they have they may give on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::desk::Desk;
use super::records;
use super::refusal::{Answer, Refusal};
use crate::access::{Directory, KeyRecord, Principal, Role, Rules, UserRecord, globs_within};
use crate::config::{Allowance, Rank, RankGiven, RateLimit};

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Whose name the audit has: `admin`, or a user's id.
    pub by: String,
    /// The key and the user it is of; `None` is the admin key, which has no bounds.
    admin: Option<(String, String)>,
    bounded: bool,
}

/// What a caller may give on: what its key has, and what its user has. None: anything.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    of: Vec<Bound>,
    /// How it stands among others that wait.
    rank: Rank,
    /// What holds for users that have nothing of their own.
    rules: Arc<Rules>,
    /// Whom keys belong to.
    directory: Arc<Directory>,
}

/// What one record has, or asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bound {
    models: Option<Vec<String>>,
    providers: Option<Vec<String>>,
    /// Unix milliseconds.
    expires_at: Option<i64>,
    rate: Option<RateLimit>,
    /// `max_ips` is that which holds in the end.
    limits: Allowance,
    /// Tokens per group of models, those of the configuration included; no unlimited ones.
    quotas: BTreeMap<String, u64>,
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
    pub async fn bounds(&self, desk: &Desk) -> Answer<Bounds> {
        let Some((key, user)) = &self.admin else { return Ok(Bounds::default()) };
        let (store, gone) = (desk.store()?, Refusal::unknown_key);
        let key: KeyRecord = records::read(&store, key).await?.ok_or_else(gone)?.1;
        let user: UserRecord = records::read(&store, user).await?.ok_or_else(gone)?.1;
        let rules = Arc::clone(&desk.snapshot.load().rules);
        let of = vec![Bound::of_key(&key), Bound::of_user(&user, &rules)];
        let rank = Rank::of(key.rank(), user.rank());
        Ok(Bounds { of, rank, rules, directory: desk.registry.directory.load_full() })
    }
}

// === impl Bounds ===

impl Bounds {
    /// Refuses a user that could do more than there is to give. Errs on the side of refusing.
    pub fn allow_user(&self, user: &UserRecord) -> Answer<()> {
        let limited = |have: &Bound| {
            have.rate.is_some() || !have.limits.is_unlimited() || !have.quotas.is_empty()
        };
        if user.role == Role::Special && self.of.iter().any(limited) {
            let message = "Limits hold for you, and not for a `special` user.";
            return Err(Refusal::beyond("role", message));
        }
        self.allow_rank(Rank::of(RankGiven::default(), user.rank()))?;
        let asked = Bound::of_user(user, &self.rules);
        self.of.iter().try_for_each(|have| have.allow(&asked, ["max_ips", "quotas"]))
    }

    /// … and a key, which has the quotas and addresses of the user it belongs to.
    pub fn allow_key(&self, key: &KeyRecord) -> Answer<()> {
        if self.of.is_empty() {
            return Ok(());
        }
        let mut asked = Bound::of_key(key);
        let user = key.user.as_deref().and_then(|user| self.directory.user(user)?.state());
        let of_user = user.as_ref().map(|user| user.rank).unwrap_or_default();
        self.allow_rank(Rank::of(key.rank(), of_user))?;
        if let Some(user) = user {
            let of_user = self.rules.max_ips(user.max_ips);
            let most = [asked.limits.max_ips, of_user].into_iter().filter(|most| *most > 0).min();
            asked.limits.max_ips = most.unwrap_or(0);
            if !user.is_exempt() {
                asked.quotas = quotas(user.quotas(), &self.rules);
            }
        }
        self.of.iter().try_for_each(|have| have.allow(&asked, ["limits", "user"]))
    }

    /// The admin key has no bounds.
    fn allow_rank(&self, asked: Rank) -> Answer<()> {
        if self.of.is_empty() {
            return Ok(());
        }
        let more = [
            ("priority", asked.priority > self.rank.priority),
            ("weight", asked.weight > self.rank.weight),
        ];
        match more.iter().find(|(_, more)| *more) {
            Some((param, _)) => {
                let message = format!("`{param}` is more than you have yourself.");
                Err(Refusal::beyond(param, message))
            }
            None => Ok(()),
        }
    }
}

// === impl Bound ===

impl Bound {
    fn of_key(key: &KeyRecord) -> Self {
        Self {
            models: key.allowed_models.clone(),
            providers: key.allowed_providers.clone(),
            expires_at: key.expires_at,
            rate: key.rate_limit,
            limits: key.limits.clone(),
            quotas: BTreeMap::new(),
        }
    }

    fn of_user(user: &UserRecord, rules: &Rules) -> Self {
        Self {
            models: user.allowed_models.clone(),
            providers: user.allowed_providers.clone(),
            expires_at: user.expires_at,
            rate: user.rate_limit,
            limits: Allowance { max_ips: rules.max_ips(user.max_ips), ..user.limits.clone() },
            quotas: quotas(&user.quotas, rules),
        }
    }

    /// `words`: what decides on the addresses and on the quotas of what is asked for.
    fn allow(&self, asked: &Self, words: [&str; 2]) -> Answer<()> {
        let beyond = |param: &str| {
            Err(Refusal::beyond(param, format!("`{param}` is more than you have yourself.")))
        };
        let [addresses, tokens] = words;
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
        if !within(asked.limits.max_ips.into(), self.limits.max_ips.into()) {
            return beyond(addresses);
        }
        let is_more = |(group, have): (&String, &u64)| {
            !within(asked.quotas.get(group).copied().unwrap_or(0), *have)
        };
        if self.quotas.iter().any(is_more) {
            return beyond(tokens);
        }
        Ok(())
    }
}

/// Tokens per group of models that hold for a user with these of its own. Own ones of groups that
/// the configuration does not have may come to hold.
fn quotas(own: &BTreeMap<String, u64>, rules: &Rules) -> BTreeMap<String, u64> {
    let mut quotas = own.clone();
    quotas.extend(rules.quotas(own, 0).iter().map(|it| (it.group.to_string(), it.tokens)));
    quotas.retain(|_, tokens| *tokens > 0);
    quotas
}

/// `None` is without end.
fn at_most<T: PartialOrd>(asked: Option<T>, have: Option<T>) -> bool {
    match (asked, have) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(asked), Some(have)) => asked <= have,
    }
}

/// 0 is unlimited.
fn within(asked: u64, have: u64) -> bool {
    let some = |limit: u64| (limit > 0).then_some(limit);
    at_most(some(asked), some(have))
}

/// `max_ips` apart.
fn limits_within(asked: &Allowance, have: &Allowance) -> bool {
    let budget = match (&asked.budget, &have.budget) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(asked), Some(have)) => asked.period == have.period && asked.nanos <= have.nanos,
    };
    budget
        && within(asked.requests_per_minute, have.requests_per_minute)
        && within(asked.tokens_per_minute, have.tokens_per_minute)
        && within(asked.max_concurrent.into(), have.max_concurrent.into())
        && within(asked.max_output_tokens, have.max_output_tokens)
        && within(asked.max_prompt_tokens, have.max_prompt_tokens)
        && within(asked.max_images.into(), have.max_images.into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::{Source, load};
    use crate::store::{Changed, Kind, Record};

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
        let allow = |asked: &Value| {
            let have = [Bound::default(), bound(&have)];
            have.iter().try_for_each(|have| have.allow(&bound(asked), ["limits", "user"]))
        };
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
            assert!(allow(&asked).is_ok(), "{asked}");
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
            assert!(allow(&asked).is_err(), "{asked}");
        }
    }

    fn user(value: &Value) -> UserRecord {
        let mut user = json!({ "id": "u", "name": "u" });
        user.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        serde_json::from_value(user).unwrap()
    }

    fn key(value: &Value) -> KeyRecord {
        let mut key = json!({ "id": "k", "name": "k", "hint": "", "digest": "00" });
        key.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        serde_json::from_value(key).unwrap()
    }

    /// Everybody has 100 tokens of `large` and any number of `small`, and may call from 5 addresses.
    fn rules() -> Arc<Rules> {
        let text = "
providers: [{ name: p, kind: mock }]
models: [{ name: m, targets: [{ provider: p }] }]
users: { max_ips: 5 }
quotas:
  refresh: monthly
  groups: [{ name: large, models: [l], tokens: 100 }, { name: small, models: [s], tokens: 0 }]
";
        let source = Source { text: text.to_owned(), ..Source::default() };
        Arc::new(Rules::of(&load(&source).unwrap().0))
    }

    fn of(have: &Value, users: &[(&str, Value)]) -> Bounds {
        let rules = rules();
        let record = |(id, body): &(&str, Value)| {
            let body = serde_json::to_string(&user(body)).unwrap();
            let id = (*id).to_owned();
            let record = Record { id: id.clone(), version: 1, handle: None, body, updated_at: 0 };
            (Kind::Users, id, Some(record))
        };
        let changed = Changed { revision: 1, records: users.iter().map(record).collect() };
        let directory = Arc::new(Directory::empty().apply(&changed, &rules));
        let of = vec![Bound::of_key(&key(&json!({}))), Bound::of_user(&user(have), &rules)];
        let rank = Rank::of(RankGiven::default(), user(have).rank());
        Bounds { of, rank, rules, directory }
    }

    #[test]
    fn quotas_and_addresses_of_a_user_are_within_those_of_its_maker() {
        let plain = of(&json!({}), &[]);
        let small = of(&json!({"quotas": {"large": 10, "small": 7}, "max_ips": 2}), &[]);
        let wide = of(&json!({"quotas": {"large": 0}, "max_ips": 0}), &[]);
        for (asked, by_plain, by_small) in [
            // What is not said is what the configuration gives everybody.
            (json!({}), true, false),
            (json!({"quotas": {"large": 10, "small": 7}, "max_ips": 2}), true, true),
            (json!({"quotas": {"large": 10, "small": 7}}), true, false),
            (json!({"quotas": {"large": 10}, "max_ips": 2}), true, false),
            (json!({"quotas": {"large": 11, "small": 7}, "max_ips": 2}), true, false),
            (json!({"quotas": {"large": 101}}), false, false),
            (json!({"quotas": {"large": 0}}), false, false),
            (json!({"max_ips": 6}), false, false),
            (json!({"max_ips": 0}), false, false),
            (json!({"role": "special"}), false, false),
        ] {
            assert_eq!(plain.allow_user(&user(&asked)).is_ok(), by_plain, "{asked}");
            assert_eq!(small.allow_user(&user(&asked)).is_ok(), by_small, "{asked}");
            assert!(Bounds::default().allow_user(&user(&asked)).is_ok(), "the admin key: {asked}");
        }
        assert!(wide.allow_user(&user(&json!({"max_ips": 0, "quotas": {"large": 0}}))).is_ok());
    }

    #[test]
    fn a_key_has_the_quotas_and_addresses_of_its_user() {
        let users = [
            ("same", json!({})),
            ("more", json!({"quotas": {"large": 101}})),
            ("special", json!({"role": "special"})),
            ("roaming", json!({"max_ips": 9})),
        ];
        let bounds = of(&json!({}), &users);
        for (asked, allowed) in [
            (json!({"user": "same"}), true),
            (json!({"user": "same", "limits": {"max_ips": 1}}), true),
            (json!({"user": "roaming", "limits": {"max_ips": 5}}), true),
            (json!({"user": "roaming"}), false),
            (json!({"user": "more"}), false),
            (json!({"user": "special"}), false),
            // Nobody's has no quotas at all.
            (json!({"limits": {"max_ips": 1}}), false),
        ] {
            assert_eq!(bounds.allow_key(&key(&asked)).is_ok(), allowed, "{asked}");
        }
        assert!(Bounds::default().allow_key(&key(&json!({}))).is_ok(), "the admin key");
    }

    #[test]
    fn nobody_gives_a_rank_above_its_own() {
        let users = [
            ("same", json!({})),
            ("high", json!({"priority": "high"})),
            ("heavy", json!({"weight": 9})),
        ];
        let plain = of(&json!({}), &users);
        let high = of(&json!({"priority": "high", "weight": 3}), &users);
        for (asked, by_plain, by_high) in [
            (json!({"user": "same"}), true, true),
            (json!({"user": "same", "priority": "low"}), true, true),
            (json!({"user": "same", "priority": "high"}), false, true),
            (json!({"user": "same", "priority": 11}), false, false),
            (json!({"user": "same", "weight": 3}), false, true),
            (json!({"user": "same", "weight": 4}), false, false),
            (json!({"user": "high"}), false, true),
            (json!({"user": "heavy"}), false, false),
        ] {
            let rank = |bounds: &Bounds| bounds.allow_key(&key(&asked)).is_ok();
            assert_eq!((rank(&plain), rank(&high)), (by_plain, by_high), "{asked}");
        }
    }
}
