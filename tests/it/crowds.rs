//! Many callers at once: each gets its own answer, whole.

use tokio::task::JoinSet;

use crate::support::answer::{Answer, DONE, content};
use crate::support::client::{CHAT, chat_body, stream_body};
use crate::support::gateway;
use crate::support::http2::Http2;
use crate::support::upstream::{self, Call, Upstream};

/// Says back what it was asked, streamed when that was asked for; when it is `moody`, every seventh
/// call fails.
async fn parrot(moody: bool) -> Upstream {
    upstream::with(move |call: &Call| {
        let asked = call.json();
        let text = asked["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
        match (call.index % 7, asked["stream"] == true) {
            (3, _) if moody => Answer::error(503, "in trouble"),
            (_, true) => {
                let letters = text.chars().map(|letter| content(&letter.to_string()));
                Answer::events(letters.chain([DONE.to_owned()]))
            }
            (_, false) => Answer::chat(&text),
        }
    })
    .await
}

const PAIR: &str = r#"
providers:
  - { name: p, kind: vllm, endpoints: [{ url: "http://@a" }, { url: "http://@b" }], health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: p }] }
retry: { attempts: 16, budget: 100% }
"#;

#[tokio::test]
async fn each_caller_gets_its_own_answer() {
    let (a, b) = (parrot(true).await, parrot(false).await);
    let gateway = gateway::with(PAIR).up("a", &a).up("b", &b).start().await;
    let mut callers = JoinSet::new();
    for caller in 0..24 {
        let client = gateway.client();
        callers.spawn(async move {
            let mut connection = client.connect().await;
            for turn in 0..12 {
                let text =
                    format!("caller {caller:02} turn {turn:02} {}", "x".repeat(caller * 500));
                let stream = turn % 2 == 0;
                let body = if stream { stream_body(&text[..17]) } else { chat_body(&text) };
                let request = client.post(CHAT, body.to_string());
                let reply = request.over(&mut connection).await;
                // After a refusal the connection may be closed; here there is none.
                let said = if stream { reply.clone().ok().streamed() } else { reply.said() };
                let expected = if stream { &text[..17] } else { text.as_str() };
                assert_eq!(said, expected, "{reply:?}");
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    gateway.counts("forebay_active_requests", 0).await;
}

#[tokio::test]
async fn each_stream_of_a_connection_gets_its_own_answer() {
    let (a, b) = (parrot(true).await, parrot(false).await);
    let gateway = gateway::with(PAIR).up("a", &a).up("b", &b).start().await;
    let mut http2 = Http2::connect(gateway.address).await;
    let mut waiting = Vec::new();
    for turn in 0..60 {
        let (mut stream, answer) =
            http2.begin("POST", CHAT, &[("content-type", "application/json")]).await;
        let body = chat_body(&format!("turn {turn}")).to_string();
        stream.send_data(body.into(), true).unwrap();
        waiting.push(answer);
    }
    for (turn, answer) in waiting.into_iter().enumerate() {
        let reply = answer.await.rest().await;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(text.contains(&format!("\"turn {turn}\"")), "{turn}: {reply:?}");
    }
}

#[tokio::test]
async fn a_crowd_that_leaves_in_the_middle_leaves_nothing_behind() {
    let a = upstream::always(Answer::silence()).await;
    let (cues, feed) = crate::support::answer::feed();
    let b = upstream::always(Answer::live(feed)).await;
    let gateway = gateway::with(PAIR).up("a", &a).up("b", &b).start().await;
    let request = gateway.client().post(CHAT, stream_body("hi").to_string());
    let mut open = Vec::new();
    for _ in 0..60 {
        open.push(request.begin().await);
    }
    crate::support::until("all are there", || a.count() + b.count() == 60).await;
    (0..60).for_each(|_| cues.send(content("x")));
    drop(open);
    gateway.counts("forebay_active_requests", 0).await;
    gateway.counts("forebay_connections", 0).await;
    let calls = [a.calls(), b.calls()].concat();
    let all_gone = || calls.iter().all(|call| call.gone().is_some());
    crate::support::until("every upstream is let go", all_gone).await;
    let health = gateway.health().await;
    for replica in health["providers"][0]["replicas"].as_array().unwrap() {
        assert_eq!(replica["in_flight"], 0, "{health}");
        assert_eq!(replica["health"], "healthy", "{health}");
    }
}
