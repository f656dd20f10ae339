//! What a request leaves to be done with the store, in the background.

use super::key::KeyRecord;
use super::user::UserRecord;
use crate::store::{Expected, Kind, Note, Store, StoreError};

/// In whose name the gateway changes a record.
const GATEWAY: &str = "gateway";
/// How often a change is tried anew when somebody else was quicker.
const TRIES: u32 = 3;

/// Something to be done with the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// A key is misused.
    DisableKey { id: String, reason: String },
    /// A user misuses its keys.
    DisableUser { id: String, reason: String },
}

impl Errand {
    /// Does it. What is not there any more, or is disabled already, is left as it is.
    pub async fn run(&self, store: &Store) -> Result<(), StoreError> {
        let mut last = Ok(());
        for _ in 0..TRIES {
            last = match self {
                Self::DisableKey { id, reason } => disable(store, Kind::Keys, id, reason).await,
                Self::DisableUser { id, reason } => disable(store, Kind::Users, id, reason).await,
            };
            if !matches!(last, Err(StoreError::Conflict { .. })) {
                break;
            }
        }
        last
    }
}

async fn disable(store: &Store, kind: Kind, id: &str, reason: &str) -> Result<(), StoreError> {
    let Some(record) = store.get(kind, id).await? else { return Ok(()) };
    let Some((body, before, after)) = disabled(kind, &record.body, reason) else { return Ok(()) };
    let note = Note { by: GATEWAY, before: Some(&before), after: Some(&after) };
    let expected = Expected::Version(record.version);
    store.put(kind, id, record.handle.as_deref(), &body, expected, note).await.map(drop)
}

/// A record's body, disabled; and what it was and is, without secrets.
fn disabled(kind: Kind, body: &str, reason: &str) -> Option<(String, String, String)> {
    let reason = Some(reason.to_owned());
    if kind == Kind::Keys {
        let before: KeyRecord = serde_json::from_str(body).ok()?;
        let after = KeyRecord { enabled: false, disabled_reason: reason, ..before.clone() };
        let text = serde_json::to_string(&after).ok()?;
        return before.enabled.then(|| (text, before.shown(), after.shown()));
    }
    let before: UserRecord = serde_json::from_str(body).ok()?;
    let after = UserRecord { enabled: false, disabled_reason: reason, ..before.clone() };
    let text = serde_json::to_string(&after).ok()?;
    before.enabled.then(|| (text.clone(), body.to_owned(), text))
}
