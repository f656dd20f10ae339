//! Streamed answers: each event reaches the caller as soon as it is there.

use bytes::BytesMut;

use crate::support::answer::{self, Answer, Cue, DONE, content, usage_event};
use crate::support::client::{CHAT, stream_body};
use crate::support::gateway::{self, Gateway};
use crate::support::http2::{Http2, Incoming2};
use crate::support::upstream::{self, Upstream};

async fn live() -> (answer::Cues, Upstream, Gateway) {
    let (cues, feed) = answer::feed();
    let upstream = upstream::always(Answer::live(feed)).await;
    let gateway = gateway::front(&upstream).await;
    (cues, upstream, gateway)
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let (cues, _upstream, gateway) = live().await;
    let words = ["The", " quick", " brown", " fox"];
    cues.send(content(words[0]));
    let mut stream = gateway.client().stream("hi").await;
    for (index, word) in words.iter().enumerate() {
        // The next one is not even written before this one has arrived.
        if index > 0 {
            cues.send(content(word));
        }
        let event = stream.event().await.expect("an event");
        assert_eq!(event, content(word).trim_end(), "{word}");
    }
    cues.send(DONE);
    cues.end();
    let reply = stream.rest().await.ok();
    assert_eq!(reply.text(), DONE);
}

#[tokio::test]
async fn events_arrive_one_by_one_over_http2() {
    let (cues, _upstream, gateway) = live().await;
    let mut http2 = Http2::connect(gateway.address).await;
    cues.send(content("one"));
    let mut stream = http2.post(CHAT, stream_body("hi").to_string()).await;
    assert_eq!(stream.status, 200);
    assert_eq!(stream.headers["content-type"], answer::EVENT_STREAM);
    assert_eq!(arrived(&mut stream, content("one").len()).await, content("one"));
    for word in [" two", " three"] {
        cues.send(content(word));
        assert_eq!(arrived(&mut stream, content(word).len()).await, content(word));
    }
    cues.send(DONE);
    cues.end();
    assert_eq!(stream.rest().await.body, DONE);
}

/// The next `length` bytes.
async fn arrived(stream: &mut Incoming2, length: usize) -> String {
    let mut bytes = BytesMut::new();
    while bytes.len() < length {
        bytes.extend_from_slice(&stream.piece().await.expect("more").unwrap());
    }
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_broken_stream_is_told_in_band_over_http2_too() {
    let (cues, upstream, gateway) = live().await;
    let mut http2 = Http2::connect(gateway.address).await;
    cues.send(content("one"));
    let mut stream = http2.post(CHAT, stream_body("hi").to_string()).await;
    arrived(&mut stream, content("one").len()).await;
    cues.cue(Cue::Cut);
    let reply = stream.rest().await;
    let text = String::from_utf8_lossy(&reply.body);
    assert!(text.contains("upstream_error") && text.ends_with("\n\n"), "{text}");
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn many_streams_share_one_http2_connection() {
    let upstream = upstream::always(Answer::words(&["a", "b", "c"], false)).await;
    let gateway = gateway::front(&upstream).await;
    let mut http2 = Http2::connect(gateway.address).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(http2.post(CHAT, stream_body("hi").to_string()).await);
    }
    for stream in streams {
        let reply = stream.rest().await;
        assert!(reply.body.ends_with(DONE.as_bytes()), "{reply:?}");
    }
}

#[tokio::test]
async fn a_slow_reader_gets_everything() {
    let word = "x".repeat(10_000);
    let words = vec![word.as_str(); 400];
    let upstream = upstream::always(Answer::words(&words, false)).await;
    let gateway = gateway::front(&upstream).await;
    let mut stream = gateway.client().stream("hi").await;
    // The upstream has written all it can; nothing was read here but the head.
    stream.event().await;
    let reply = stream.rest().await.ok();
    assert_eq!(reply.streamed().len(), 4_000_000);
}

#[tokio::test]
async fn the_head_of_a_stream_promises_no_length() {
    let upstream = upstream::always(Answer::words(&["a"], false)).await;
    let gateway = gateway::front(&upstream).await;
    let reply = gateway.client().stream("hi").await.rest().await.ok();
    assert_eq!(reply.header("content-type"), Some(answer::EVENT_STREAM), "{reply:?}");
    assert_eq!(reply.header("content-length"), None, "{reply:?}");
    assert_eq!(reply.header("transfer-encoding"), Some("chunked"), "{reply:?}");
}

#[tokio::test]
async fn a_keep_alive_connection_goes_on_after_a_stream() {
    let upstream = upstream::always(Answer::words(&["a"], true)).await;
    let gateway = gateway::front(&upstream).await;
    let mut connection = gateway.client().connect().await;
    let request = gateway.client().post(CHAT, stream_body("hi").to_string());
    for _ in 0..5 {
        assert_eq!(request.over(&mut connection).await.ok().streamed(), "a");
    }
}

#[tokio::test]
async fn lines_ending_in_crlf_and_events_of_many_lines_pass_as_they_are() {
    let odd = "\u{feff}event: x\r\nid: 7\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\n: comment\r\n\r\ndata:no space\r\n\r\n";
    for size in [1, 3, 1000] {
        let pieces = odd.as_bytes().chunks(size).map(<[u8]>::to_vec);
        let upstream = upstream::always(Answer::events(pieces)).await;
        let gateway = gateway::front(&upstream).await;
        let reply = gateway.client().stream("hi").await.rest().await.ok();
        assert_eq!(reply.text(), odd, "in pieces of {size}");
    }
}

#[tokio::test]
async fn a_plain_answer_to_a_stream_request_passes() {
    let upstream = upstream::chat("not streamed").await;
    let gateway = gateway::front(&upstream).await;
    let reply = gateway.client().stream("hi").await.rest().await.ok();
    assert_eq!(reply.said(), "not streamed");
    assert_eq!(reply.header("content-length"), Some(reply.body.len().to_string().as_str()));
}

#[tokio::test]
async fn the_time_to_the_first_token_and_between_tokens_is_measured() {
    let pieces = [content("a"), content("b"), usage_event(), DONE.to_owned()];
    let upstream = upstream::always(Answer::events(pieces)).await;
    let gateway = gateway::front(&upstream).await;
    gateway.client().stream("hi").await.rest().await.ok();
    let count = |name: &str| format!(r#"{name}_count{{model="m",provider="p"}}"#);
    let first = count("forebay_time_to_first_token_seconds");
    gateway.counts(&first, 1).await;
    gateway.counts(&count("forebay_inter_token_seconds"), 1).await;
}
