//! Frames cut in any two ways end at the same places, and no length makes the reader stumble.
#![no_main]

use forebay::protocol::framing::websocket::{Frames, Place};
use libfuzzer_sys::fuzz_target;

// The first byte is the size of the pieces; the rest is the stream.
fuzz_target!(|input: &[u8]| {
    let [size, stream @ ..] = input else { return };
    let ends = ends(stream, stream.len().max(1));
    assert_eq!(self::ends(stream, usize::from(*size) + 1), ends);
    assert_eq!(self::ends(stream, 1), ends);
});

/// Where frames end, and whether a close frame has passed.
fn ends(stream: &[u8], size: usize) -> (Vec<usize>, bool) {
    let (mut frames, mut ends, mut at) = (Frames::default(), Vec::new(), 0);
    for mut piece in stream.chunks(size) {
        while !piece.is_empty() {
            let read = frames.read(piece);
            assert!((1..=piece.len()).contains(&read));
            at += read;
            piece = &piece[read..];
            if frames.place() != Place::WithinFrame {
                ends.push(at);
            }
        }
    }
    (ends, frames.is_closed())
}
