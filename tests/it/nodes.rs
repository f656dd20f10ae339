//! Several nodes, one Redis, one database: what they share, and what becomes of it when a part is away.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forebay::config::Secret;
use forebay::store::Store;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::certificate::Certificate;
use crate::support::client::{CHAT, Client};
use crate::support::databases::{Database, Redis};
use crate::support::gateway::{self, FRONT, Gateway};
use crate::support::upstream::{self, Upstream};
use crate::support::vault::{COST, PRICED};
use crate::support::{eventually, until};

const KEY: &str = "sk-of-the-tests-0123456789";

/// What a node has besides. `@redis` and `@store` are URLs, `@limits` what the key may.
const NODE: &str = r#"
keys:
  - { name: ci, key: sk-of-the-tests-0123456789, limits: @limits }
redis: { url: "@redis" }
store: { url: "@store" }
"#;

/// Nodes of a cluster, one process each.
async fn cluster(
    count: usize,
    upstream: &Upstream,
    redis: &Redis,
    store: &str,
    limits: &str,
) -> Vec<Gateway> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        let plan = gateway::with(&format!("{FRONT}{PRICED}{NODE}"))
            .up("up", upstream)
            .place("redis", &redis.url());
        nodes.push(plan.place("store", store).place("limits", limits).start().await);
    }
    let all = count.to_string();
    for node in &nodes {
        until("each node knows of all", || node.log().contains("shared through Redis")).await;
        eventually("Redis counts them", async || {
            (redis.ask(&["ZCARD", "forebay:nodes"]) == all).then_some(())
        })
        .await;
    }
    nodes
}

/// Statuses of the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answers {
    good: u64,
    limited: u64,
    other: u64,
}

impl std::iter::Sum for Answers {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            good: sum.good + one.good,
            limited: sum.limited + one.limited,
            other: sum.other + one.other,
        })
    }
}

async fn ask(client: &Client, answers: &mut Answers) {
    let body =
        json!({"model": "m", "max_tokens": 3, "messages": [{"role": "user", "content": "hi"}]});
    match client.post(CHAT, body.to_string()).send().await.status {
        200 => answers.good += 1,
        429 => answers.limited += 1,
        _ => answers.other += 1,
    }
}

/// Asks each node `count` times, by `workers` at once that take turns of `every`.
async fn offer(nodes: &[Gateway], workers: u64, count: u64, every: Duration) -> Answers {
    let mut at_work = JoinSet::new();
    for node in nodes {
        for _ in 0..workers {
            let client = node.client().key(KEY);
            at_work.spawn(async move {
                let (mut answers, mut turn) = (Answers::default(), tokio::time::interval(every));
                for _ in 0..count / workers {
                    turn.tick().await;
                    ask(&client, &mut answers).await;
                }
                answers
            });
        }
    }
    at_work.join_all().await.into_iter().sum()
}

/// Milliseconds since the epoch.
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

/// Waits until the clock is in the first seconds of a minute.
async fn beginning_of_a_minute() -> u128 {
    while now() % 60_000 > 15_000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    now() / 60_000
}

/// What is spent of counters of this kind, by the store.
async fn spent(store: &Store, kind: &str) -> u64 {
    let counters = store.counters().await.unwrap();
    counters.iter().filter(|(name, ..)| name.contains(kind)).map(|(_, spent, _)| spent).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_let_in_what_one_would() {
    let (upstream, redis) = (upstream::chat("hello").await, Redis::start().await);
    let store = "sqlite:@dir/node.db";
    let limits = "{ requests_per_minute: 1000 }";
    let nodes = cluster(3, &upstream, &redis, store, limits).await;
    // A clock in the last seconds of a minute would make two windows of one.
    loop {
        let minute = beginning_of_a_minute().await;
        let begun = Instant::now();
        let answers = offer(&nodes, 5, 1000, Duration::from_millis(100)).await;
        eprintln!("{answers:?} in {:?}", begun.elapsed());
        assert_eq!(answers.other, 0);
        if now() / 60_000 == minute {
            assert!((970..=1030).contains(&answers.good), "{answers:?}");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_over_three_nodes_is_not_overdrawn() {
    let (upstream, redis, database) =
        (upstream::chat("hello").await, Redis::start().await, Database::create());
    // For 100 answers.
    let limits = "{ budget: { usd: 0.001, per: total } }";
    let nodes = cluster(3, &upstream, &redis, &database.url(), limits).await;
    let answers = offer(&nodes, 4, 200, Duration::from_millis(20)).await;
    eprintln!("{answers:?}");
    assert_eq!(answers.other, 0);
    assert!(answers.limited > 0 && answers.good >= 90, "{answers:?}");
    // A credit of a tenth for all nodes together is the bound that is stated.
    assert!(answers.good <= 110, "{answers:?}");
    let store = Store::open(&Secret::new(database.url())).await.unwrap();
    eventually("all of it is in the store", async || {
        (spent(&store, ":budget:").await == answers.good * COST).then_some(())
    })
    .await;
    store.close().await;
    drop(nodes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_forgets_does_not_reset_a_budget() {
    let (upstream, redis, database) =
        (upstream::chat("hello").await, Redis::start().await, Database::create());
    let limits = "{ budget: { usd: 0.001, per: total } }";
    let nodes = cluster(2, &upstream, &redis, &database.url(), limits).await;
    let first = offer(&nodes, 1, 40, Duration::from_millis(10)).await;
    assert_eq!(first, Answers { good: 80, ..Answers::default() });
    assert_eq!(redis.ask(&["FLUSHALL"]), "OK");
    let second = offer(&nodes, 2, 100, Duration::from_millis(10)).await;
    eprintln!("{second:?}");
    assert!(second.limited > 0 && first.good + second.good <= 110, "{second:?}");
    drop(nodes);
}

/// How long each of `count` requests took; all must be answered.
async fn durations(node: &Gateway, count: usize) -> Vec<Duration> {
    let client = node.client().key(KEY);
    let mut durations = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        let mut answers = Answers::default();
        ask(&client, &mut answers).await;
        assert_eq!(answers.good, 1, "{answers:?}");
        durations.push(begun.elapsed());
    }
    durations.sort_unstable();
    durations
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_or_dies_is_not_waited_for() {
    let (upstream, mut redis) = (upstream::chat("hello").await, Redis::start().await);
    let store = "sqlite:@dir/node.db";
    let limits = "{ requests_per_minute: 100000, budget: { usd: 100, per: day } }";
    let nodes = cluster(1, &upstream, &redis, store, limits).await;
    let node = &nodes[0];
    let known = durations(node, 200).await;
    let away = || node.log().matches("until Redis is back").count();
    let back = || node.log().matches("shared through Redis").count();

    redis.signal("STOP");
    let hung = durations(node, 200).await;
    until("it is told", || away() == 1).await;
    redis.signal("CONT");
    until("it is back", || back() == 2).await;
    durations(node, 20).await;

    redis.kill();
    let dead = durations(node, 200).await;
    until("it is told", || away() == 2).await;
    redis.revive().await;
    until("it is back", || back() == 3).await;
    durations(node, 20).await;

    let at = |durations: &[Duration]| durations[durations.len() * 95 / 100];
    eprintln!("95 %: {:?} with Redis, {:?} hung, {:?} dead", at(&known), at(&hung), at(&dead));
    for without in [&hung, &dead] {
        assert!(at(without) <= at(&known) + Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_reached_over_tls() {
    let (upstream, redis) = (upstream::chat("hello").await, Redis::start().await);
    let plan = gateway::with(&format!("{FRONT}{PRICED}{NODE}")).up("up", &upstream);
    let front = Certificate::write(plan.dir()).front(redis.address()).await;
    let port = front.address.port();
    let url = format!("rediss://localhost:{port}/0?ca_file=@dir/tls.crt");
    let plan = plan.place("redis", &url).place("store", "sqlite:@dir/node.db");
    let node = plan.place("limits", "{ requests_per_minute: 1000 }").start().await;
    until("it is shared", || node.log().contains("shared through Redis")).await;
    durations(&node, 3).await;
    eventually("the counter is there", async || {
        redis.ask(&["KEYS", "forebay:count:k:file/ci:rpm:*"]).contains("rpm").then_some(())
    })
    .await;
}
