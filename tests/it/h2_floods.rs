//! HTTP/2 clients that flood: their connection ends, little memory is used, and others are served.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::CHAT;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, frame,
};
use crate::support::gateway::{self, Gateway};
use crate::support::http2::Http2;
use crate::support::upstream;
use crate::support::within;

/// How much a flood may cost, in KiB.
const MOST: u64 = 32 << 10;

/// The preface, with this window for each stream and for the connection.
pub fn greeting(window: u32) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    let setting = [&[0, 4][..], &window.to_be_bytes()].concat();
    bytes.extend(frame(SETTINGS, 0, 0, &setting));
    if window > 65_535 {
        bytes.extend(frame(WINDOW_UPDATE, 0, 0, &(window - 65_535).to_be_bytes()));
    }
    bytes
}

/// A head: static names of HPACK (RFC 7541 appendix A), literal values.
fn head(method: u8, path: &str) -> Vec<u8> {
    let mut block = vec![0x80 | method, 0x86];
    block.extend([0x04, u8::try_from(path.len()).unwrap()]);
    block.extend(path.as_bytes());
    block.extend([0x01, 1, b'a']);
    block
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(2, path))
}

pub fn post(stream: u32, path: &str, body: &[u8]) -> Vec<u8> {
    let mut frames = frame(HEADERS, END_HEADERS, stream, &head(3, path));
    frames.extend(frame(DATA, END_STREAM, stream, body));
    frames
}

/// Sends, and reads what comes back on the side. True: the connection has ended by then, with a
/// GOAWAY or without.
async fn flood(gateway: &Gateway, bytes: Vec<u8>) -> Flooded {
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let sending = async {
        let _cut = writing.write_all(&greeting(65_535)).await;
        let _cut = writing.write_all(&bytes).await;
        // Kept open: it is for the other side to end it.
        std::future::pending::<()>().await;
    };
    let reading = async {
        let mut got = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match reading.read(&mut buffer).await {
                Ok(0) | Err(_) => return got,
                Ok(read) => got.extend_from_slice(&buffer[..read]),
            }
        }
    };
    let got = within("the end of the connection", async {
        tokio::select! { got = reading => got, () = sending => unreachable!() }
    })
    .await;
    Flooded { frames: frames(&got) }
}

struct Flooded {
    /// Kind, stream and payload of what came back.
    frames: Vec<(u8, u32, Vec<u8>)>,
}

impl Flooded {
    /// The reason of the GOAWAY, if there was one.
    fn reason(&self) -> Option<u32> {
        let last = self.frames.iter().rfind(|(kind, ..)| *kind == GOAWAY)?;
        Some(u32::from_be_bytes(last.2[4..8].try_into().unwrap()))
    }
}

fn frames(mut bytes: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while bytes.len() >= 9 {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        let stream = u32::from_be_bytes(bytes[5..9].try_into().unwrap());
        let Some(payload) = bytes.get(9..9 + length) else { break };
        frames.push((bytes[3], stream, payload.to_vec()));
        bytes = &bytes[9 + length..];
    }
    frames
}

const ENHANCE_YOUR_CALM: u32 = 11;

/// Floods, while others are served; what came of it.
async fn survive(what: &str, more: &str, bytes: Vec<u8>) -> Flooded {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(&format!("{}\n{more}\n", gateway::FRONT));
    let gateway = gateway.up("up", &upstream).start().await;
    gateway.client().chat("warm").await;
    let mut other = Http2::connect(gateway.address).await;
    let before = gateway.peak_memory();
    let served = async {
        for _ in 0..20 {
            let reply = other.post(CHAT, r#"{"model":"m"}"#).await.rest().await;
            assert_eq!(reply.status, 200, "{what}");
            assert_eq!(gateway.client().chat("hi").await.said(), "hello", "{what}");
        }
    };
    let (flooded, ()) = tokio::join!(flood(&gateway, bytes), served);
    let grown = gateway.peak_memory() - before;
    let (count, reason) = (flooded.frames.len(), flooded.reason());
    eprintln!("{what}: {grown} KiB, {count} frames back, GOAWAY {reason:?}");
    assert!(grown < MOST, "{what}: it grew by {grown} KiB");
    assert_eq!(gateway.client().chat("after").await.said(), "hello", "{what}");
    gateway.counts("forebay_active_requests", 0).await;
    flooded
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let reset = |n: u32| {
        let stream = 2 * n + 1;
        let cancel = 8_u32.to_be_bytes();
        [get(stream, "/v1/models"), frame(RST_STREAM, 0, stream, &cancel)].concat()
    };
    let flooded = survive("rapid reset", "", (0..10_000).flat_map(reset).collect()).await;
    assert_eq!(flooded.reason(), Some(ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn a_head_that_goes_on_for_ever_ends_the_connection() {
    let mut bytes = frame(HEADERS, 0, 1, &head(2, "/v1/models"));
    let field = [&[0x00, 1, b'x', 100][..], &[b'a'; 100]].concat();
    for _ in 0..50_000 {
        bytes.extend(frame(CONTINUATION, 0, 1, &field));
    }
    let flooded = survive("continuation", "", bytes).await;
    assert_eq!(flooded.reason(), Some(ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn empty_continuations_end_the_connection() {
    let mut bytes = frame(HEADERS, 0, 1, &head(2, "/v1/models"));
    bytes.extend(frame(CONTINUATION, 0, 1, b"").repeat(100_000));
    let flooded = survive("empty continuations", "", bytes).await;
    assert!(flooded.reason().is_some());
}

#[tokio::test]
async fn empty_data_ends_the_connection() {
    let mut bytes = frame(HEADERS, END_HEADERS, 1, &head(3, CHAT));
    bytes.extend(frame(DATA, 0, 1, b"").repeat(100_000));
    let flooded = survive("empty data", "", bytes).await;
    assert!(flooded.reason().is_some());
}

#[tokio::test]
async fn tiny_data_ends_the_connection() {
    let mut bytes = frame(HEADERS, END_HEADERS, 1, &head(3, CHAT));
    bytes.extend(frame(DATA, 0, 1, b" ").repeat(200_000));
    survive("tiny data", "", bytes).await;
}

#[tokio::test]
async fn control_frames_without_end_end_the_connection() {
    survive("pings", "", frame(PING, 0, 0, &[7; 8]).repeat(100_000)).await;
    survive("settings", "", frame(SETTINGS, 0, 0, b"").repeat(100_000)).await;
    let window = [&[0, 4][..], &65_535_u32.to_be_bytes()].concat();
    survive("windows", "", frame(SETTINGS, 0, 0, &window).repeat(100_000)).await;
}

#[tokio::test]
async fn frames_that_are_no_requests_keep_no_connection_open() {
    let idle = "timeouts: { client_idle: 1s }";
    let update = frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
    survive("updates", idle, update.repeat(100_000)).await;
}

#[tokio::test]
async fn pings_whose_answers_nobody_reads_end_the_connection() {
    let upstream = upstream::chat("hello").await;
    let yaml = format!("{}\ntimeouts: {{ client_write: 500ms }}\n", gateway::FRONT);
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let before = gateway.peak_memory();
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(&greeting(65_535)).await.unwrap();
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(10_000);
    let refused = async { while stream.write_all(&pings).await.is_ok() {} };
    within("the end of the connection", refused).await;
    assert!(gateway.peak_memory() - before < MOST);
    gateway.counts("forebay_connections", 0).await;
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused() {
    let gate = crate::support::answer::Gate::closed();
    let answer = crate::support::answer::Answer::chat("hello").after(&gate);
    let upstream = upstream::always(answer).await;
    let gateway = gateway::front(&upstream).await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let mut bytes = greeting(65_535);
    for number in 0..150 {
        bytes.extend(post(2 * number + 1, CHAT, br#"{"model":"m"}"#));
    }
    stream.write_all(&bytes).await.unwrap();
    upstream.wait_for(99).await;
    let mut got = Vec::new();
    let refused = |got: &[u8]| frames(got).iter().filter(|(kind, ..)| *kind == RST_STREAM).count();
    let reading = async {
        while refused(&got) < 50 {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer).await {
                Ok(read) if read > 0 => got.extend_from_slice(&buffer[..read]),
                end => panic!("{end:?} after {:?}", frames(&got)),
            }
        }
    };
    within("the refusals", reading).await;
    assert_eq!(upstream.count(), 100);
    gate.open();
    drop(stream);
    gateway.counts("forebay_active_requests", 0).await;
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_431_or_the_end_of_the_connection() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::front(&upstream).await;
    let mut http2 = Http2::connect(gateway.address).await;
    let (long, many) = ("a".repeat(66_000), vec![("x-own", "a"); 101]);
    for headers in [vec![("x-own", long.as_str())], many] {
        let (mut body, answer) = http2.begin("GET", "/v1/models", &headers).await;
        let _refused = body.send_data(bytes::Bytes::new(), true);
        assert_eq!(answer.await.status, 431, "{} fields", headers.len());
    }
    let (mut body, answer) = http2.begin("GET", "/v1/models", &[]).await;
    body.send_data(bytes::Bytes::new(), true).unwrap();
    assert_eq!(answer.await.status, 200, "its connection lives on");
}

#[tokio::test]
async fn a_small_head_that_unpacks_to_a_large_one_is_refused() {
    // A long value put into the table once, and named again and again: a byte each.
    let value = [b'a'; 4000];
    let mut block = head(2, "/v1/models");
    block.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    block.extend(value);
    block.extend([0xbe; 10_000]);
    let mut bytes = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block);
    for number in 1..100 {
        let block = [&head(2, "/v1/models")[..], &[0xbe; 16_000]].concat();
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &block));
    }
    let flooded = survive("packed heads", "timeouts: { client_idle: 1s }", bytes).await;
    let served = flooded.frames.iter().filter(|(kind, ..)| *kind == DATA).count();
    assert_eq!(served, 0, "{:?}", flooded.frames);
}

#[tokio::test]
async fn a_window_that_stays_shut_holds_a_stream_no_longer_than_allowed() {
    let upstream = upstream::chat("hello").await;
    let yaml =
        format!("{}\ntimeouts: {{ client_write: 500ms, client_idle: 1s }}\n", gateway::FRONT);
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let mut bytes = greeting(0);
    for number in 0..100 {
        bytes.extend(get(2 * number + 1, "/v1/models"));
    }
    stream.write_all(&bytes).await.unwrap();
    let mut sink = vec![0; 64 << 10];
    let ended = async { while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {} };
    within("the end of the connection", ended).await;
    gateway.counts("forebay_active_requests", 0).await;
    gateway.counts("forebay_connections", 0).await;
    tokio::time::timeout(Duration::from_secs(5), gateway.client().chat("hi")).await.unwrap();
}
