//! An event stream cut in any two ways gives the same messages, and its bytes.
#![no_main]

use bytes::Bytes;
use forebay::protocol::framing::eventstream::{Decoder, Malformed, Message};
use libfuzzer_sys::fuzz_target;

// The first byte is the size of the pieces; the rest is the stream.
fuzz_target!(|input: &[u8]| {
    let [size, stream @ ..] = input else { return };
    let messages = decode(stream, stream.len().max(1));
    assert_eq!(decode(stream, usize::from(*size) + 1), messages);
    let mut raw = Vec::new();
    for message in messages.iter().flatten() {
        raw.extend_from_slice(&message.raw);
        let _ = (message.kind(), message.header(":content-type"));
    }
    assert!(stream.starts_with(&raw));
    // Nothing is taken behind the first error.
    assert!(messages.iter().rev().skip(1).all(Result::is_ok));
});

fn decode(stream: &[u8], size: usize) -> Vec<Result<Message, Malformed>> {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    for piece in stream.chunks(size) {
        decoder.push(Bytes::copy_from_slice(piece));
        messages.extend(decoder.by_ref());
    }
    messages
}
