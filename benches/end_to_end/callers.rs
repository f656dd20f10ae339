//! A caller with limits, in a store: none of them is ever reached.

use forebay::config::Secret;
use forebay::store::{Expected, Kind, Note, Store};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::workload::KEY;

/// Writes the benchmark's key and its user to the store at this URL.
pub async fn write(url: &str) {
    let store = Store::open(&Secret::new(url)).await.expect("the store should open");
    let user = json!({ "id": "user_1", "name": "bench", "limits": {
        "requests_per_minute": 1_000_000_000_u64,
    } });
    let digest = hex::encode(Sha256::digest(KEY));
    let key = json!({
        "id": "key_1", "name": "bench", "hint": "…0000", "digest": digest, "user": "user_1",
        "limits": {
            "tokens_per_minute": 1_000_000_000_000_u64,
            "max_concurrent": 100_000,
            "budget": { "usd": "1000000", "per": "month" },
        },
    });
    put(&store, Kind::Users, "user_1", "bench", &user.to_string()).await;
    put(&store, Kind::Keys, "key_1", &digest, &key.to_string()).await;
}

async fn put(store: &Store, kind: Kind, id: &str, handle: &str, body: &str) {
    let note = Note { by: "bench", before: None, after: None };
    let written = store.put(kind, id, Some(handle), body, Expected::Absent, note).await;
    written.expect("a new store should take a record");
}
