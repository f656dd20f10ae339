//! A server that closes idle connections after five seconds, and requests that come just then.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::model::{Model, answer_after, front};
use crate::sheet::Sheet;
use crate::support::client::CHAT;
use crate::support::gateway::Gateway;

/// At once; each has a connection to the upstream of its own.
const LANES: u32 = 100;
const ROUNDS: u32 = 2;
/// vLLM's server.
const CLOSES_AFTER: Duration = Duration::from_secs(5);
/// Long enough for all lanes to be under way together.
const ANSWER: Duration = Duration::from_millis(400);

/// A gateway whose pool keeps connections as long as vLLM's default says, or far too long.
async fn keeping(model: &Model, pool: &str) -> Gateway {
    let yaml = format!(
        "providers: [{{ name: p, kind: vllm, base_url: \"http://@a\", health_check: {{ type: none }}, \
         timeouts: {{ {pool} }} }}]\nmodels: [{{ name: m, targets: [{{ provider: p }}] }}]\n\
         limits: {{ connections_per_ip: 1000 }}\n"
    );
    front(&yaml, &[model]).await
}

/// A request in each lane, spread over `spread` from `from` on; those that failed, and when the last ended.
async fn lanes(gateway: &Gateway, from: Instant, spread: Duration) -> (u64, Instant) {
    let request = gateway.client().post(CHAT, answer_after(ANSWER));
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let (request, at) = (request.clone(), from + spread * lane / LANES);
        lanes.spawn(async move {
            sleep_until(at).await;
            let reply = request.send().await;
            (reply.status != 200 || !reply.whole, Instant::now())
        });
    }
    let ended = lanes.join_all().await;
    let failed = ended.iter().filter(|(failed, _)| *failed).count();
    (failed as u64, ended.into_iter().map(|(_, at)| at).max().unwrap())
}

/// The errors of two hundred requests that come 4.9 to 5.1 s after the pooled connections' last use.
async fn errors(pool: &str) -> u64 {
    let model = Model::start();
    model.close_idle_after(CLOSES_AFTER);
    let gateway = keeping(&model, pool).await;
    let mut errors = 0;
    for _ in 0..ROUNDS {
        let (failed, ended) = lanes(&gateway, Instant::now(), Duration::ZERO).await;
        assert_eq!(failed, 0, "nothing was idle yet");
        let (before, around) = (Duration::from_millis(4900), Duration::from_millis(200));
        errors += lanes(&gateway, ended + before, around).await.0;
    }
    errors
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_at_the_moment_its_connection_is_closed_costs_nothing() {
    let mut sheet = Sheet::of("stale_connections");
    let (kept_3s, kept_60s) = tokio::join!(errors(""), errors("idle_pool: 60s"));
    sheet.none("errors of 200 POSTs at 4.9 to 5.1 s, pool as by default", kept_3s);
    sheet.none("errors of 200 POSTs at 4.9 to 5.1 s, pool that keeps too long", kept_60s);
    sheet.hold();
}
