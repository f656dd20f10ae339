//! Server-sent events each read as one, those as well that the decoder hands out in parts.

use bytes::{Bytes, BytesMut};

use super::sse::{Decoder, Event};

/// The most bytes of one event. Pictures come in one piece, in base64.
const LONGEST: usize = 32 << 20;

/// An event that has more bytes than are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Cuts a byte stream into events. Push a chunk, then take events until there are none.
#[derive(Debug)]
pub struct WholeEvents {
    decoder: Decoder,
    /// By how a large event begins: whether anybody reads it.
    is_needed: fn(&[u8]) -> bool,
    /// The large event under way, so far.
    large: Option<Large>,
    /// The event behind a large one whose end was seen only with it.
    behind: Option<Event>,
}

#[derive(Debug)]
enum Large {
    Kept(BytesMut),
    PassedOver,
}

impl Default for WholeEvents {
    fn default() -> Self {
        Self::skipping(|_| true)
    }
}

impl WholeEvents {
    /// Passes over large events that are not needed, by how they begin (nearly a mebibyte of them).
    pub fn skipping(is_needed: fn(&[u8]) -> bool) -> Self {
        Self { decoder: Decoder::default(), is_needed, large: None, behind: None }
    }

    pub fn push(&mut self, chunk: Bytes) {
        self.decoder.push(chunk);
    }

    /// What is left at the end of the stream: an event without its blank line.
    pub fn finish(&mut self) -> Option<Event> {
        let rest = self.decoder.finish();
        if self.large.is_some() { self.whole() } else { rest }
    }

    /// The large event, which is over.
    fn whole(&mut self) -> Option<Event> {
        match self.large.take()? {
            Large::Kept(raw) => Some(Event::read(raw.freeze(), false)),
            Large::PassedOver => None,
        }
    }

    fn part(&mut self, raw: &Bytes) -> Result<(), TooLong> {
        let large = self.large.get_or_insert_with(|| {
            if (self.is_needed)(raw) { Large::Kept(BytesMut::new()) } else { Large::PassedOver }
        });
        if let Large::Kept(kept) = large {
            if kept.len() + raw.len() > LONGEST {
                return Err(TooLong);
            }
            kept.extend_from_slice(raw);
        }
        Ok(())
    }
}

impl Iterator for WholeEvents {
    type Item = Result<Event, TooLong>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(behind) = self.behind.take() {
            return Some(Ok(behind));
        }
        while let Some(event) = self.decoder.next() {
            if !event.oversized {
                let Some(large) = self.whole() else { return Some(Ok(event)) };
                self.behind = Some(event);
                return Some(Ok(large));
            }
            if let Err(too_long) = self.part(&event.raw) {
                return Some(Err(too_long));
            }
            if !self.decoder.is_within_oversized()
                && let Some(whole) = self.whole()
            {
                return Some(Ok(whole));
            }
        }
        // The end of some is known only by what comes behind it.
        if self.decoder.is_within_oversized() { None } else { self.whole().map(Ok) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stream: &str, size: usize, mut events: WholeEvents) -> Vec<String> {
        let mut read = Vec::new();
        for chunk in stream.as_bytes().chunks(size) {
            events.push(Bytes::copy_from_slice(chunk));
            for event in events.by_ref() {
                read.push(event.unwrap());
            }
        }
        read.extend(events.finish());
        let data = read.into_iter().map(|event| event.data.unwrap().to_vec());
        data.map(|data| String::from_utf8(data).unwrap()).collect()
    }

    #[test]
    fn an_event_of_megabytes_is_one() {
        let large = "x".repeat(3 << 20);
        for end in ["\n\n", "\r\n\r\n", "\r\r"] {
            let stream = format!("data: a{end}event: e{end}data: {large}{end}data: b{end}");
            let stream = stream.replacen(&format!("event: e{end}"), "event: e\n", 1);
            for size in [65_536, (1 << 20) + 7, stream.len()] {
                let events = read(&stream, size, WholeEvents::default());
                assert!(events == ["a", large.as_str(), "b"], "{end:?} {size}");
            }
            // The network cuts right behind what may be the end.
            let cut = stream.len() - "data: b".len() - end.len();
            assert!(read(&stream, cut, WholeEvents::default()) == ["a", large.as_str(), "b"]);
        }
    }

    #[test]
    fn a_large_event_that_nobody_reads_is_passed_over_however_large() {
        let large = "x".repeat(40 << 20);
        let stream = format!("data: a\n\nevent: picture\ndata: {large}\n\ndata: b\n\n");
        let skipping = WholeEvents::skipping(|head| !head.starts_with(b"event: picture"));
        assert_eq!(read(&stream, 1 << 20, skipping), ["a", "b"]);
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut events = WholeEvents::default();
        events.push(Bytes::from_static(b"data: "));
        let piece = Bytes::from(vec![b'a'; 1 << 20]);
        let pieces = (0..40).take_while(|_| {
            events.push(piece.clone());
            events.next().is_none()
        });
        assert_eq!(pieces.count(), 31);
    }
}
