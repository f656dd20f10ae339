//! Where records and counts are kept: SQLite or PostgreSQL, and Redis for what several nodes share.
//!
//! A record is a text of JSON under a kind and an id; what it means is not known here. Each change
//! of records is one step of one revision, so that whoever knows a revision can ask what came after.

mod address;
mod connect;
mod counts;
mod failure;
mod meta;
mod migrate;
mod objects;
mod records;
pub mod redis;
mod retention;
mod rows;
mod usage;
mod watch;

pub use connect::Store;
pub(crate) use connect::{settle, within};
pub use counts::{Batch, Spent, Total};
pub use failure::StoreError;
pub(crate) use migrate::Schema;
pub use objects::ObjectRow;
pub use records::Put;
pub(crate) use rows::places;
pub use usage::{Group, UsageDelta, UsageQuery, UsageRow};
pub use watch::Watch;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Keys,
    Users,
    Providers,
    Models,
}

// === impl Kind ===

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Keys, Self::Users, Self::Providers, Self::Models];

    /// The word it is stored under.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Users => "users",
            Self::Providers => "providers",
            Self::Models => "models",
        }
    }

    /// The kind of this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One record as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: String,
    /// Grows with each change of this record, and never comes back, not even when it is deleted and
    /// made anew. Steps are not of one.
    pub version: i64,
    /// Unique within the kind: a key's digest in hex, a user's name.
    pub handle: Option<String>,
    /// JSON text.
    pub body: String,
    /// Unix milliseconds.
    pub updated_at: i64,
}

/// What whoever changes a record believes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is not there yet.
    Absent,
    /// It is at this version.
    Version(i64),
    /// It does not matter.
    Any,
}

/// What a change was checked against besides its own record: no record of these kinds may have
/// changed after the revision.
#[derive(Clone, Copy, Debug)]
pub struct Still<'a> {
    pub kinds: &'a [Kind],
    pub since: i64,
}

// === impl Still ===

impl Still<'_> {
    /// It does not matter what else has changed.
    pub const ANY: Still<'static> = Still { kinds: &[], since: 0 };
}

/// Who changes what, for the audit. JSON without secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Note<'a> {
    pub by: &'a str,
    pub before: Option<&'a str>,
    pub after: Option<&'a str>,
}

/// One entry of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub revision: i64,
    /// Unix milliseconds.
    pub at: i64,
    pub by: String,
    pub kind: String,
    pub id: String,
    /// `create`, `update` or `delete`.
    pub action: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

/// What has changed since a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Where the store is now. Lower than what was asked about: the store is another one (it was
    /// restored from a copy), and everything is to be loaded anew.
    pub revision: i64,
    /// The records as they stand now, each once; `None`: it is gone.
    pub records: Vec<(Kind, String, Option<Record>)>,
}
