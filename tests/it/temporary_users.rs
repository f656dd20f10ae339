//! Users that were made for a time are disabled when it is over, and removed with their keys later.

use forebay::store::Kind;
use serde_json::json;

use crate::support::eventually;
use crate::support::gateway::{self, FRONT};
use crate::support::upstream;
use crate::support::vault::{STORE, Vault};

/// Unix milliseconds, long ago.
const LONG_AGO: i64 = 1_000_000_000_000;
/// … and far ahead.
const FAR_AHEAD: i64 = 4_000_000_000_000;

#[tokio::test]
async fn an_expired_user_is_disabled_and_then_removed_with_its_keys() {
    let upstream = upstream::chat("hello").await;
    let plan = gateway::with(&format!("{FRONT}{STORE}")).up("up", &upstream);
    let vault = Vault::at(plan.dir()).await;
    for (id, role, expires_at, purge_at) in [
        ("over", "temporary", LONG_AGO, FAR_AHEAD),
        ("gone", "temporary", LONG_AGO, LONG_AGO),
        ("running", "temporary", FAR_AHEAD, FAR_AHEAD),
        ("normal", "normal", LONG_AGO, LONG_AGO),
    ] {
        let times = json!({ "role": role, "expires_at": expires_at, "purge_at": purge_at });
        vault.user(id, times).await;
        vault.key(&format!("key_{id}"), json!({ "user": id, "temporary": true })).await;
    }
    let _gateway = plan.start().await;
    eventually("it is removed", async || {
        (vault.read(Kind::Users, "gone").await.is_none()).then_some(())
    })
    .await;
    assert!(vault.read(Kind::Keys, "key_gone").await.is_none());
    let over = eventually("it is disabled", async || {
        vault.read(Kind::Users, "over").await.filter(|user| user["enabled"] == false)
    });
    assert_eq!(over.await["disabled_reason"], "expired");
    for id in ["running", "normal"] {
        assert_ne!(vault.read(Kind::Users, id).await.unwrap()["enabled"], false, "{id}");
    }
    for key in ["key_over", "key_running", "key_normal"] {
        assert!(vault.read(Kind::Keys, key).await.is_some(), "{key}");
    }
}
