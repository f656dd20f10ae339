//! Servers that bend the rules: their answers are read for what they are, and never run over into
//! another caller's.

use crate::support::answer::{Answer, DONE, Ending, content};
use crate::support::client::{CHAT, chat_body};
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

async fn saying(answer: Answer) -> (Upstream, Gateway) {
    let upstream = upstream::always(answer).await;
    let gateway = gateway::front(&upstream).await;
    (upstream, gateway)
}

fn json(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn bytes_after_an_answer_poison_no_other() {
    let twice = format!("{}{}", json("{\"n\":1}"), json("{\"poison\":1}"));
    let (upstream, gateway) = saying(Answer::raw(twice)).await;
    for turn in 0..6 {
        let reply = gateway.client().chat("hi").await;
        assert!(!reply.text().contains("poison"), "call {turn}: {reply:?}");
        assert_eq!(reply.status, 200, "call {turn}: {reply:?}");
    }
    assert_eq!(upstream.count(), 6);
}

#[tokio::test]
async fn bytes_after_a_chunked_answer_poison_no_other() {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let twice = format!("{head}2\r\n{{}}\r\n0\r\n\r\n{}", json("{\"poison\":1}"));
    let (_upstream, gateway) = saying(Answer::raw(twice)).await;
    for turn in 0..6 {
        let reply = gateway.client().chat("hi").await;
        assert!(!reply.text().contains("poison"), "call {turn}: {reply:?}");
        assert_eq!(reply.status, 200, "call {turn}: {reply:?}");
    }
}

#[tokio::test]
async fn hints_before_an_answer_are_not_the_answer() {
    let hinted = format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n{}",
        json("{\"n\":1}")
    );
    let (_upstream, gateway) = saying(Answer::raw(hinted)).await;
    for _ in 0..3 {
        assert_eq!(gateway.client().chat("hi").await.ok().text(), "{\"n\":1}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
    let (_upstream, gateway) =
        saying(Answer::raw(format!("{head}{{\"n\":1}}")).ending(Ending::Cut)).await;
    assert_eq!(gateway.client().chat("hi").await.ok().text(), "{\"n\":1}");
}

#[tokio::test]
async fn a_stream_that_ends_with_its_connection_is_whole() {
    let head = "HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    let events = [content("one"), DONE.to_owned()].concat();
    let (_upstream, gateway) =
        saying(Answer::raw(format!("{head}{events}")).ending(Ending::Cut)).await;
    let reply = gateway.client().stream("hi").await.rest().await.ok();
    assert_eq!(reply.text(), events);
}

#[tokio::test]
async fn a_stream_with_a_length_passes() {
    let events = [content("one"), DONE.to_owned()].concat();
    let (_upstream, gateway) = saying(Answer::new(200, "text/event-stream", events.clone())).await;
    let reply = gateway.client().stream("hi").await.rest().await.ok();
    assert_eq!(reply.text(), events);
}

#[tokio::test]
async fn a_last_event_without_its_blank_line_passes() {
    let events = format!("{}data: [DONE]", content("one"));
    let (_upstream, gateway) = saying(Answer::events([events.clone()])).await;
    let reply = gateway.client().stream("hi").await.rest().await.ok();
    assert_eq!(reply.text(), events);
}

#[tokio::test]
async fn an_answer_before_the_body_was_read_counts() {
    let body = chat_body(&"x".repeat(8 << 20)).to_string();
    for (answer, status) in
        [(Answer::error(400, "Too long."), 400), (Answer::error(413, "Too long."), 413)]
    {
        let (upstream, gateway) = saying(answer).await;
        upstream.answer_early();
        let reply = gateway.client().post(CHAT, body.clone()).send().await;
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(reply.json()["error"]["message"], "Too long.", "{reply:?}");
    }
}

#[tokio::test]
async fn a_failure_before_the_body_was_read_goes_to_the_other_target() {
    let yaml = r#"
providers:
  - { name: one, kind: vllm, base_url: "http://@a", health_check: { type: none } }
  - { name: two, kind: vllm, base_url: "http://@b", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: one }, { provider: two, weight: 0 }] }
"#;
    let (a, b) = (upstream::always(Answer::error(503, "x")).await, upstream::chat("well").await);
    a.answer_early();
    let gateway = gateway::with(yaml).up("a", &a).up("b", &b).start().await;
    let body = chat_body(&"x".repeat(8 << 20)).to_string();
    let reply = gateway.client().post(CHAT, body.clone()).send().await;
    assert_eq!(reply.said(), "well");
    assert!(b.call().text() == body, "{} bytes of {}", b.call().body_len(), body.len());
}

#[tokio::test]
async fn a_compressed_answer_that_nobody_asked_for_passes_as_it_is() {
    let bytes: Vec<u8> = [0x1f, 0x8b, 8, 0].into_iter().chain(0..200).collect();
    let answer = Answer::new(200, "application/json", bytes.clone());
    let upstream = upstream::always(answer.header("content-encoding", "gzip")).await;
    let edited =
        gateway::FRONT.replace("provider: p }]", "provider: p }], response: { prefix: x }");
    for yaml in [gateway::FRONT, &edited] {
        let gateway = gateway::with(yaml).up("up", &upstream).start().await;
        let reply = gateway.client().chat("hi").await.ok();
        assert_eq!(reply.body, bytes, "{reply:?}");
        assert_eq!(reply.header("content-encoding"), Some("gzip"), "{reply:?}");
    }
}

#[tokio::test]
async fn an_answer_with_many_and_long_headers_passes() {
    let mut answer = Answer::chat("hello");
    for number in 0..100 {
        answer = answer.header(&format!("x-header-{number}"), &"v".repeat(200));
    }
    let (_upstream, gateway) = saying(answer).await;
    let reply = gateway.client().chat("hi").await;
    assert_eq!(reply.said(), "hello");
    assert_eq!(reply.header("x-header-99").map(str::len), Some(200));
}

#[tokio::test]
async fn hop_by_hop_headers_of_an_answer_stay_between_us() {
    let answer = Answer::chat("hello")
        .header("keep-alive", "timeout=5")
        .header("proxy-authenticate", "Basic")
        .header("trailer", "x-t")
        .header("upgrade", "h2c");
    let (_upstream, gateway) = saying(answer).await;
    let reply = gateway.client().chat("hi").await.ok();
    for name in ["keep-alive", "proxy-authenticate", "upgrade"] {
        assert_eq!(reply.header(name), None, "{name}: {reply:?}");
    }
}

#[tokio::test]
async fn lies_about_ourselves_in_an_answer_are_corrected() {
    let answer = Answer::chat("hello")
        .header("x-forebay-provider", "somebody-else")
        .header("x-forebay-attempts", "99")
        .header("access-control-allow-origin", "*");
    let (_upstream, gateway) = saying(answer).await;
    let reply = gateway.client().chat("hi").await.ok();
    assert_eq!(reply.header("x-forebay-provider"), Some("p"), "{reply:?}");
    assert_eq!(reply.header("x-forebay-attempts"), Some("1"), "{reply:?}");
    assert_eq!(reply.header("access-control-allow-origin"), None, "{reply:?}");
}

#[tokio::test]
async fn an_event_without_end_does_not_fill_the_memory() {
    let (cues, feed) = crate::support::answer::feed();
    let (_upstream, gateway) = saying(Answer::live(feed)).await;
    cues.send(content("one"));
    let mut stream = gateway.client().stream("hi").await;
    stream.data().await;
    let before = gateway.peak_memory();
    let piece = bytes::Bytes::from(vec![b'x'; 1 << 20]);
    cues.send("data: ");
    (0..100).for_each(|_| cues.send(piece.clone()));
    cues.end();
    while stream.piece().await.is_some() {}
    let grown = gateway.peak_memory().saturating_sub(before);
    assert!(grown < 64 << 10, "it grew by {grown} KiB");
}

#[tokio::test]
async fn an_upgrade_nobody_asked_for_is_no_answer() {
    let (upstream, gateway) = saying(
        Answer::new(101, "x", "").header("upgrade", "websocket").header("connection", "upgrade"),
    )
    .await;
    upstream.behave(|_| {
        Answer::raw(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nraw",
        )
        .ending(Ending::Cut)
    });
    let reply = gateway.client().chat("hi").await;
    reply.refused(502, "upstream_error");
}
