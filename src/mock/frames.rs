//! AWS's event streams, written: a prelude (two lengths and their checksum), headers, a payload, and a
//! checksum of it all (<https://smithy.io/2.0/aws/amazon-eventstream.html>).

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};

use super::reply::{Body, Reply};

/// What such a stream is called.
const FRAMES: &str = "application/vnd.amazon.eventstream";
/// The two lengths and their checksum, and the checksum at the end.
const AROUND: usize = 16;
/// The type of a header that is text.
const TEXT: u8 = 7;

/// A stream of these frames.
pub fn stream(frames: Vec<Bytes>) -> Reply {
    Reply { content_type: FRAMES, ..Reply::stream(frames) }
}

/// Whether a reply is such a stream.
pub fn is_framed(reply: &Reply) -> bool {
    reply.content_type == FRAMES && matches!(reply.body, Body::Stream(_))
}

/// An event of this name.
pub fn event(name: &str, payload: &Value) -> Bytes {
    frame("event", ":event-type", name, payload)
}

/// The failure after which a stream ends.
pub fn exception(name: &str, message: &str) -> Bytes {
    frame("exception", ":exception-type", name, &json!({"message": message}))
}

fn frame(kind: &str, naming: &str, name: &str, payload: &Value) -> Bytes {
    let payload = payload.to_string();
    let mut headers = BytesMut::with_capacity(128);
    for (name, value) in
        [(naming, name), (":content-type", "application/json"), (":message-type", kind)]
    {
        // Both are ours, and short.
        headers.put_u8(u8::try_from(name.len()).unwrap_or(0));
        headers.put_slice(name.as_bytes());
        headers.put_u8(TEXT);
        headers.put_u16(u16::try_from(value.len()).unwrap_or(0));
        headers.put_slice(value.as_bytes());
    }
    let length = AROUND + headers.len() + payload.len();
    let mut frame = BytesMut::with_capacity(length);
    frame.put_u32(u32::try_from(length).unwrap_or(0));
    frame.put_u32(u32::try_from(headers.len()).unwrap_or(0));
    frame.put_u32(crc32fast::hash(&frame));
    frame.put_slice(&headers);
    frame.put_slice(payload.as_bytes());
    frame.put_u32(crc32fast::hash(&frame));
    frame.freeze()
}

#[cfg(test)]
pub mod tests {
    use aws_smithy_eventstream::frame::read_message_from;

    use super::*;

    /// A frame's name and payload, as AWS's own crate reads them.
    pub fn read(frame: &Bytes) -> (String, Value) {
        let message = read_message_from(frame.clone()).unwrap();
        let named = |header: &str| header == ":event-type" || header == ":exception-type";
        let name = message.headers().iter().find(|it| named(it.name().as_str())).unwrap();
        let name = name.value().as_string().unwrap().as_str().to_owned();
        (name, serde_json::from_slice(message.payload()).unwrap())
    }

    #[test]
    fn a_frame_is_one_that_aws_reads() {
        let start = event("messageStart", &json!({"role": "assistant"}));
        assert_eq!(read(&start), ("messageStart".to_owned(), json!({"role": "assistant"})));
        let exception = exception("throttlingException", "slow down");
        assert_eq!(read(&exception).1, json!({"message": "slow down"}));
    }
}
