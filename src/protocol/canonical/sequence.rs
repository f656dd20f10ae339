//! Interleaved blocks, one after the other.
//!
//! Calls that are made in parallel may be told in turns, as chats do by their `index`. Most dialects know
//! one open block at a time: there a block waits until those opened before it are closed.

use std::collections::VecDeque;

use super::{Delta, Event, Failure, Opening, Source};

/// The most bytes that may wait; a file that a tool shall write is far below it.
const MOST_KEPT: usize = 4 << 20;

/// What a waiting block or delta takes beside its text.
const OVERHEAD: usize = 128;

/// Makes of a stream one whose blocks are strictly sequential: `Open`, its `Delta`s, `Close`, and only
/// then the next `Open`. Order and indices are those of the stream that comes in.
///
/// The block opened first passes at once; what belongs to a later one is kept, its deltas of one kind
/// joined, and told when the earlier ones are closed. Blocks still open at the `End` are closed before it.
/// More than 4 MiB kept is a failure. After `End` or `Failed` nothing is told any more.
#[derive(Debug, Default)]
pub struct Sequence {
    /// The block whose deltas pass.
    open: Option<u32>,
    /// Blocks not told of yet, in the order they were opened.
    waiting: VecDeque<Waiting>,
    /// The bytes of all that wait.
    kept: usize,
    /// Calls are told whole.
    gathers_calls: bool,
    over: bool,
}

#[derive(Debug)]
struct Waiting {
    index: u32,
    block: Opening,
    deltas: Vec<Delta>,
    closed: bool,
    bytes: usize,
}

impl Sequence {
    pub fn new() -> Self {
        Self::default()
    }

    /// One that keeps each call until it is closed, and then tells it as `Open`, at most one
    /// `Arguments` and at most one `Signature`, and `Close`.
    pub fn gathering_calls() -> Self {
        Self { gathers_calls: true, ..Self::default() }
    }

    /// Whether the event goes through as it is, and nothing before or behind it. It need not be copied
    /// for `push` then.
    pub fn passes(&self, event: &Event) -> bool {
        !self.over
            && match event {
                Event::Start(_) | Event::Ping => true,
                Event::Delta { index, .. } => self.open == Some(*index),
                _ => false,
            }
    }

    /// Takes an event in; what may be told now goes to `out`.
    pub fn push(&mut self, event: Event, out: &mut Vec<Event>) {
        if self.over {
            return;
        }
        match event {
            Event::Start(_) | Event::Ping => out.push(event),
            Event::Open { index, block } => {
                let bytes = OVERHEAD + size_of_opening(&block);
                let waiting = Waiting { index, block, deltas: Vec::new(), closed: false, bytes };
                self.kept += bytes;
                self.waiting.push_back(waiting);
                self.tell(out);
            }
            Event::Delta { index, .. } if self.open == Some(index) => out.push(event),
            Event::Delta { index, delta } => self.keep(index, delta),
            Event::Close { index } if self.open == Some(index) => {
                self.open = None;
                out.push(event);
                self.tell(out);
            }
            Event::Close { index } => {
                if let Some(block) = self.waiting.iter_mut().find(|it| it.index == index) {
                    block.closed = true;
                }
                self.tell(out);
            }
            Event::End(_) => {
                self.waiting.iter_mut().for_each(|block| block.closed = true);
                out.extend(self.open.take().map(|index| Event::Close { index }));
                self.tell(out);
                self.over = true;
                out.push(event);
            }
            Event::Failed(_) => self.fail(event, out),
        }
        if self.kept > MOST_KEPT {
            let message = "The provider interleaves more blocks than can be kept.".to_owned();
            self.fail(Event::Failed(Failure { message, ..Failure::cut_off() }), out);
        }
    }

    /// Tells the blocks whose turn it is.
    fn tell(&mut self, out: &mut Vec<Event>) {
        while self.open.is_none()
            && let Some(next) = self.waiting.front()
        {
            let is_call = matches!(next.block, Opening::ToolUse { .. });
            if self.gathers_calls && is_call && !next.closed {
                return;
            }
            let Some(next) = self.waiting.pop_front() else { return };
            let Waiting { index, block, deltas, closed, bytes } = next;
            self.kept -= bytes;
            out.push(Event::Open { index, block });
            out.extend(deltas.into_iter().map(|delta| Event::Delta { index, delta }));
            if closed {
                out.push(Event::Close { index });
            } else {
                self.open = Some(index);
            }
        }
    }

    fn keep(&mut self, index: u32, delta: Delta) {
        let Some(block) = self.waiting.iter_mut().find(|block| block.index == index) else {
            return;
        };
        let mut bytes = size_of_delta(&delta);
        if let Some(delta) = joined(&mut block.deltas, delta) {
            bytes += OVERHEAD;
            block.deltas.push(delta);
        }
        block.bytes += bytes;
        self.kept += bytes;
    }

    fn fail(&mut self, failed: Event, out: &mut Vec<Event>) {
        *self = Self { over: true, ..Self::default() };
        out.push(failed);
    }
}

/// Adds the delta to one of its kind; gives it back where there is none.
fn joined(deltas: &mut [Delta], delta: Delta) -> Option<Delta> {
    for known in deltas {
        match (known, &delta) {
            (Delta::Text(text), Delta::Text(more))
            | (Delta::Thinking(text), Delta::Thinking(more))
            | (Delta::Arguments(text), Delta::Arguments(more))
            | (Delta::Refusal(text), Delta::Refusal(more)) => text.push_str(more),
            (Delta::Signature(signature), Delta::Signature(more)) => {
                signature.data.push_str(&more.data);
            }
            _ => continue,
        }
        return None;
    }
    Some(delta)
}

fn size_of_opening(block: &Opening) -> usize {
    match block {
        Opening::Text | Opening::Thinking | Opening::Refusal => 0,
        Opening::RedactedThinking(signature) => signature.data.len(),
        Opening::ToolUse { id, name, namespace, .. } => {
            id.len() + name.len() + namespace.as_ref().map_or(0, String::len)
        }
        Opening::Image(image) => match &image.source {
            Source::Base64(text) | Source::Url(text) | Source::File(text) | Source::Text(text) => {
                text.len()
            }
        },
    }
}

fn size_of_delta(delta: &Delta) -> usize {
    match delta {
        Delta::Text(text)
        | Delta::Thinking(text)
        | Delta::Arguments(text)
        | Delta::Refusal(text) => text.len(),
        Delta::Signature(signature) => signature.data.len(),
        Delta::Annotation(annotation) => {
            annotation.url.len() + annotation.title.as_ref().map_or(0, String::len)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Dialect;
    use crate::protocol::canonical::{Collector, End, Signature, Start, ToolKind};
    use proptest::prelude::*;

    fn call(index: u32) -> Event {
        let (id, name) = (format!("c{index}"), "f".to_owned());
        let kind = ToolKind::Function;
        Event::Open { index, block: Opening::ToolUse { id, name, namespace: None, kind } }
    }

    fn arguments(index: u32, text: &str) -> Event {
        Event::Delta { index, delta: Delta::Arguments(text.to_owned()) }
    }

    fn run(mut sequence: Sequence, events: impl IntoIterator<Item = Event>) -> Vec<Event> {
        let mut out = Vec::new();
        for event in events {
            let (passes, before) = (sequence.passes(&event), out.len());
            sequence.push(event.clone(), &mut out);
            if passes {
                assert_eq!(out.get(before..), Some(&[event][..]));
            }
        }
        out
    }

    #[test]
    fn a_block_waits_for_those_before_it() {
        let events = run(
            Sequence::new(),
            [
                call(0),
                call(1),
                arguments(1, "{"),
                arguments(0, "a"),
                arguments(1, "}"),
                Event::Close { index: 0 },
                arguments(1, " "),
                Event::Close { index: 1 },
            ],
        );
        let wanted = [
            call(0),
            arguments(0, "a"),
            Event::Close { index: 0 },
            call(1),
            arguments(1, "{}"),
            arguments(1, " "),
            Event::Close { index: 1 },
        ];
        assert_eq!(events, wanted);
    }

    #[test]
    fn blocks_closed_out_of_order_are_told_in_the_order_they_were_opened() {
        let closes = [2, 1, 0].map(|index| Event::Close { index });
        let events = run(Sequence::new(), [call(0), call(1), call(2)].into_iter().chain(closes));
        let wanted = [0, 1, 2].map(|index| [call(index), Event::Close { index }]).concat();
        assert_eq!(events, wanted);
    }

    #[test]
    fn a_call_is_gathered_whole_where_it_must_be() {
        let signature = |data: &str| Event::Delta {
            index: 1,
            delta: Delta::Signature(Signature { dialect: Dialect::Gemini, data: data.to_owned() }),
        };
        let text = Event::Open { index: 0, block: Opening::Text };
        let events = run(
            Sequence::gathering_calls(),
            [
                text.clone(),
                Event::Close { index: 0 },
                call(1),
                signature("s"),
                arguments(1, "{"),
                signature("t"),
                arguments(1, "}"),
            ],
        );
        assert_eq!(events, [text.clone(), Event::Close { index: 0 }]);
        let mut sequence = Sequence::gathering_calls();
        let mut events = Vec::new();
        for event in [call(1), signature("s"), arguments(1, "{"), signature("t"), arguments(1, "}")]
        {
            sequence.push(event, &mut events);
        }
        assert_eq!(events, []);
        sequence.push(Event::Close { index: 1 }, &mut events);
        assert_eq!(
            events,
            [call(1), signature("st"), arguments(1, "{}"), Event::Close { index: 1 }]
        );
    }

    #[test]
    fn the_end_closes_what_is_open_and_is_the_end() {
        let end = Event::End(End::default());
        let events =
            run(Sequence::new(), [call(0), call(1), arguments(1, "x"), end.clone(), Event::Ping]);
        let close = |index| Event::Close { index };
        assert_eq!(events, [call(0), close(0), call(1), arguments(1, "x"), close(1), end]);
    }

    #[test]
    fn a_failure_is_told_at_once_and_what_waits_is_left_out() {
        let failed = Event::Failed(Failure::cut_off());
        let events = run(Sequence::new(), [call(0), call(1), failed.clone(), call(2)]);
        assert_eq!(events, [call(0), failed]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let piece = "x".repeat(1 << 16);
        let pieces = (0..100).map(|_| arguments(1, &piece));
        let events = run(Sequence::new(), [call(0), call(1)].into_iter().chain(pieces));
        assert!(matches!(events.as_slice(), [Event::Open { .. }, Event::Failed(_)]));
        let empty = (1..100_000).map(call);
        let events = run(Sequence::new(), std::iter::once(call(0)).chain(empty));
        assert!(matches!(events.as_slice(), [Event::Open { .. }, Event::Failed(_)]));
        // What passes at once may be as long as it likes.
        let pieces = (0..100).map(|_| arguments(0, &piece));
        assert_eq!(run(Sequence::new(), std::iter::once(call(0)).chain(pieces)).len(), 101);
    }

    /// Events of calls that are told in turns, as `turns` says.
    fn interleaved(turns: &[u8]) -> Vec<Event> {
        let mut events = vec![Event::Start(Start::default())];
        let (mut opened, mut closed) = (0, Vec::new());
        for turn in turns {
            let index = u32::from(turn / 4);
            if index >= opened {
                events.push(call(opened));
                opened += 1;
            } else if closed.contains(&index) {
            } else if turn % 4 == 0 {
                closed.push(index);
                events.push(Event::Close { index });
            } else {
                events.push(arguments(index, &turn.to_string()));
            }
        }
        let open = (0..opened).filter(|index| !closed.contains(index));
        events.extend(open.map(|index| Event::Close { index }));
        events.push(Event::End(End::default()));
        events
    }

    fn collected(events: Vec<Event>) -> Option<crate::protocol::canonical::Response> {
        let mut collector = Collector::default();
        events.into_iter().find_map(|event| collector.push(event).unwrap())
    }

    proptest! {
        #[test]
        fn whatever_the_turns_the_answer_is_the_same_and_one_block_is_open_at_a_time(
            turns in prop::collection::vec(0u8..20, 0..60), gathers in any::<bool>(),
        ) {
            let events = interleaved(&turns);
            let sequence =
                if gathers { Sequence::gathering_calls() } else { Sequence::new() };
            let told = run(sequence, events.clone());
            let mut open = None;
            for event in &told {
                match event {
                    Event::Open { index, .. } => prop_assert_eq!(open.replace(*index), None),
                    Event::Delta { index, .. } => prop_assert_eq!(open, Some(*index)),
                    Event::Close { index } => prop_assert_eq!(open.take(), Some(*index)),
                    _ => prop_assert_eq!(open, None),
                }
            }
            prop_assert_eq!(collected(told), collected(events));
        }
    }
}
