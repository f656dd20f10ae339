//! The edge of the house: who holds too much, waits too long, or does not let go.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::answer::{Answer, Body, Gate, content, feed};
use crate::support::certificate::Certificate;
use crate::support::client::{CHAT, Connection, chat_body, chunk, stream_body};
use crate::support::dialects::Dialect::Messages;
use crate::support::gateway::{self, Gateway};
use crate::support::http2::Http2;
use crate::support::matrix::only;
use crate::support::upstream::{self, Upstream};
use crate::support::{until, within};

async fn front(upstream: &Upstream, more: &str) -> Gateway {
    gateway::with(&format!("{}\n{more}\n", gateway::FRONT)).up("up", upstream).start().await
}

/// A gateway that may hold a megabyte, and a request that holds 600,000 bytes of it.
async fn crowded() -> (Upstream, Gateway, Gate, Connection) {
    let gate = Gate::closed();
    let upstream = upstream::always(Answer::chat("hello").after(&gate)).await;
    let gateway = front(&upstream, "limits: { body: 1MiB, buffered: 1MiB }").await;
    let request = gateway.client().post(CHAT, large());
    let first = request.begin().await;
    upstream.wait_for(0).await;
    (upstream, gateway, gate, first)
}

fn large() -> String {
    chat_body(&"x".repeat(600_000)).to_string()
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_refused_before_it_is_sent() {
    let (upstream, gateway, gate, mut first) = crowded().await;
    gateway.counts("forebay_buffered_bytes", large().len() as u64).await;
    let mut second = gateway.client().connect().await;
    let begun = Instant::now();
    second.send(gateway.client().post(CHAT, large()).head()).await;
    let reply = second.reply().await;
    let took = begun.elapsed();
    reply.refused(503, "overloaded");
    assert_eq!(reply.header("retry-after"), Some("1"), "{reply:?}");
    assert_eq!(reply.header("connection"), Some("close"), "{reply:?}");
    let begun = Instant::now();
    gateway.client().get("/health/live").await.ok();
    eprintln!("refused within {took:?}, alive within {:?}", begun.elapsed());
    // In the caller's dialect, and over HTTP/2.
    let messages = gateway.client().post("/v1/messages", large()).send().await;
    assert_eq!((messages.status, &messages.json()["type"]), (503, &"error".into()), "{messages:?}");
    let mut http2 = Http2::connect(gateway.address).await;
    let length = large().len().to_string();
    let head = [("content-type", "application/json"), ("content-length", length.as_str())];
    let (_body, answer) = http2.begin("POST", CHAT, &head).await;
    assert_eq!(answer.await.status, 503);
    gateway.counts("forebay_requests_shed_total", 3).await;
    // What fits is served all the while, and everything once there is room again.
    gate.open();
    assert_eq!(first.reply().await.said(), "hello");
    gateway.counts("forebay_buffered_bytes", 0).await;
    assert_eq!(gateway.client().chat("small").await.said(), "hello");
    assert_eq!(gateway.client().post(CHAT, large()).send().await.said(), "hello");
    assert_eq!(upstream.count(), 3);
    gateway.counts("forebay_buffered_bytes", 0).await;
}

#[tokio::test]
async fn a_body_of_unknown_length_is_refused_when_it_does_not_fit() {
    let (upstream, gateway, gate, mut first) = crowded().await;
    let request = gateway.client().post(CHAT, large()).chunked(10_000);
    let reply = request.send().await;
    reply.refused(503, "overloaded");
    // What was read of it is given back.
    gateway.counts("forebay_buffered_bytes", large().len() as u64).await;
    assert_eq!(upstream.count(), 1);
    gate.open();
    assert_eq!(first.reply().await.said(), "hello");
}

#[tokio::test]
async fn who_declares_much_and_sends_little_keeps_nobody_out_for_long() {
    let upstream = upstream::chat("hello").await;
    let gateway = front(&upstream, "limits: { body: 1MiB, buffered: 1MiB }").await;
    let mut idle = gateway.client().connect().await;
    idle.send(gateway.client().post(CHAT, large()).head() + "{").await;
    gateway.counts("forebay_buffered_bytes", large().len() as u64).await;
    // Whoever comes meanwhile is refused; then the claim is given up.
    assert_eq!(gateway.client().post(CHAT, large()).send().await.status, 503);
    gateway.counts("forebay_buffered_bytes", 1).await;
    assert_eq!(gateway.client().post(CHAT, large()).send().await.said(), "hello");
    drop(idle);
    gateway.counts("forebay_buffered_bytes", 0).await;
}

#[tokio::test]
async fn a_body_is_let_go_once_its_answer_has_begun() {
    let (cues, feed) = feed();
    let upstream = upstream::always(Answer::live(feed)).await;
    let gateway = front(&upstream, "").await;
    // The head goes out with the first event.
    cues.send(content("a"));
    let mut incoming = gateway.client().stream(&"x".repeat(100_000)).await;
    assert!(incoming.data().await.unwrap().contains("\"a\""));
    cues.send(content("b"));
    assert!(incoming.data().await.unwrap().contains("\"b\""));
    gateway.counts("forebay_buffered_bytes", 0).await;
    cues.end();
    incoming.rest().await.ok();
}

#[tokio::test]
async fn a_translated_body_counts_beside_the_one_it_was_made_of() {
    let upstream = upstream::always(Messages.answer("hello")).await;
    let gateway = only(Messages, &upstream, "limits: { body: 1MiB, buffered: 1MiB }").await;
    let client = gateway.client();
    let body = |length: usize| chat_body(&"x".repeat(length)).to_string();
    // As it came it fits, but not beside what it becomes.
    client.post(CHAT, body(600_000)).send().await.refused(503, "overloaded");
    gateway.counts("forebay_buffered_bytes", 0).await;
    assert_eq!(client.post(CHAT, body(400_000)).send().await.said(), "hello");
    gateway.counts("forebay_buffered_bytes", 0).await;
    assert_eq!(upstream.count(), 1);
    // What goes on as it came has no second copy.
    let mut own = Messages.body("m", "", false);
    own["messages"][0]["content"] = "x".repeat(600_000).into();
    client.post("/v1/messages", own.to_string()).send().await.ok();
}

#[tokio::test]
async fn an_answer_counts_while_it_is_kept_for_its_translation() {
    let (cues, feed) = feed();
    let answer = Answer { body: Body::Live(feed), ..Answer::new(200, "application/json", "") };
    let upstream = upstream::always(answer).await;
    let gateway = only(Messages, &upstream, "limits: { body: 1MiB, buffered: 1MiB }").await;
    let body = chat_body("hi").to_string();
    let mut asked = gateway.client().post(CHAT, body.clone()).begin().await;
    cues.send(vec![b' '; 500_000]);
    gateway.counts("forebay_buffered_bytes", 500_000 + body.len() as u64).await;
    cues.send(vec![b' '; 600_000]);
    let reply = asked.reply().await;
    reply.refused(503, "overloaded");
    gateway.counts("forebay_buffered_bytes", 0).await;
}

#[tokio::test]
async fn a_form_s_head_is_counted_and_given_back() {
    let gate = Gate::closed();
    let upstream = upstream::always(Answer::chat("heard").after(&gate)).await;
    let gateway = front(&upstream, "").await;
    let field = "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--x--\r\n";
    let request = gateway.client().request("POST", "/v1/audio/transcriptions").body(field);
    let request = request.header("content-type", "multipart/form-data; boundary=x");
    let mut connection = request.begin().await;
    upstream.wait_for(0).await;
    gateway.counts("forebay_buffered_bytes", field.len() as u64).await;
    gate.open();
    connection.reply().await.ok();
    gateway.counts("forebay_buffered_bytes", 0).await;
}

#[tokio::test]
async fn a_length_beyond_all_limits_is_refused_at_once() {
    let upstream = upstream::chat("hello").await;
    let gateway = front(&upstream, "").await;
    for length in ["10995116277760", "9223372036854775808"] {
        let request = gateway.client().post(CHAT, "").header("content-length", length);
        let begun = Instant::now();
        let reply = request.send().await;
        reply.refused(413, "request_too_large");
        // Not after the five seconds that an unread body is given.
        assert!(begun.elapsed() < Duration::from_secs(3), "it took {:?}", begun.elapsed());
        let expecting = request.header("expect", "100-continue");
        expecting.send().await.refused(413, "request_too_large");
    }
}

#[tokio::test]
async fn a_long_refused_body_is_read_until_its_sender_has_read_the_answer() {
    let upstream = upstream::chat("hello").await;
    let gateway = front(&upstream, "limits: { body: 1MiB }").await;
    for _ in 0..10 {
        let mut connection = gateway.client().connect().await;
        let body = "x".repeat(4 << 20);
        // All of it is sent before the answer is looked for.
        connection.send(gateway.client().post(CHAT, body).bytes()).await;
        connection.reply().await.refused(413, "request_too_large");
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_which_are_right() {
    let upstream = upstream::chat("hello").await;
    let gateway = front(&upstream, "default_provider: p").await;
    for (method, path, allow) in [
        ("GET", CHAT, "POST"),
        ("TRACE", "/v1/files", "GET, POST, PUT, PATCH, DELETE"),
        ("FOO", "/v1/models", "GET, HEAD"),
        ("OPTIONS", "*", "GET, HEAD, POST, PUT, PATCH, DELETE"),
    ] {
        let reply = gateway.client().request(method, path).send().await;
        reply.refused(405, "method_not_allowed");
        assert_eq!(reply.header("allow"), Some(allow), "{method} {path}: {reply:?}");
    }
    let mut http2 = Http2::connect(gateway.address).await;
    let (mut body, answer) = http2.begin("DELETE", CHAT, &[]).await;
    body.send_data(bytes::Bytes::new(), true).unwrap();
    let reply = answer.await.rest().await;
    assert_eq!((reply.status, reply.headers["allow"].to_str().unwrap()), (405, "POST"));
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn the_edge_speaks_the_caller_s_dialect() {
    let upstream = upstream::chat("hello").await;
    let gateway = front(&upstream, "").await;
    let twice = |path| {
        let request = gateway.client().post(path, "{}").header("x-request-id", "mine");
        request.header("content-length", "2").header("content-length", "2")
    };
    let openai = twice(CHAT).send().await;
    openai.refused(400, "invalid_request");
    assert_eq!(openai.header("x-request-id"), Some("mine"), "{openai:?}");
    let anthropic = twice("/v1/messages").send().await.json();
    assert_eq!(anthropic["type"], "error", "{anthropic}");
    assert_eq!(anthropic["request_id"], "mine", "{anthropic}");
    let gemini = twice("/v1beta/models/x:generateContent").send().await.json();
    assert_eq!(gemini["error"]["status"], "INVALID_ARGUMENT", "{gemini}");
    gateway.counts("forebay_active_requests", 0).await;
}

#[tokio::test]
async fn the_thousandth_answer_of_a_connection_is_its_last() {
    let upstream = upstream::chat("hello").await;
    let gateway = front(&upstream, "").await;
    let mut connection = gateway.client().connect().await;
    // Together far more than a head may have.
    let request = gateway.client().request("GET", "/health").header("x-own", &"x".repeat(1000));
    for turn in 1..=1000 {
        let reply = request.over(&mut connection).await.ok();
        let expected = if turn == 1000 { "close" } else { "keep-alive" };
        assert_eq!(reply.header("connection"), Some(expected), "request {turn}");
    }
    within("the end of the connection", connection.wire.closed()).await;
}

/// More than all buffers between two processes hold.
fn flood() -> Answer {
    let event = bytes::Bytes::from(content(&"x".repeat(60_000)));
    Answer::events(vec![event; 1600])
}

#[tokio::test]
async fn a_stream_whose_reader_stalls_is_cut() {
    let upstream = upstream::always(flood()).await;
    let gateway = front(&upstream, "timeouts: { client_write: 500ms }").await;
    let request = gateway.client().post(CHAT, stream_body("hi").to_string());
    let _unread = request.begin().await;
    let call = upstream.wait_for(0).await;
    until("the upstream is let go", || call.gone().is_some()).await;
    gateway.counts("forebay_active_requests", 0).await;
    gateway.counts("forebay_connections", 0).await;
}

#[tokio::test]
async fn a_stream_whose_http2_reader_stalls_is_cut() {
    let upstream = upstream::always(flood()).await;
    let gateway = front(&upstream, "timeouts: { client_write: 500ms }").await;
    let mut http2 = Http2::connect(gateway.address).await;
    let body = stream_body("hi").to_string();
    // Its window is closed: nothing of it is released.
    let mut stalled = http2.post(CHAT, body).await;
    let call = upstream.wait_for(0).await;
    until("the upstream is let go", || call.gone().is_some()).await;
    gateway.counts("forebay_active_requests", 0).await;
    let cut = async { while let Some(Ok(_)) = stalled.body.data().await {} };
    within("the end of the stream", cut).await;
    // What is left unread has shut the connection's window too.
    drop(stalled);
    upstream.behave(|_| Answer::chat("hello"));
    assert_eq!(http2.post(CHAT, chat_body("hi").to_string()).await.rest().await.status, 200);
}

#[tokio::test]
async fn who_reads_nothing_of_an_http2_connection_is_cut_off() {
    let upstream = upstream::always(flood()).await;
    let more = "timeouts: { client_write: 500ms, client_idle: 60s }";
    let gateway = front(&upstream, more).await;
    let mut raw = TcpStream::connect(gateway.address).await.unwrap();
    let frames = crate::h2_floods::greeting(u32::MAX >> 1);
    raw.write_all(&frames).await.unwrap();
    let body = stream_body("hi").to_string();
    raw.write_all(&crate::h2_floods::post(1, CHAT, body.as_bytes())).await.unwrap();
    let call = upstream.wait_for(0).await;
    until("the upstream is let go", || call.gone().is_some()).await;
    gateway.counts("forebay_connections", 0).await;
}

#[tokio::test]
async fn half_a_preface_is_given_up() {
    let upstream = upstream::chat("hello").await;
    let gateway = front(&upstream, "timeouts: { request_header: 400ms }").await;
    for half in ["PRI * HTTP/2.0\r\n", "P", "GET / HTTP/1.1\r\n"] {
        let mut connection = gateway.client().connect().await;
        connection.send(half).await;
        within(half, connection.wire.closed()).await;
    }
    gateway.counts("forebay_connections", 0).await;
}

async fn encrypted(upstream: &Upstream, more: &str) -> (Gateway, Certificate) {
    let tls = "tls: { cert: \"@dir/tls.crt\", key: \"@dir/tls.key\" }";
    let admin = format!("admin: {{ listen: \"@admin\", key: {} }}", gateway::ADMIN_KEY);
    let yaml =
        format!("listen: [{{ address: \"@listen\", {tls} }}]\n{admin}\n{}\n{more}", gateway::FRONT);
    let plan = gateway::with(&yaml).up("up", upstream);
    let certificate = Certificate::write(plan.dir());
    (plan.start().await, certificate)
}

#[tokio::test]
async fn a_tls_handshake_that_stops_is_given_up() {
    let upstream = upstream::chat("hello").await;
    let (gateway, certificate) =
        encrypted(&upstream, "timeouts: { request_header: 400ms, client_idle: 60s }").await;
    // Nothing at all, and the beginning of a hello.
    for said in [b"".as_slice(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"] {
        let mut connection = gateway.client().connect().await;
        connection.send(said).await;
        within("the end of the handshake", connection.wire.closed()).await;
    }
    // A handshake, and then nothing: neither a request nor HTTP/2's preface.
    for alpn in ["http/1.1", "h2"] {
        let mut silent = Connection::over(certificate.connect(gateway.address, &[alpn]).await);
        within(alpn, silent.wire.closed()).await;
    }
    gateway.counts("forebay_connections", 0).await;
    // One that was done in time is not cut when the time is over.
    let (cues, feed) = feed();
    upstream.behave(move |_| Answer::live(feed.clone()));
    let mut stream = Connection::over(certificate.connect(gateway.address, &["http/1.1"]).await);
    stream.send(gateway.client().post(CHAT, stream_body("hi").to_string()).bytes()).await;
    upstream.wait_for(0).await;
    let other = gateway.client().connect().await;
    within("the end of another", async { { other }.wire.closed().await }).await;
    cues.send(content("late"));
    cues.end();
    let mut incoming = stream.answer().await;
    assert!(incoming.data().await.unwrap().contains("late"));
}

#[tokio::test]
async fn handshakes_count_as_connections() {
    let upstream = upstream::chat("hello").await;
    let (gateway, certificate) = encrypted(&upstream, "limits: { connections_per_ip: 3 }").await;
    gateway.counts("forebay_connections", 0).await;
    let mut silent = Vec::new();
    for open in 1..=3 {
        silent.push(gateway.client().connect().await);
        gateway.counts("forebay_connections", open).await;
    }
    let mut fourth = gateway.client().connect().await;
    within("the end of the fourth", fourth.wire.closed()).await;
    drop(silent);
    gateway.counts("forebay_connections", 0).await;
    let served = certificate.connect(gateway.address, &["http/1.1"]).await;
    gateway.counts("forebay_connections", 1).await;
    drop(served);
    gateway.counts("forebay_connections", 0).await;
}

#[tokio::test]
async fn a_trusted_proxy_may_have_more_connections() {
    let upstream = upstream::chat("hello").await;
    let more = "limits: { connections_per_ip: 2 }\ntrusted_proxies: [127.0.0.0/8]";
    let gateway = front(&upstream, more).await;
    let mut open = Vec::new();
    for _ in 0..6 {
        let mut connection = gateway.client().connect().await;
        let request = gateway.client().request("GET", "/health");
        request.over(&mut connection).await.ok();
        open.push(connection);
    }
}

#[tokio::test]
async fn a_chunk_that_never_ends_is_not_kept() {
    let upstream = upstream::chat("hello").await;
    let gateway = front(&upstream, "limits: { body: 1MiB }").await;
    let mut connection = gateway.client().connect().await;
    let head = gateway.client().post(CHAT, "").chunked(1).head();
    connection.send(head).await;
    let piece = chunk(&vec![b' '; 60_000]);
    // More than is allowed, until it is said so.
    for _ in 0..20 {
        if connection.wire.send(&piece).await.is_err() {
            break;
        }
    }
    connection.reply().await.refused(413, "request_too_large");
}
