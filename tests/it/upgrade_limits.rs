//! Limits across upgrades: what was counted by one process is counted on by the next, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::client::{CHAT, Client};
use crate::support::gateway::{self, Gateway, UPGRADABLE};
use crate::support::upstream;
use crate::support::vault::{COST, PRICED, STORE, Vault};
use crate::support::{eventually, until};

const UPGRADES: usize = 10;
const TOKENS: u64 = 10;

const LIMITED: &str = r#"
quotas: { refresh: monthly, groups: [{ name: all, models: ["*"], tokens: 100000000 }] }
keys:
  - { name: small, key: sk-of-the-small-0123456789, limits: { budget: { usd: 0.004, per: total } } }
"#;
/// Its budget is for so many answers.
const SMALL: &str = "sk-of-the-small-0123456789";
const SMALL_ANSWERS: u64 = 400;

/// Asks until told to stop, with no more than `pause` between; how often it was answered and how often
/// refused.
async fn ask(client: Client, pause: Duration, stop: Arc<AtomicBool>) -> (u64, u64) {
    let (mut good, mut limited) = (0, 0);
    let body =
        json!({"model": "m", "max_tokens": 3, "messages": [{"role": "user", "content": "hi"}]});
    let request = client.post(CHAT, body.to_string());
    while !stop.load(Relaxed) {
        let reply = request.send().await;
        match reply.status {
            200 => good += 1,
            429 => limited += 1,
            _ => panic!("{reply:?}"),
        }
        tokio::time::sleep(pause).await;
    }
    (good, limited)
}

async fn join(mut traffic: JoinSet<(u64, u64)>) -> (u64, u64) {
    let (mut good, mut limited) = (0, 0);
    while let Some(one) = traffic.join_next().await {
        let one = one.unwrap();
        (good, limited) = (good + one.0, limited + one.1);
    }
    (good, limited)
}

/// What the store says was spent of the counters with this in their name.
async fn spent(vault: &Vault, part: &str) -> u64 {
    let counters = vault.store.counters().await.unwrap();
    counters.iter().filter(|(name, ..)| name.contains(part)).map(|(_, spent, _)| spent).sum()
}

/// Minutes of the clock.
fn minute() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 60
}

async fn start() -> (Gateway, Vault, String, upstream::Upstream) {
    let upstream = upstream::chat("hello").await;
    let plan = gateway::with(&format!("{UPGRADABLE}{STORE}{PRICED}{LIMITED}")).up("up", &upstream);
    let vault = Vault::at(plan.dir()).await;
    vault.user("user_1", json!({})).await;
    let limits = json!({
        "requests_per_minute": 1_000_000, "tokens_per_minute": 1_000_000_000,
        "budget": { "usd": "1000", "per": "total" },
    });
    let key = vault.key("key_1", json!({ "user": "user_1", "limits": limits })).await;
    (plan.start().await, vault, key, upstream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_upgrades_neither_reset_nor_count_twice() {
    let (mut gateway, vault, key, upstream) = start().await;
    let (stop, begun) = (Arc::new(AtomicBool::new(false)), minute());
    let (mut large, mut small) = (JoinSet::new(), JoinSet::new());
    for _ in 0..4 {
        let client = gateway.client().key(&key);
        large.spawn(ask(client, Duration::from_millis(5), Arc::clone(&stop)));
    }
    for _ in 0..2 {
        let client = gateway.client().key(SMALL);
        small.spawn(ask(client, Duration::from_millis(20), Arc::clone(&stop)));
    }
    for _ in 0..UPGRADES {
        let before = upstream.count();
        gateway.upgrade(&[]).await.unwrap();
        until("traffic goes on", || upstream.count() > before + 20).await;
    }
    eventually("the small budget is used up", async || {
        (spent(&vault, "k:file/small:budget:").await + 3 * COST > SMALL_ANSWERS * COST)
            .then_some(())
    })
    .await;
    stop.store(true, Relaxed);
    let ((good, limited), (used_up, refused)) = (join(large).await, join(small).await);
    eprintln!("{good} answered; of the small budget {used_up}, {refused} refused");
    assert_eq!(limited, 0);
    assert!(used_up <= SMALL_ANSWERS && used_up > SMALL_ANSWERS * 9 / 10, "{used_up}");
    until("the old processes end", || !gateway.predecessors().into_iter().any(gateway::runs)).await;
    gateway.signal("TERM");
    let last = gateway.pid();
    until("the last one ends", || !gateway::runs(last)).await;

    assert_eq!(spent(&vault, "k:key_1:budget:").await, good * COST, "budget");
    assert_eq!(spent(&vault, "u:user_1:quota:all:").await, good * TOKENS, "quota");
    // A minute that is over is written down only where another process may still ask for it.
    let (requests, tokens) =
        (spent(&vault, "k:key_1:rpm:").await, spent(&vault, "k:key_1:tpm:").await);
    assert_eq!(tokens, requests * TOKENS, "tokens per minute");
    let whole = begun == minute();
    assert!(requests == good || (!whole && requests < good), "{requests} of {good} per minute");
    assert_eq!(spent(&vault, "k:file/small:budget:").await, used_up * COST, "small budget");
    let (requests, tokens, cost) = vault.used().await;
    assert_eq!(requests, good + used_up);
    assert_eq!((tokens, cost), (requests * TOKENS, requests * COST));
    let reserved = vault.store.totals("nobody", &["k:key_1:budget:0".to_owned()]).await.unwrap();
    assert_eq!(reserved[0].reserved_elsewhere, 0, "nothing is left reserved");
}

/// A request that is under way while another process takes over is reserved there, and settled once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_old_process_has_reserved_is_known_to_the_new_one() {
    use crate::support::answer::{self, Answer, DONE, content, usage_event};
    let (mut gateway, vault, key, upstream) = start().await;
    let (cues, feed) = answer::feed();
    upstream.behave(move |_| Answer::live(feed.clone()));
    let client = gateway.client().key(&key);
    cues.send(content("one"));
    let mut stream = client.stream("hi").await;
    stream.data().await.expect("the first event");
    gateway.upgrade(&[]).await.unwrap();
    let name = ["k:key_1:budget:0".to_owned()];
    let held = vault.store.totals("nobody", &name).await.unwrap()[0];
    assert!(held.reserved_elsewhere > 0 && held.spent == 0, "{held:?}");
    cues.send(content("two"));
    cues.send(usage_event());
    cues.send(DONE);
    cues.end();
    stream.rest().await;
    let settled = eventually("it is settled", async || {
        let total = vault.store.totals("nobody", &name).await.unwrap()[0];
        (total.spent > 0 && total.reserved_elsewhere == 0).then_some(total.spent)
    });
    // 11 and 5 tokens.
    assert_eq!(settled.await, 16_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_requests_of_a_minute_are_counted_on_by_the_next_process() {
    let (mut gateway, vault, _, _upstream) = start().await;
    let key = vault.key("key_2", json!({ "limits": { "requests_per_minute": 10 } })).await;
    let client = gateway.client().key(&key);
    crate::support::vault::known(&gateway, &key).await;
    let minute = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_secs() / 60
    };
    loop {
        let begun = minute();
        let mut good = 0;
        for turn in 0..16 {
            if turn % 4 == 3 {
                gateway.upgrade(&[]).await.unwrap();
            }
            good += u32::from(client.chat("hi").await.status == 200);
        }
        if minute() == begun {
            assert_eq!(good, 10);
            return;
        }
    }
}
