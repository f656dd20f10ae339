//! A stream as one answer, and one answer as a stream.

use super::{Annotation, Block, Delta, End, Event, Failure, Opening, Response, Signature, Start};
use super::{ToolUse, Usage};

/// Gathers a stream's events into one answer.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    response: Response,
    usage: Option<Usage>,
}

impl Collector {
    /// Takes an event in; the answer once it is whole.
    pub fn push(&mut self, event: Event) -> Result<Option<Response>, Failure> {
        match event {
            Event::Start(Start { id, model, created, usage }) => {
                self.response = Response { id, model, created, ..Response::default() };
                self.usage = usage;
            }
            Event::Open { block, .. } => self.response.blocks.push(opened(block)),
            Event::Delta { index, delta } => {
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                if let Some(block) = self.response.blocks.get_mut(index) {
                    append(block, delta);
                }
            }
            Event::Close { .. } | Event::Ping => {}
            Event::End(End { stop, usage }) => {
                let mut response = std::mem::take(&mut self.response);
                response.stop = stop;
                response.usage = usage.or(self.usage);
                return Ok(Some(response));
            }
            Event::Failed(failure) => return Err(failure),
        }
        Ok(None)
    }
}

fn opened(block: Opening) -> Block {
    match block {
        Opening::Text => Block::text(""),
        Opening::Thinking => Block::Thinking { text: String::new(), signature: None },
        Opening::RedactedThinking(signature) => Block::RedactedThinking(signature),
        Opening::Refusal => Block::Refusal(String::new()),
        Opening::ToolUse { id, name, namespace, kind } => {
            let arguments = String::new();
            Block::ToolUse(ToolUse { id, name, namespace, kind, arguments, signature: None })
        }
        Opening::Image(image) => Block::Image(image),
    }
}

fn append(block: &mut Block, delta: Delta) {
    match (block, delta) {
        (Block::Text { text, .. }, Delta::Text(more))
        | (Block::Thinking { text, .. }, Delta::Thinking(more))
        | (Block::Refusal(text), Delta::Refusal(more)) => text.push_str(&more),
        (Block::Text { annotations, .. }, Delta::Annotation(annotation)) => {
            annotations.push(annotation);
        }
        (Block::ToolUse(call), Delta::Arguments(more)) => call.arguments.push_str(&more),
        (Block::ToolUse(ToolUse { signature, .. }) | Block::Thinking { signature, .. }, it) => {
            if let Delta::Signature(more) = it {
                sign(signature, more);
            }
        }
        _ => {}
    }
}

/// A signature may come in pieces.
fn sign(signature: &mut Option<Signature>, more: Signature) {
    match signature {
        Some(signature) => signature.data.push_str(&more.data),
        None => *signature = Some(more),
    }
}

/// The events of a stream that would have given this answer, each block in one piece.
pub fn replay(response: &Response) -> Vec<Event> {
    let Response { id, model, created, blocks, stop, usage } = response;
    let start = Start { id: id.clone(), model: model.clone(), created: *created, usage: *usage };
    let mut events = vec![Event::Start(start)];
    for (index, (block, deltas)) in (0..).zip(blocks.iter().filter_map(pieces)) {
        events.push(Event::Open { index, block });
        events.extend(deltas.into_iter().map(|delta| Event::Delta { index, delta }));
        events.push(Event::Close { index });
    }
    events.push(Event::End(End { stop: stop.clone(), usage: *usage }));
    events
}

fn pieces(block: &Block) -> Option<(Opening, Vec<Delta>)> {
    let signed = |signature: &Option<Signature>| signature.clone().map(Delta::Signature);
    Some(match block {
        Block::Text { text, annotations } => {
            let annotations: Vec<Annotation> = annotations.clone();
            let text = (!text.is_empty()).then(|| Delta::Text(text.clone()));
            (
                Opening::Text,
                text.into_iter().chain(annotations.into_iter().map(Delta::Annotation)).collect(),
            )
        }
        Block::Thinking { text, signature } => {
            let text = (!text.is_empty()).then(|| Delta::Thinking(text.clone()));
            (Opening::Thinking, text.into_iter().chain(signed(signature)).collect())
        }
        Block::RedactedThinking(signature) => {
            (Opening::RedactedThinking(signature.clone()), Vec::new())
        }
        Block::Refusal(text) => (Opening::Refusal, vec![Delta::Refusal(text.clone())]),
        Block::ToolUse(call) => {
            let ToolUse { id, name, namespace, kind, arguments, signature } = call.clone();
            let arguments = (!arguments.is_empty()).then_some(Delta::Arguments(arguments));
            let signature = signature.map(Delta::Signature);
            // Some dialects tell a call's signature before the call.
            let deltas = signature.into_iter().chain(arguments).collect();
            (Opening::ToolUse { id, name, namespace, kind }, deltas)
        }
        Block::Image(image) => (Opening::Image(image.clone()), Vec::new()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Dialect;
    use crate::protocol::canonical::{Sequence, Stop, ToolKind};

    fn block() -> impl Strategy<Value = Block> {
        let signature = |data: String| Signature { dialect: Dialect::Gemini, data };
        let signed = proptest::option::of("[a-z]{1,4}".prop_map(signature));
        prop_oneof![
            ".{0,9}".prop_map(|text| Block::text(&text)),
            ".{0,9}".prop_map(Block::Refusal),
            "[a-z]{1,4}".prop_map(move |data| Block::RedactedThinking(signature(data))),
            (".{0,9}", signed.clone())
                .prop_map(|(text, signature)| Block::Thinking { text, signature }),
            ("[a-z]{1,4}", ".{0,9}", signed).prop_map(|(id, arguments, signature)| {
                let (name, kind) = ("f".to_owned(), ToolKind::Function);
                Block::ToolUse(ToolUse { id, name, namespace: None, kind, arguments, signature })
            }),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_replayed_collects_to_itself_in_any_order_of_telling(
            blocks in proptest::collection::vec(block(), 0..6),
        ) {
            let response = Response { blocks, ..Response::default() };
            for sequence in [None, Some(Sequence::new()), Some(Sequence::gathering_calls())] {
                let mut told = Vec::new();
                match sequence {
                    None => told = replay(&response),
                    Some(mut sequence) => {
                        for event in replay(&response) {
                            sequence.push(event, &mut told);
                        }
                    }
                }
                let mut collector = Collector::default();
                let whole = told.into_iter().find_map(|event| collector.push(event).unwrap());
                prop_assert_eq!(whole.as_ref(), Some(&response));
            }
        }
    }

    #[test]
    fn what_is_replayed_collects_to_the_same_answer() {
        let call = ToolUse {
            id: "c1".to_owned(),
            name: "f".to_owned(),
            namespace: None,
            kind: ToolKind::Function,
            arguments: r#"{"a":1}"#.to_owned(),
            signature: None,
        };
        let response = Response {
            id: "r".to_owned(),
            model: "m".to_owned(),
            created: Some(7),
            blocks: vec![
                Block::Thinking { text: "hm".to_owned(), signature: None },
                Block::text("hi"),
                Block::ToolUse(call),
            ],
            stop: Stop::ToolUse,
            usage: Some(Usage { input: 3, output: 4, ..Usage::default() }),
        };
        let mut collector = Collector::default();
        let mut events = replay(&response).into_iter();
        let whole = events.find_map(|event| collector.push(event).unwrap());
        assert_eq!(whole, Some(response));
        assert_eq!(events.next(), None);
    }

    #[test]
    fn a_stream_that_fails_gives_no_answer() {
        let mut collector = Collector::default();
        assert_eq!(collector.push(Event::Start(Start::default())), Ok(None));
        collector.push(Event::Failed(Failure::cut_off())).unwrap_err();
    }
}
