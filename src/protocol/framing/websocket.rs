//! WebSocket frames, read only as far as it takes to know where one ends, and the frame that ends
//! a connection.
//!
//! A frame is a head of two bytes, up to eight more of length, four of a mask when a client sent
//! it, and the payload (RFC 6455 §5.2). What it says is nobody's business here.

use bytes::{BufMut, Bytes, BytesMut};

/// The status of an end that goes away, as a server that stops does (RFC 6455 §7.4.1).
pub const GOING_AWAY: u16 = 1001;

/// A control frame's payload has at most 125 bytes, two of which are the status.
const LONGEST_REASON: usize = 123;

const FINAL: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const CONTROL: u8 = 0x08;
const CLOSE: u8 = 0x08;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;

/// Follows the frames of one direction.
#[derive(Debug, Default)]
pub struct Frames {
    /// The bytes of the head under way, the last one lowest, and how many they are.
    head: u128,
    read: u32,
    /// The first of them.
    first: u8,
    /// Bytes of length behind the first two.
    extended: u32,
    masked: bool,
    /// What is missing of the frame whose head is read.
    left: Option<u64>,
    /// A message has begun whose last frame has not come.
    fragmented: bool,
    closed: bool,
}

/// What the bytes read so far end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    WithinFrame,
    /// Between two frames of one message. Control frames may stand here (RFC 6455 §5.4).
    WithinMessage,
    Between,
}

impl Frames {
    /// Reads on to the end of the frame under way, or of `bytes`: how many of them that takes.
    pub fn read(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes.iter();
        let left = loop {
            if let Some(left) = self.left {
                break left;
            }
            let Some(byte) = rest.next() else { return bytes.len() };
            self.read_head(*byte);
        };
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let left = left - here as u64;
        self.left = Some(left);
        let read = bytes.len() - rest.len() + here;
        if left == 0 {
            self.end_frame();
        }
        read
    }

    /// Reads all of `bytes`.
    pub fn read_all(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let read = self.read(bytes);
            bytes = bytes.get(read..).unwrap_or_default();
        }
    }

    pub fn place(&self) -> Place {
        match (self.read, self.fragmented) {
            (0, false) => Place::Between,
            (0, true) => Place::WithinMessage,
            _ => Place::WithinFrame,
        }
    }

    /// Whether a close frame has passed, behind which nothing may come.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn read_head(&mut self, byte: u8) {
        self.head = self.head << 8 | u128::from(byte);
        self.read += 1;
        match self.read {
            1 => self.first = byte,
            2 => {
                self.masked = byte & MASKED != 0;
                self.extended = match byte & LENGTH {
                    126 => 2,
                    127 => 8,
                    _ => 0,
                };
            }
            _ => {}
        }
        if self.read < 2 || self.read < 2 + self.extended {
            return;
        }
        let bits = if self.extended == 0 { 7 } else { self.extended * 8 };
        let length = u64::try_from(self.head & ((1 << bits) - 1)).unwrap_or(u64::MAX);
        // A length may be anything up to 2^64 - 1, whatever the standard says.
        self.left = Some(length.saturating_add(if self.masked { 4 } else { 0 }));
    }

    fn end_frame(&mut self) {
        if self.first & CONTROL == 0 {
            self.fragmented = self.first & FINAL == 0;
        }
        self.closed |= self.first & OPCODE == CLOSE;
        (self.head, self.read, self.left) = (0, 0, None);
    }
}

/// A close frame. Clients must mask theirs, with a key that cannot be foreseen (RFC 6455 §5.3).
pub fn close(status: u16, reason: &str, mask: Option<[u8; 4]>) -> Bytes {
    let reason = reason.get(..reason.floor_char_boundary(LONGEST_REASON)).unwrap_or_default();
    let payload = status.to_be_bytes().into_iter().chain(reason.bytes());
    let mut frame = BytesMut::with_capacity(8 + reason.len());
    frame.put_u8(FINAL | CLOSE);
    let length = u8::try_from(2 + reason.len()).unwrap_or(2);
    match mask {
        None => {
            frame.put_u8(length);
            frame.extend(payload);
        }
        Some(mask) => {
            frame.put_u8(MASKED | length);
            frame.extend_from_slice(&mask);
            frame.extend(payload.zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
    }
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame with these two bits of head, and a payload that looks like heads of frames.
    fn frame(first: u8, masked: bool, length: usize) -> Vec<u8> {
        let mut frame = vec![first];
        let mask = if masked { MASKED } else { 0 };
        match length {
            0..=125 => frame.push(mask | u8::try_from(length).unwrap()),
            126..=0xffff => {
                frame.push(mask | 0x7e);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | 0x7f);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(if masked { vec![0x88; 4] } else { Vec::new() });
        frame.extend(vec![0x88; length]);
        frame
    }

    fn after(bytes: &[u8]) -> Frames {
        let mut frames = Frames::default();
        frames.read_all(bytes);
        frames
    }

    #[test]
    fn a_frame_ends_where_its_length_says_in_each_way_to_say_it() {
        for length in [0, 1, 125, 126, 127, 0xffff, 0x1_0000, 0x2_0003] {
            for masked in [false, true] {
                let bytes = frame(0x82, masked, length);
                let short = after(&bytes[..bytes.len() - 1]);
                assert_eq!(short.place(), Place::WithinFrame, "{length} {masked}");
                let whole = after(&bytes);
                assert_eq!(whole.place(), Place::Between, "{length} {masked}");
                assert!(!whole.is_closed());
            }
        }
    }

    #[test]
    fn a_length_may_be_said_in_more_bytes_than_it_needs() {
        assert_eq!(after(&[0x81, 126, 0, 1, b'x']).place(), Place::Between);
        assert_eq!(after(&[0x81, 127, 0, 0, 0, 0, 0, 0, 0, 1, b'x']).place(), Place::Between);
    }

    #[test]
    fn a_message_in_fragments_is_over_with_its_last_one() {
        let mut frames = Frames::default();
        frames.read_all(&frame(0x01, false, 3));
        assert_eq!(frames.place(), Place::WithinMessage);
        frames.read_all(&frame(0x89, false, 4));
        assert_eq!(frames.place(), Place::WithinMessage, "a ping is no part of it");
        frames.read_all(&frame(0x00, false, 3));
        assert_eq!(frames.place(), Place::WithinMessage);
        frames.read_all(&frame(0x80, false, 0));
        assert_eq!(frames.place(), Place::Between);
    }

    #[test]
    fn a_close_frame_counts_once_it_is_whole() {
        let bytes = close(GOING_AWAY, "shutting down", None);
        let mut frames = after(&bytes[..bytes.len() - 1]);
        assert!(!frames.is_closed());
        frames.read_all(&bytes[bytes.len() - 1..]);
        assert!(frames.is_closed() && frames.place() == Place::Between);
    }

    #[test]
    fn a_frame_without_end_never_ends() {
        for masked in [0, MASKED] {
            let mut frames = after(&[0x82, 127 | masked]);
            frames.read_all(&[0xff; 8]);
            for _ in 0..1000 {
                assert_eq!(frames.read(&[0; 4096]), 4096);
            }
            assert_eq!(frames.place(), Place::WithinFrame);
        }
    }

    #[test]
    fn reading_stops_behind_each_frame() {
        let bytes = [frame(0x81, false, 5), frame(0x8a, false, 0), vec![0x81]].concat();
        let mut frames = Frames::default();
        assert_eq!(frames.read(&bytes), 7);
        assert_eq!(frames.read(&bytes[7..]), 2);
        assert_eq!((frames.read(&bytes[9..]), frames.place()), (1, Place::WithinFrame));
        assert_eq!(frames.read(&[]), 0);
    }

    #[test]
    fn a_close_frame_is_written_as_the_standard_wants_it() {
        assert_eq!(close(1001, "bye", None).as_ref(), b"\x88\x05\x03\xe9bye");
        let masked = close(1001, "bye", Some([1, 2, 3, 4]));
        assert_eq!(
            masked.as_ref(),
            [0x88, 0x85, 1, 2, 3, 4, 0x02, 0xeb, b'b' ^ 3, b'y' ^ 4, b'e' ^ 1]
        );
        let long = close(1001, &"ä".repeat(100), None);
        assert_eq!((long.len(), long[1]), (2 + 2 + 122, 124), "whole letters only");
        assert_eq!(after(&long).place(), Place::Between);
    }

    proptest! {
        #[test]
        fn however_bytes_are_cut_the_place_is_the_same(
            given in prop::collection::vec((any::<u8>(), any::<bool>(), 0usize..300), 1..6),
            cuts in prop::collection::vec(1usize..40, 1..20),
        ) {
            let mut bytes = Vec::new();
            let mut ends = Vec::new();
            let (mut fragmented, mut closed) = (false, false);
            for (first, masked, length) in given {
                bytes.extend(frame(first, masked, length));
                if first & 0x08 == 0 {
                    fragmented = first & 0x80 == 0;
                }
                closed |= first & 0x0f == 8;
                ends.push((bytes.len(), fragmented, closed));
            }
            let mut frames = Frames::default();
            let (mut at, mut cuts) = (0, cuts.into_iter().cycle());
            while at < bytes.len() {
                let end = (at + cuts.next().unwrap()).min(bytes.len());
                frames.read_all(&bytes[at..end]);
                at = end;
                let passed = ends.iter().rev().find(|(end, ..)| *end <= at);
                let (ended, fragmented, closed) = passed.copied().unwrap_or((0, false, false));
                let expected = match (ended == at, fragmented) {
                    (false, _) => Place::WithinFrame,
                    (true, true) => Place::WithinMessage,
                    (true, false) => Place::Between,
                };
                prop_assert_eq!(frames.place(), expected);
                prop_assert_eq!(frames.is_closed(), closed);
            }
        }

        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut whole = Frames::default();
            whole.read_all(&bytes);
            let mut single = Frames::default();
            for byte in &bytes {
                single.read_all(&[*byte]);
            }
            prop_assert_eq!(whole.place(), single.place());
            prop_assert_eq!(whole.is_closed(), single.is_closed());
        }
    }
}
