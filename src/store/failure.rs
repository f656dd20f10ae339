//! What can go wrong with a store, sorted by what may be done about it.

use std::time::Duration;

/// Why the store did not do it. No text of these holds a URL or a password.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or did not answer in time. It may be tried again. Whether a change was
    /// made that was under way is not known.
    #[error("the store is away: {0}")]
    Away(String),
    /// Somebody else has been changing it for too long. It can be read, nothing was changed, and it may
    /// be tried again.
    #[error("the store is busy: {0}")]
    Busy(String),
    /// The record is not at the version that was expected; `None`: there is none.
    #[error("the record has changed meanwhile")]
    Conflict { current: Option<i64> },
    /// What the change was checked against has changed meanwhile; nothing was changed.
    #[error("other records have changed meanwhile")]
    Overtaken,
    /// Another record of the kind has this handle.
    #[error("another record has this name")]
    Taken,
    /// A newer Forebay has been here: what it wrote is not to be touched.
    #[error("the store has schema {found}, this version knows schemas up to {known}")]
    NewerSchema { found: i64, known: i64 },
    /// It is no database, not one of ours, or holds what cannot be read. Trying again does not help.
    #[error("the store cannot be used: {0}")]
    Corrupt(String),
    /// The URL says nothing that could be opened.
    #[error("the store's URL {0}")]
    Url(&'static str),
}

// === impl StoreError ===

impl StoreError {
    /// Nothing came back for so long.
    pub(super) fn late(after: Duration) -> Self {
        Self::Away(format!("no answer within {} s", after.as_secs()))
    }

    /// May the same be tried again, unchanged?
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Busy(_))
    }

    /// Whether nothing can be heard of it.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away(_))
    }
}

/// `SQLSTATE` classes that pass: connection, roles and passwords, a database that is not there,
/// rolled back for another's sake, out of resources, stopped by an operator, not the primary.
const PASSING: &[&str] = &["08", "28", "3D", "40", "53", "55", "57", "25", "58"];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match error {
            E::Database(error) => of_database(error.as_ref()),
            E::Io(error) => Self::Away(error.kind().to_string()),
            E::Tls(_) => Self::Away("TLS could not be agreed on".into()),
            E::PoolTimedOut => Self::Away("no connection in time".into()),
            E::PoolClosed | E::WorkerCrashed => Self::Away("the connection has ended".into()),
            E::Protocol(_) => Self::Away("the answer could not be understood".into()),
            E::Configuration(_) => Self::Url("could not be read"),
            E::ColumnDecode { index, .. } => {
                Self::Corrupt(format!("column {index} is of another type"))
            }
            E::BeginFailed => Self::Away("no transaction could be begun".into()),
            _ => Self::Corrupt("an unexpected answer".into()),
        }
    }
}

fn of_database(error: &dyn sqlx::error::DatabaseError) -> StoreError {
    let code = error.code().unwrap_or_default();
    if error.is_unique_violation() {
        return StoreError::Taken;
    }
    let text = || format!("{} ({code})", error.message());
    // PostgreSQL's are five letters, SQLite's are numbers: the low byte is the kind.
    if code.len() == 5 {
        return match code.get(..2) {
            Some(class) if PASSING.contains(&class) => StoreError::Away(text()),
            _ => StoreError::Corrupt(text()),
        };
    }
    match code.parse::<u32>().map(|code| code & 0xff) {
        // BUSY, LOCKED
        Ok(5 | 6) => StoreError::Busy(text()),
        // PERM, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL
        Ok(3 | 7..=10 | 13..=15) => StoreError::Away(text()),
        _ => StoreError::Corrupt(text()),
    }
}
