//! HTTP/2's control frames, counted as they arrive. Each costs its sender nine bytes and us an
//! answer; the h2 crate answers as many as come.

use std::time::Instant;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;

/// Control frames a client may send at once: more than any does in earnest …
const BURST: u32 = 250;
/// … and in each second after that.
const EACH_SECOND: u32 = 100;

const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
/// The last type of RFC 9113; others mean nothing to us.
const CONTINUATION: u8 = 9;

/// Watches what one client sends.
#[derive(Debug)]
pub struct Frames {
    state: State,
    left: u32,
    since: Option<Instant>,
}

#[derive(Debug)]
enum State {
    /// So many bytes of the preface have come.
    Preface(usize),
    Frame {
        head: [u8; HEAD],
        have: usize,
        payload: usize,
    },
    /// No HTTP/2.
    Other,
}

impl Frames {
    pub fn new() -> Self {
        Self { state: State::Preface(0), left: BURST, since: None }
    }

    /// Whether the connection has begun as one of HTTP/2.
    pub fn are_there(&self) -> bool {
        matches!(self.state, State::Frame { .. })
    }

    /// Takes the next bytes in; false when their sender floods us.
    pub fn allows(&mut self, bytes: &[u8]) -> bool {
        match self.count(bytes) {
            0 => true,
            control => self.spend(control, Instant::now()),
        }
    }

    /// The control frames whose heads end within these bytes.
    fn count(&mut self, mut bytes: &[u8]) -> u32 {
        let mut control = 0;
        while !bytes.is_empty() {
            match &mut self.state {
                State::Other => break,
                State::Preface(have) => {
                    let rest = PREFACE.get(*have..).unwrap_or_default();
                    let (now, later) = bytes.split_at(rest.len().min(bytes.len()));
                    if !rest.starts_with(now) {
                        self.state = State::Other;
                        break;
                    }
                    *have += now.len();
                    bytes = later;
                    if *have == PREFACE.len() {
                        self.state = State::Frame { head: [0; HEAD], have: 0, payload: 0 };
                    }
                }
                State::Frame { payload, .. } if *payload > 0 => {
                    let skipped = (*payload).min(bytes.len());
                    *payload -= skipped;
                    bytes = bytes.get(skipped..).unwrap_or_default();
                }
                State::Frame { head, have, payload } => {
                    let missing = head.get_mut(*have..).unwrap_or_default();
                    let (now, later) = bytes.split_at(missing.len().min(bytes.len()));
                    for (to, from) in missing.iter_mut().zip(now) {
                        *to = *from;
                    }
                    *have += now.len();
                    bytes = later;
                    if *have == HEAD {
                        let [a, b, c, kind, ..] = *head;
                        *payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                        *have = 0;
                        control += u32::from(is_control(kind));
                    }
                }
            }
        }
        control
    }

    fn spend(&mut self, frames: u32, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let seconds = now.saturating_duration_since(since).as_secs();
        if seconds > 0 {
            let earned = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(EACH_SECOND);
            self.left = self.left.saturating_add(earned).min(BURST);
            self.since = Some(now);
        }
        let left = self.left.checked_sub(frames);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

/// Frames that carry nothing. `WINDOW_UPDATE` is none of them: whoever reads much sends many.
fn is_control(kind: u8) -> bool {
    matches!(kind, PRIORITY | RST_STREAM | SETTINGS | PING) || kind > CONTINUATION
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, 0, 0, 0, 0, 0];
        frame.extend(vec![b'P'; payload]);
        frame
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let frames = [frame(4, 18), frame(1, 300), frame(0, 70_000), frame(8, 4), frame(6, 8)];
        let bytes = [PREFACE, &frames.concat(), &frame(3, 4), &frame(99, 0)].concat();
        for size in [1, 2, 7, 9, 24, 1000, bytes.len()] {
            let mut watched = Frames::new();
            let found: u32 = bytes.chunks(size).map(|piece| watched.count(piece)).sum();
            assert_eq!(found, 4, "in pieces of {size}");
        }
    }

    #[test]
    fn anything_but_http_2_is_none_of_its_business() {
        for text in ["GET / HTTP/1.1\r\nhost: x\r\n\r\n", "PRI * HTTP/1.1\r\n\r\n", "POST / HTTP"] {
            let mut watched = Frames::new();
            assert!(watched.allows(text.as_bytes()));
            assert_eq!(watched.count(&frame(6, 8).repeat(2000)), 0, "{text}");
        }
    }

    #[test]
    fn a_flood_is_refused_and_a_ping_now_and_then_is_not() {
        let mut watched = Frames::new();
        assert!(watched.allows(PREFACE));
        assert!(watched.allows(&frame(6, 8).repeat(250)));
        assert!(!watched.allows(&frame(6, 8)));

        let mut watched = Frames::new();
        let begun = Instant::now();
        for second in 0..10_000 {
            assert!(watched.spend(100, begun + Duration::from_secs(second)), "{second}");
        }
        // Sent in a quiet tone, a ping costs nothing later.
        assert!(watched.spend(250, begun + Duration::from_secs(20_000)));
        assert!(!watched.spend(101, begun + Duration::from_secs(20_001)));
    }
}
