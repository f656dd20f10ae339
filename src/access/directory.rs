//! The keys and users of the store, in memory: what every request with a key looks into.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use super::key::{KeyPrivacy, KeyRecord};
use super::keyring::Digest;
use super::limits::{Subject, Terms, Who};
use super::principal::{Grants, Made, Owner, Principal, Why};
use super::rules::Rules;
use super::user::{User, UserRecord};
use crate::store::{Changed, Kind, Record};

/// Parts a table is divided into: what changes is copied part by part.
const PARTS: usize = 64;
/// Different terms and grants that are remembered.
const RECENT: usize = 16;

/// Every key and user of the store.
///
/// A directory does not change; [`Directory::apply`] makes another one, which shares with it all that is
/// the same. Users, and what is counted of them and of keys, are the same objects in both.
#[derive(Clone, Debug)]
pub struct Directory {
    /// Up to which change of the store it goes.
    revision: i64,
    keys: Vec<Arc<HashSet<ByDigest, BuildHasherDefault<Leading>>>>,
    ids: Vec<Arc<HashSet<ById>>>,
    users: Vec<Arc<HashMap<Arc<str>, Arc<User>>>>,
    /// Users without a record, kept while keys link to them.
    gone: Vec<Arc<str>>,
    count: usize,
    recent: Recent,
}

/// What keys were given of late: most are given the same, and share it.
#[derive(Clone, Debug, Default)]
struct Recent {
    terms: VecDeque<Arc<Terms>>,
    grants: VecDeque<Arc<Grants>>,
}

/// What became of a look for a key.
#[derive(Debug)]
pub enum Lookup {
    Known(Arc<Principal>),
    Refused(Why),
    Unknown,
    /// Not known here, and the store, which may know it, cannot be asked.
    Away,
}

/// A key, found by its id.
#[derive(Clone, Debug)]
struct ById(Arc<Principal>);

/// A key, found by its digest.
#[derive(Clone, Debug)]
struct ByDigest(Arc<Principal>);

/// A digest is as good as random: eight bytes of it are its hash.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leading(u64);

// === impl Directory ===

impl Directory {
    /// Nobody is known.
    pub fn empty() -> Self {
        Self {
            revision: 0,
            keys: (0..PARTS).map(|_| Arc::default()).collect(),
            ids: (0..PARTS).map(|_| Arc::default()).collect(),
            users: (0..PARTS).map(|_| Arc::default()).collect(),
            gone: Vec::new(),
            count: 0,
            recent: Recent::default(),
        }
    }

    /// Looks for a key, at `now` in Unix milliseconds.
    pub fn find(&self, digest: &Digest, now: i64) -> Lookup {
        let part = self.keys.get(digest.part(PARTS));
        let Some(ByDigest(principal)) = part.and_then(|part| part.get(digest)) else {
            return Lookup::Unknown;
        };
        match principal.refused(now) {
            Some(why) => Lookup::Refused(why),
            None => Lookup::Known(Arc::clone(principal)),
        }
    }

    pub fn user(&self, id: &str) -> Option<&Arc<User>> {
        self.users.get(part_of(id))?.get(id)
    }

    /// The key of this id.
    pub fn key(&self, id: &str) -> Option<&Arc<Principal>> {
        self.ids.get(part_of(id))?.get(id).map(|ById(principal)| principal)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Up to which change of the store it goes.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    pub fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.iter().flat_map(|part| part.values())
    }

    /// Another directory, with `changed` in force.
    #[must_use]
    pub fn apply(&self, changed: &Changed, rules: &Rules) -> Self {
        let mut next = self.clone();
        next.revision = changed.revision;
        next.forget_users();
        // Users first: a key's user may have come in the same change.
        for (_, id, record) in changed.records.iter().filter(|(kind, ..)| *kind == Kind::Users) {
            next.set_user(id, record.as_ref(), rules);
        }
        for (_, id, record) in changed.records.iter().filter(|(kind, ..)| *kind == Kind::Keys) {
            next.set_key(id, record.as_ref());
        }
        next
    }

    /// Puts rules that hold for every user into force.
    pub fn follow(&self, rules: &Rules) {
        self.users().for_each(|user| user.follow(rules));
    }

    fn set_user(&mut self, id: &str, record: Option<&Record>, rules: &Rules) {
        let read = record.and_then(|record| read::<UserRecord>("user", id, &record.body));
        if read.is_none() && self.user(id).is_none() {
            return;
        }
        let user = self.user_or_new(id);
        if read.is_none() {
            self.gone.push(Arc::clone(&user.id));
        }
        user.set(read.as_ref(), rules);
    }

    fn user_or_new(&mut self, id: &str) -> Arc<User> {
        if let Some(user) = self.user(id) {
            return Arc::clone(user);
        }
        let user = User::unknown(id);
        if let Some(part) = self.users.get_mut(part_of(id)) {
            Arc::make_mut(part).insert(Arc::clone(&user.id), Arc::clone(&user));
        }
        user
    }

    fn set_key(&mut self, id: &str, record: Option<&Record>) {
        let before = self.take_key(id);
        let record = record.and_then(|record| read::<KeyRecord>("key", id, &record.body));
        if let Some(record) = record {
            self.put_key(id, &record, before.as_deref());
        }
    }

    /// `before`: what was known of the key until now.
    fn put_key(&mut self, id: &str, record: &KeyRecord, before: Option<&Principal>) {
        let Some(digest) = record.digest() else {
            log::error!("the record of key {id} holds no digest: the key is not known");
            return;
        };
        let owner = match &record.user {
            Some(user) => Owner::User(self.user_or_new(user)),
            None => Owner::Nobody,
        };
        let terms = Terms {
            rate: record.rate_limit,
            allowance: record.limits.clone(),
            quotas: Vec::new(),
            exempt: false,
        };
        let terms = shared(&mut self.recent.terms, terms);
        let id = before.map_or_else(|| Arc::from(id), |before| Arc::clone(&before.id));
        let known = before.and_then(|before| before.subject.as_ref());
        let was_disabled = before.is_some_and(|before| before.disabled.is_some());
        if let Some(known) = known.filter(|_| was_disabled && record.enabled) {
            known.forget_addresses();
        }
        let grants =
            Grants::new(record.allowed_models.as_deref(), record.allowed_providers.as_deref())
                .within(record.limits.bounds());
        let disabled = || Box::from(record.disabled_reason.as_deref().unwrap_or_default());
        if let Some(known) = known {
            known.set_terms(Arc::clone(&terms));
        }
        let principal = Arc::new(Principal {
            subject: counted(Who::Key, Arc::clone(&id), &terms, known),
            id,
            digest: Digest::from(digest),
            name: Arc::from(record.name.as_str()),
            owner,
            grants: shared(&mut self.recent.grants, grants),
            disabled: (!record.enabled).then(disabled),
            expires_at: record.expires_at,
            max_ips: record.limits.max_ips,
            rank: record.rank(),
            made: Made::Store,
            strict: record.privacy == Some(KeyPrivacy::Strict),
        });
        if let Some(part) = self.keys.get_mut(principal.digest.part(PARTS)) {
            Arc::make_mut(part).replace(ByDigest(Arc::clone(&principal)));
        }
        if let Some(part) = self.ids.get_mut(part_of(&principal.id)) {
            Arc::make_mut(part).replace(ById(principal));
        }
        self.count += 1;
    }

    fn take_key(&mut self, id: &str) -> Option<Arc<Principal>> {
        let part = self.ids.get_mut(part_of(id)).filter(|part| part.contains(id))?;
        let ById(principal) = Arc::make_mut(part).take(id)?;
        if let Some(part) = self.keys.get_mut(principal.digest.part(PARTS)) {
            Arc::make_mut(part).remove(&principal.digest);
        }
        self.count -= 1;
        Some(principal)
    }

    /// Forgets users that are gone and that no key links to any more.
    fn forget_users(&mut self) {
        for id in std::mem::take(&mut self.gone) {
            let Some(user) = self.user(&id) else { continue };
            if user.exists() {
                continue;
            }
            // The table's own link is the last one.
            if Arc::strong_count(user) > 1 {
                self.gone.push(id);
            } else if let Some(part) = self.users.get_mut(part_of(&id)) {
                Arc::make_mut(part).remove(&id);
            }
        }
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self::empty()
    }
}

/// A directory that is being read from the store.
#[derive(Debug)]
pub struct Loading {
    rules: Arc<Rules>,
    before: Arc<Directory>,
    next: Directory,
    /// Users that are there.
    users: HashSet<Arc<str>>,
}

// === impl Loading ===

impl Loading {
    /// `before` is what was in force until now: what was counted of its keys and users stays.
    pub fn new(before: Arc<Directory>, rules: Arc<Rules>) -> Self {
        let next = Directory { users: before.users.clone(), ..Directory::empty() };
        Self { rules, before, next, users: HashSet::new() }
    }

    /// Takes a record in, keys and users in any order; the others are none of its business.
    pub fn add(&mut self, kind: Kind, record: &Record) {
        match kind {
            Kind::Users => {
                self.next.set_user(&record.id, Some(record), &self.rules);
                self.users.insert(Arc::from(record.id.as_str()));
            }
            Kind::Keys => {
                let id = record.id.as_str();
                let Some(read) = read::<KeyRecord>("key", id, &record.body) else { return };
                drop(self.next.take_key(id));
                self.next.put_key(id, &read, self.before.key(id).map(AsRef::as_ref));
            }
            Kind::Providers | Kind::Models => {}
        }
    }

    /// The directory, which goes up to `revision`. Users that were not among the records are gone.
    pub fn finish(mut self, revision: i64) -> Directory {
        let users = &self.users;
        let gone: Vec<Arc<User>> =
            self.before.users().filter(|user| !users.contains(&user.id)).cloned().collect();
        for user in gone {
            user.set(None, &self.rules);
            self.next.gone.push(Arc::clone(&user.id));
        }
        self.next.revision = revision;
        for part in &mut self.next.keys {
            Arc::make_mut(part).shrink_to_fit();
        }
        for part in &mut self.next.ids {
            Arc::make_mut(part).shrink_to_fit();
        }
        self.next
    }
}

/// What is counted under `terms`: `before` goes on, under its old terms until they are set. Where
/// nothing is limited nothing is counted.
pub fn counted(
    who: Who,
    id: Arc<str>,
    terms: &Arc<Terms>,
    before: Option<&Arc<Subject>>,
) -> Option<Arc<Subject>> {
    if let Some(before) = before {
        return Some(Arc::clone(before));
    }
    let limited = terms.rate.is_some() || !terms.allowance.is_unlimited();
    limited.then(|| Subject::new(who, id, Arc::clone(terms)))
}

/// `value`, or one that is like it and was given of late.
fn shared<T: PartialEq>(recent: &mut VecDeque<Arc<T>>, value: T) -> Arc<T> {
    if let Some(known) = recent.iter().find(|known| ***known == value) {
        return Arc::clone(known);
    }
    if recent.len() >= RECENT {
        recent.pop_front();
    }
    let value = Arc::new(value);
    recent.push_back(Arc::clone(&value));
    value
}

/// Reads a record; what cannot be read is told of and left out.
fn read<T: serde::de::DeserializeOwned>(what: &str, id: &str, body: &str) -> Option<T> {
    let read = serde_json::from_str(body);
    read.inspect_err(|error| log::error!("the record of {what} {id} cannot be read: {error}")).ok()
}

/// FNV-1a: ids are ours, and the tables inside have a hash of their own.
fn part_of(id: &str) -> usize {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
    usize::try_from(hash >> 32).unwrap_or(0) % PARTS
}

// === impl ById ===

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (*self.0.id).hash(state);
    }
}

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        &self.0.id
    }
}

// === impl ByDigest ===

impl PartialEq for ByDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Eq for ByDigest {}

impl Hash for ByDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.digest.hash(state);
    }
}

impl Borrow<Digest> for ByDigest {
    fn borrow(&self) -> &Digest {
        &self.0.digest
    }
}

// === impl Leading ===

impl Hasher for Leading {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
