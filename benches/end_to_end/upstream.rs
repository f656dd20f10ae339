//! The role behind both proxies: a server that costs little and answers as vLLM does, and as
//! Anthropic does to its kind of call.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::answers;

/// Between two events of a steady stream.
const PACE: Duration = Duration::from_millis(2);

/// Every answer, ready to be written.
struct Answers {
    healthy: Bytes,
    models: Bytes,
    plain: Bytes,
    stream_head: Bytes,
    /// By whether it reasons, then by whether usage was asked for.
    streams: [[Vec<Bytes>; 2]; 2],
    message: Bytes,
    message_stream: Vec<Bytes>,
}

/// What one request wants.
#[derive(Clone, Copy)]
enum Wanted {
    Healthy,
    Models,
    Plain,
    Stream { reasoning: bool, usage: bool, pace: Pace },
    Message,
    MessageStream,
}

/// When the events of a stream come.
#[derive(Clone, Copy)]
enum Pace {
    /// One by one, each for itself: a proxy finds one at a time, however slow it is.
    Steady,
    /// As fast as they are taken. A slow proxy finds several at once, and has less to do with each.
    Burst,
    /// The first, and never another.
    Idle,
}

/// Serves for ever.
pub async fn serve(address: SocketAddr) {
    let listener = TcpListener::bind(address).await.expect("the upstream's port should be free");
    let stream = |reasoning, usage| answers::writes(&answers::events(reasoning, usage));
    let answers = Arc::new(Answers {
        healthy: answers::whole(""),
        models: answers::whole(r#"{"object":"list","data":[]}"#),
        plain: answers::whole(answers::PLAIN),
        stream_head: answers::STREAM_HEAD.into(),
        streams: [false, true].map(|r| [stream(r, false), stream(r, true)]),
        message: answers::whole(answers::MESSAGE),
        message_stream: answers::writes(&answers::message_events()),
    });
    loop {
        let (stream, _) = listener.accept().await.expect("connections should come in");
        stream.set_nodelay(true).expect("delays can be turned off");
        let answers = Arc::clone(&answers);
        // A proxy that hangs up is its own business: the client sees what comes of it.
        tokio::spawn(async move { drop(converse(stream, &answers).await) });
    }
}

/// Answers what comes on one connection, until it ends.
async fn converse(mut stream: TcpStream, answers: &Answers) -> std::io::Result<()> {
    let mut received = BytesMut::with_capacity(64 << 10);
    while let Some(wanted) = next_request(&mut stream, &mut received).await? {
        match wanted {
            Wanted::Healthy => stream.write_all(&answers.healthy).await?,
            Wanted::Models => stream.write_all(&answers.models).await?,
            Wanted::Plain => stream.write_all(&answers.plain).await?,
            Wanted::Stream { reasoning, usage, pace } => {
                let events = &answers.streams[usize::from(reasoning)][usize::from(usage)];
                stream.write_all(&answers.stream_head).await?;
                write_events(&mut stream, events, pace).await?;
            }
            Wanted::Message => stream.write_all(&answers.message).await?,
            Wanted::MessageStream => {
                stream.write_all(&answers.stream_head).await?;
                write_events(&mut stream, &answers.message_stream, Pace::Steady).await?;
            }
        }
    }
    Ok(())
}

async fn write_events(stream: &mut TcpStream, events: &[Bytes], pace: Pace) -> std::io::Result<()> {
    for event in events {
        match pace {
            Pace::Burst | Pace::Idle => tokio::task::yield_now().await,
            Pace::Steady => tokio::time::sleep(PACE).await,
        }
        stream.write_all(event).await?;
        if matches!(pace, Pace::Idle) {
            // The end of the connection is all that is still to come.
            let left = stream.read(&mut [0]).await?;
            return Err(std::io::Error::other(format!("{left} bytes after the request")));
        }
    }
    Ok(())
}

/// Reads one request; `None` at the connection's end.
async fn next_request(
    stream: &mut TcpStream,
    received: &mut BytesMut,
) -> std::io::Result<Option<Wanted>> {
    let head = loop {
        if let Some(end) = memmem::find(received, b"\r\n\r\n") {
            break received.split_to(end + 4);
        }
        if stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
    };
    let length = content_length(&head);
    received.reserve(length.saturating_sub(received.len()));
    while received.len() < length {
        if stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
    }
    let wanted = wanted(&head, &received[..length]);
    received.advance(length);
    Ok(Some(wanted))
}

fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let value = head.split_once("\r\ncontent-length:").and_then(|(_, rest)| rest.split_once('\r'));
    value.map_or(0, |(value, _)| value.trim().parse().expect("a length should be a number"))
}

fn wanted(head: &[u8], body: &[u8]) -> Wanted {
    let has = |text: &str| memmem::find(body, text.as_bytes()).is_some();
    if head.starts_with(b"GET /health ") {
        return Wanted::Healthy;
    }
    if head.starts_with(b"GET ") {
        return Wanted::Models;
    }
    let stream = has(r#""stream":true"#);
    if head.starts_with(b"POST /v1/messages ") {
        return if stream { Wanted::MessageStream } else { Wanted::Message };
    }
    if !stream {
        return Wanted::Plain;
    }
    // By the client's name of the model or the provider's, whichever has come through.
    let named = |name: &str| has(&format!(r#""model":"{name}"#)) || has(&format!("bench/{name}"));
    let pace = match (named("idle"), named("burst")) {
        (true, _) => Pace::Idle,
        (_, true) => Pace::Burst,
        (false, false) => Pace::Steady,
    };
    Wanted::Stream { reasoning: named("think"), usage: has(r#""include_usage":true"#), pace }
}
