//! What the configuration says of every user: quotas per group of models, and addresses.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::limits::Quota;
use crate::config::{Config, OnMaxIps, Period, glob_matches};

/// What holds for users that have nothing of their own.
#[derive(Debug, PartialEq, Eq)]
pub struct Rules {
    refresh: Period,
    groups: Vec<Group>,
    max_ips: u32,
    on_max_ips: OnMaxIps,
}

#[derive(Debug, PartialEq, Eq)]
struct Group {
    name: Arc<str>,
    models: Vec<String>,
    tokens: u64,
}

impl Rules {
    pub fn of(config: &Config) -> Self {
        let group = |group: &crate::config::QuotaGroup| Group {
            name: Arc::from(group.name.as_str()),
            models: group.models.clone(),
            tokens: group.tokens,
        };
        Self {
            refresh: config.quotas.refresh.clone(),
            groups: config.quotas.groups.iter().map(group).collect(),
            max_ips: config.users.max_ips,
            on_max_ips: config.users.on_max_ips,
        }
    }

    /// A user's quotas, one for each group, in the order of the configuration.
    pub fn quotas(&self, own: &BTreeMap<String, u64>, epoch: u32) -> Vec<Quota> {
        let quota = |group: &Group| Quota {
            group: Arc::clone(&group.name),
            tokens: own.get(&*group.name).copied().unwrap_or(group.tokens),
            refresh: self.refresh.clone(),
            epoch,
        };
        self.groups.iter().map(quota).collect()
    }

    /// The first group that has this model, as an index into a user's quotas.
    pub fn group_of(&self, model: &str) -> Option<u16> {
        let has = |group: &Group| group.models.iter().any(|glob| glob_matches(glob, model));
        u16::try_from(self.groups.iter().position(has)?).ok()
    }

    /// Addresses a user may call from, given its own number; 0 is any number.
    pub fn max_ips(&self, own: Option<u32>) -> u32 {
        own.unwrap_or(self.max_ips)
    }

    pub fn on_max_ips(&self, own: Option<OnMaxIps>) -> OnMaxIps {
        own.unwrap_or(self.on_max_ips)
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::of(&Config::default())
    }
}
