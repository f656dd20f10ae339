//! The store of a gateway, written to as another process would.

use std::path::Path;

use forebay::access::key;
use forebay::config::Secret;
use forebay::store::{Expected, Group, Kind, Note, Store, UsageQuery};
use serde_json::{Value, json};

use super::eventually;
use super::gateway::Gateway;

/// A gateway's store, in a file of its own.
pub const STORE: &str = "store: { url: \"sqlite:@dir/keys.db\" }\n";

/// A dollar per million tokens either way, whatever the model.
pub const PRICED: &str = "prices: [{ model: \"*\", input: 1, output: 1 }]\n";
/// Nanodollars of an upstream's usual answer at that price: of 7 and 3 tokens.
pub const COST: u64 = 10_000;

/// The file of [`STORE`], opened beside the gateway.
pub struct Vault {
    pub store: Store,
}

impl Vault {
    pub async fn of(gateway: &Gateway) -> Self {
        Self::at(gateway.dir()).await
    }

    pub async fn at(folder: &Path) -> Self {
        let url = format!("sqlite:{}", folder.join("keys.db").display());
        Self { store: Store::open(&Secret::new(url)).await.unwrap() }
    }

    /// Makes a key with these members in its record; the key itself.
    pub async fn key(&self, id: &str, members: Value) -> String {
        let made = key::generate();
        let mut body = json!({
            "id": id, "name": id, "hint": made.hint, "digest": hex::encode(made.digest),
        });
        merge(&mut body, members);
        self.put(Kind::Keys, id, &hex::encode(made.digest), &body).await;
        made.secret.expose().to_owned()
    }

    pub async fn user(&self, id: &str, members: Value) {
        let mut body = json!({ "id": id, "name": id });
        merge(&mut body, members);
        self.put(Kind::Users, id, id, &body).await;
    }

    /// Changes members of a record.
    pub async fn change(&self, kind: Kind, id: &str, members: Value) {
        let record = self.store.get(kind, id).await.unwrap().unwrap();
        let mut body = serde_json::from_str(&record.body).unwrap();
        merge(&mut body, members);
        self.put(kind, id, record.handle.as_deref().unwrap(), &body).await;
    }

    pub async fn read(&self, kind: Kind, id: &str) -> Option<Value> {
        let record = self.store.get(kind, id).await.unwrap()?;
        Some(serde_json::from_str(&record.body).unwrap())
    }

    pub async fn remove(&self, kind: Kind, id: &str) {
        let note = Note { by: "test", ..Note::default() };
        assert!(self.store.delete(kind, id, Expected::Any, note).await.unwrap());
    }

    /// Requests, tokens and nanodollars in the rows of usage.
    pub async fn used(&self) -> (u64, u64, u64) {
        let group_by = vec![Group::Key];
        let query = UsageQuery { to: i64::MAX, limit: 10_000, group_by, ..UsageQuery::default() };
        let rows = self.store.usage(&query).await.unwrap();
        rows.iter().fold((0, 0, 0), |(requests, tokens, cost), row| {
            (requests + row.requests, tokens + row.prompt + row.completion, cost + row.cost_nanos)
        })
    }

    async fn put(&self, kind: Kind, id: &str, handle: &str, body: &Value) {
        let note = Note { by: "test", ..Note::default() };
        let body = body.to_string();
        self.store.put(kind, id, Some(handle), &body, Expected::Any, note).await.unwrap();
    }
}

fn merge(body: &mut Value, members: Value) {
    let Value::Object(members) = members else { panic!("members: {members}") };
    body.as_object_mut().unwrap().extend(members);
}

/// Waits until a key is known; what `GET /v1/me` says to it.
pub async fn known(gateway: &Gateway, key: &str) -> Value {
    let client = gateway.client().key(key);
    eventually("the key is known", async || {
        let reply = client.get("/v1/me").await;
        (reply.status == 200).then(|| reply.json())
    })
    .await
}

/// Waits until `GET /v1/me` satisfies.
pub async fn me(gateway: &Gateway, key: &str, mut is_so: impl FnMut(&Value) -> bool) -> Value {
    let client = gateway.client().key(key);
    eventually("/v1/me says so", async || {
        let me = client.get("/v1/me").await.ok().json();
        is_so(&me).then_some(me)
    })
    .await
}

/// A limit by its name, of `GET /v1/me`.
pub fn limit<'a>(me: &'a Value, name: &str) -> &'a Value {
    let mut limits = me["limits"].as_array().unwrap().iter();
    limits.find(|limit| limit["name"] == name).unwrap_or_else(|| panic!("{name}: {me}"))
}
