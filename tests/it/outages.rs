//! The database goes away and comes back; those who are known notice nothing.

use std::time::{Duration, Instant};

use forebay::config::Secret;
use forebay::store::Store;
use serde_json::json;
use sqlx::{AnyConnection, Connection};

use crate::support::databases::Database;
use crate::support::gateway::{self, ADMIN_KEY, FRONT, Gateway, Plan};
use crate::support::relay::Relay;
use crate::support::upstream::{self, Upstream};
use crate::support::vault::{COST, PRICED, STORE, Vault, known};
use crate::support::{eventually, until};

const FILE_KEY: &str = "sk-of-the-tests-0123456789";
const UNKNOWN: &str = "sk-fb-nobody-has-ever-made-this-one";

const NODE: &str = r#"
keys:
  - { name: ci, key: sk-of-the-tests-0123456789, limits: { budget: { usd: 100, per: total } } }
store: { url: "@store" }
"#;

fn node(upstream: &Upstream, url: &str) -> Plan {
    let yaml = format!("{FRONT}{PRICED}{NODE}");
    gateway::with(&yaml).up("up", upstream).place("store", url)
}

async fn vault(database: &Database) -> Vault {
    Vault { store: Store::open(&Secret::new(database.url())).await.unwrap() }
}

/// Asks `count` times; every one must be answered.
async fn answered(gateway: &Gateway, key: &str, count: u64) -> u64 {
    let client = gateway.client().key(key);
    for _ in 0..count {
        assert_eq!(client.chat("hi").await.said(), "hello");
    }
    count
}

/// Waits until the store has counted so many answers, in the usage and on the budgets.
async fn counted(vault: &Vault, answers: u64) {
    let found = eventually("all is counted", async || {
        let counters = vault.store.counters().await.unwrap();
        let spent: u64 =
            counters.iter().filter(|it| it.0.contains(":budget:")).map(|it| it.1).sum();
        let (requests, _, cost) = vault.used().await;
        (requests >= answers && spent >= answers * COST).then_some((requests, spent, cost))
    });
    assert_eq!(found.await, (answers, answers * COST, answers * COST));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_keys_serve_without_the_database_and_nothing_is_lost() {
    let (upstream, database) = (upstream::chat("hello").await, Database::create());
    let mut relay = Relay::to(&database.host()).await;
    let vault = vault(&database).await;
    let budget = json!({ "limits": { "budget": { "usd": "100", "per": "total" } } });
    let key = vault.key("key_1", budget).await;
    let gateway = node(&upstream, &database.url_by(&relay.address.to_string())).start().await;
    let mut answers = answered(&gateway, FILE_KEY, 5).await + answered(&gateway, &key, 5).await;
    gateway.client().key(UNKNOWN).chat("hi").await.refused(401, "invalid_api_key");

    relay.cut().await;
    for _ in 0..5 {
        answers += answered(&gateway, FILE_KEY, 3).await + answered(&gateway, &key, 3).await;
    }
    until("it is noticed", || gateway.log().contains("serving from memory")).await;
    let reply = gateway.client().key(UNKNOWN).chat("hi").await;
    reply.refused(503, "overloaded");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    // Made while the gateway cannot see it.
    let late = vault.key("key_2", json!({})).await;
    answers += answered(&gateway, &key, 5).await;

    relay.mend().await;
    known(&gateway, &late).await;
    until("it is back", || gateway.log().contains("the store is back")).await;
    gateway.client().key(UNKNOWN).chat("hi").await.refused(401, "invalid_api_key");
    answers += answered(&gateway, &key, 5).await;
    counted(&vault, answers).await;
    vault.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_holds_nobody_up_and_counts_once() {
    let (upstream, database) = (upstream::chat("hello").await, Database::create());
    let relay = Relay::to(&database.host()).await;
    let vault = vault(&database).await;
    let gateway = node(&upstream, &database.url_by(&relay.address.to_string())).start().await;
    let mut answers = 0;
    // Whatever is under way when nothing is heard any more may have counted or not.
    for _ in 0..3 {
        answers += answered(&gateway, FILE_KEY, 10).await;
        relay.block(true);
        answers += answered(&gateway, FILE_KEY, 10).await;
        let away = gateway.log().matches("serving from memory").count();
        until("it is noticed", || gateway.log().matches("serving from memory").count() > away)
            .await;
        relay.block(false);
        let back = || gateway.log().matches("the store is back").count();
        until("it is back", || back() > away).await;
    }
    counted(&vault, answers).await;
    vault.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_database_at_the_start_the_keys_of_the_file_serve() {
    let (upstream, database) = (upstream::chat("hello").await, Database::create());
    let mut relay = Relay::to(&database.host()).await;
    let vault = vault(&database).await;
    let key = vault.key("key_1", json!({})).await;
    relay.cut().await;
    let gateway = node(&upstream, &database.url_by(&relay.address.to_string())).start().await;
    let answers = answered(&gateway, FILE_KEY, 5).await;
    gateway.client().key(&key).chat("hi").await.refused(503, "overloaded");
    relay.mend().await;
    known(&gateway, &key).await;
    let client = gateway.client().key(&key);
    assert_eq!(client.chat("hi").await.said(), "hello");
    let used = eventually("all is counted", async || {
        let (requests, ..) = vault.used().await;
        (requests > answers).then_some(requests)
    });
    assert_eq!(used.await, answers + 1);
    vault.store.close().await;
}

/// What was committed stays when the process is killed; what it had reserved does not stay for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_leaves_its_totals() {
    let (upstream, database) = (upstream::chat("hello").await, Database::create());
    let vault = vault(&database).await;
    let mut gateway = node(&upstream, &database.url()).start().await;
    let answers = answered(&gateway, FILE_KEY, 7).await;
    counted(&vault, answers).await;
    gateway.signal("KILL");
    gateway.ended().await;
    let gateway = node(&upstream, &database.url()).start().await;
    let client = gateway.client().key(FILE_KEY);
    let me = client.get("/v1/me").await.ok().json();
    let budget = crate::support::vault::limit(&me, "budget");
    assert!(budget.to_string().contains("0.00007"), "{budget}");
    let answers = answers + answered(&gateway, FILE_KEY, 3).await;
    counted(&vault, answers).await;
    vault.store.close().await;
}

/// Nobody waits long for a database that does not answer, not even who stops the gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_a_database_that_hangs() {
    let (upstream, database) = (upstream::chat("hello").await, Database::create());
    let relay = Relay::to(&database.host()).await;
    let mut gateway = node(&upstream, &database.url_by(&relay.address.to_string())).start().await;
    answered(&gateway, FILE_KEY, 3).await;
    relay.block(true);
    let told = Instant::now();
    gateway.signal("TERM");
    gateway.ended().await;
    assert!(told.elapsed() < Duration::from_secs(8), "{:?}", told.elapsed());
}

/// Somebody else writes to the file for long: what is read goes on, and what is owed waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_busy_is_not_away() {
    let upstream = upstream::chat("hello").await;
    let yaml = format!("{FRONT}{PRICED}{STORE}");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let vault = Vault::of(&gateway).await;
    let budget = json!({ "limits": { "budget": { "usd": "100", "per": "total" } } });
    let key = vault.key("key_1", budget).await;
    known(&gateway, &key).await;
    sqlx::any::install_default_drivers();
    let url = format!("sqlite:{}", gateway.dir().join("keys.db").display());
    let mut other = AnyConnection::connect(&url).await.unwrap();
    let writing = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    // It looks every second, and says every three that it lives.
    let until = Instant::now() + Duration::from_secs(7);
    let mut answers = 0;
    while Instant::now() < until {
        gateway.client().key(UNKNOWN).chat("hi").await.refused(401, "invalid_api_key");
        answers += answered(&gateway, &key, 1).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let operator = gateway.operator().key(ADMIN_KEY);
    let refused = operator.post("/admin/v1/keys", "{\"id\": \"late\"}").send().await;
    refused.refused(503, "store_busy");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert!(!gateway.log().contains("serving from memory"), "{}", gateway.log());
    writing.rollback().await.unwrap();
    counted(&vault, answers).await;
}
