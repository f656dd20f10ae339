//! The database and Redis are away for a while under load: cut off first, then silent. A minute in all,
//! or as long as `FOREBAY_OUTAGE_SECONDS` says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use forebay::config::Secret;
use forebay::store::Store;
use serde_json::json;
use tokio::task::JoinSet;

use crate::sheet::{Sheet, count, milliseconds};
use crate::support::client::{CHAT, Client};
use crate::support::databases::{Database, Redis};
use crate::support::gateway;
use crate::support::relay::Relay;
use crate::support::until;
use crate::support::upstream;
use crate::support::vault::Vault;

const OUTAGE: &str = "FOREBAY_OUTAGE_SECONDS";
const CLIENTS: usize = 8;
/// Nanodollars of one answer: 7 and 3 tokens at a dollar per million.
const COST: u64 = 10_000;

const NODE: &str = r#"
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: p }] }
prices: [{ model: "*", input: 1, output: 1 }]
quotas: { refresh: monthly, groups: [{ name: all, models: ["*"], tokens: 100000000000 }] }
store: { url: "@store" }
redis: { url: "@redis" }
"#;

/// What one client saw.
#[derive(Default)]
struct Seen {
    answered: u64,
    failed: u64,
    slowest: Duration,
}

/// Asks until told to stop.
async fn ask(client: Client, stop: Arc<AtomicBool>) -> Seen {
    let body =
        json!({"model": "m", "max_tokens": 3, "messages": [{"role": "user", "content": "hi"}]});
    let request = client.post(CHAT, body.to_string());
    let mut seen = Seen::default();
    while !stop.load(Relaxed) {
        let begun = Instant::now();
        match request.try_send().await {
            Some(reply) if reply.status == 200 && reply.whole => seen.answered += 1,
            _ => seen.failed += 1,
        }
        seen.slowest = seen.slowest.max(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_keys_serve_while_everything_is_away() {
    let mut sheet = Sheet::of("PostgreSQL and Redis away");
    let seconds = std::env::var(OUTAGE).ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let part = Duration::from_secs(seconds) / 2;
    let (upstream, database, mut redis) =
        (upstream::chat("hello").await, Database::create(), Redis::start().await);
    let mut relay = Relay::to(&database.host()).await;
    let vault = Vault { store: Store::open(&Secret::new(database.url())).await.unwrap() };
    vault.user("user_1", json!({})).await;
    let limits = json!({
        "requests_per_minute": 10_000_000, "tokens_per_minute": 1_000_000_000,
        "budget": { "usd": "100000", "per": "total" },
    });
    let key = vault.key("key_1", json!({ "user": "user_1", "limits": limits })).await;
    let plan = gateway::with(NODE).up("up", &upstream).place("redis", &redis.url());
    let plan = plan.place("store", &database.url_by(&relay.address.to_string()));
    let gateway = plan.env("RUST_LOG", "warn,forebay=info,access=off").start().await;

    let (stop, mut clients) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    for _ in 0..CLIENTS {
        clients.spawn(ask(gateway.client().key(&key), Arc::clone(&stop)));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    relay.cut().await;
    redis.kill();
    tokio::time::sleep(part).await;
    relay.mend().await;
    redis.revive().await;
    until("both are back", || {
        let log = gateway.log();
        log.contains("the store is back") && log.matches("shared through Redis").count() == 2
    })
    .await;
    relay.block(true);
    redis.signal("STOP");
    tokio::time::sleep(part).await;
    relay.block(false);
    redis.signal("CONT");
    tokio::time::sleep(Duration::from_secs(3)).await;
    stop.store(true, Relaxed);

    let mut all = Seen::default();
    while let Some(seen) = clients.join_next().await {
        let seen = seen.unwrap();
        all.answered += seen.answered;
        all.failed += seen.failed;
        all.slowest = all.slowest.max(seen.slowest);
    }
    eprintln!("{} answered, away for {seconds} s", all.answered);
    sheet.at_least("answered", 100.0, count(all.answered));
    sheet.none("failed requests of known keys", all.failed);
    sheet.measured_at_most("milliseconds of the slowest", 1000.0, milliseconds(all.slowest));

    let spent = async |name: &str| {
        let counters = vault.store.counters().await.unwrap();
        let some = counters.iter().filter(|(counter, ..)| counter.contains(name));
        some.map(|(_, spent, _)| *spent).sum::<u64>()
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while vault.used().await.0 < all.answered && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (requests, tokens, cost) = vault.used().await;
    sheet.none("requests that usage does not have, or has twice", requests.abs_diff(all.answered));
    sheet.none("tokens of usage that are not as answered", tokens.abs_diff(10 * all.answered));
    sheet.none("nanodollars of usage", cost.abs_diff(COST * all.answered));
    let budget = spent("k:key_1:budget:").await;
    sheet.none("nanodollars of the budget", budget.abs_diff(COST * all.answered));
    let quota = spent("u:user_1:quota:all:").await;
    sheet.none("tokens of the quota", quota.abs_diff(10 * all.answered));
    vault.store.close().await;
    drop(gateway);
    sheet.hold();
}
