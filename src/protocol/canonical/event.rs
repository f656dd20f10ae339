//! What happens in a stream.

use super::{Annotation, Failure, Image, Signature, Stop, ToolKind, Usage};

/// One thing that happens in a stream.
///
/// A stream that is whole is `Start`, then blocks, then `End`, and nothing after. A block is `Open`,
/// `Delta`s and `Close` of one index; indices count up from 0 in the order of `Open`. Several blocks
/// may be open at once, as parallel calls are in some dialects. `Failed` is the last event wherever it
/// comes; a stream that was cut off before its end is `Failed`, never `End`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Start(Start),
    Open {
        index: u32,
        block: Opening,
    },
    Delta {
        index: u32,
        delta: Delta,
    },
    Close {
        index: u32,
    },
    /// Nothing happens, and the provider says so.
    Ping,
    End(End),
    Failed(Failure),
}

/// The beginning of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The provider's id of the answer; empty when it has none.
    pub id: String,
    /// The provider's name of the model.
    pub model: String,
    /// Seconds since 1970.
    pub created: Option<u64>,
    /// What is known of it already (Anthropic tells the input at the beginning).
    pub usage: Option<Usage>,
}

/// How a block begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    Text,
    Thinking,
    /// Whole: nothing but `Close` follows.
    RedactedThinking(Signature),
    Refusal,
    ToolUse {
        id: String,
        name: String,
        namespace: Option<String>,
        kind: ToolKind,
    },
    /// Whole: nothing but `Close` follows.
    Image(Image),
}

/// More of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta {
    Text(String),
    Thinking(String),
    /// Of thinking, of text, or of a call.
    Signature(Signature),
    /// More of a call's arguments: JSON text, cut anywhere.
    Arguments(String),
    Refusal(String),
    Annotation(Annotation),
}

/// The end of an answer that is whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    pub stop: Stop,
    /// All of it, what `Start` had included.
    pub usage: Option<Usage>,
}
