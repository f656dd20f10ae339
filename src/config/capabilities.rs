//! `capabilities`: what models take and refuse, where the gateway does not know, or knows it wrong.

use super::read::{Section, Value};

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThinkingRule {
    /// It cannot.
    Never,
    /// By a number of tokens.
    Budget,
    /// By an effort; it decides itself how much.
    Adaptive,
    /// By an effort, and it cannot be turned off.
    Always,
    /// Gemini: by a level.
    Level,
    /// `OpenAI`, vLLM: by `reasoning_effort`.
    Effort,
    /// Bedrock, Nova 2: `reasoningConfig`.
    Nova,
}

/// What some models take; what is not said is as the gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// A glob of a provider's names of models.
    pub model: String,
    pub thinking: Option<ThinkingRule>,
    /// It takes `temperature` and `top_p`.
    pub sampling: Option<bool>,
    /// A conversation may end with a turn of the assistant's.
    pub prefill: Option<bool>,
    /// It can be held to a JSON Schema.
    pub structured_outputs: Option<bool>,
    /// Instructions may stand in the middle of a conversation.
    pub system_inside: Option<bool>,
    /// It takes stop sequences.
    pub stop: Option<bool>,
    /// It can be told that it must call a tool.
    pub tool_choice: Option<bool>,
    /// It takes `presence_penalty` and `frequency_penalty`.
    pub penalties: Option<bool>,
    /// It knows tools that take free text.
    pub custom_tools: Option<bool>,
    /// The most tokens it answers.
    pub max_output: Option<u64>,
}

// === impl Capability ===

impl Capability {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let model = s.require("model", Value::glob);
            let flag = |s: &mut Section, name: &'static str| s.read(name, Value::boolean);
            Some(Self {
                thinking: s.read("thinking", ThinkingRule::read),
                sampling: flag(s, "sampling"),
                prefill: flag(s, "prefill"),
                structured_outputs: flag(s, "structured_outputs"),
                system_inside: flag(s, "system_inside"),
                stop: flag(s, "stop"),
                tool_choice: flag(s, "tool_choice"),
                penalties: flag(s, "penalties"),
                custom_tools: flag(s, "custom_tools"),
                max_output: s.read("max_output", |v| v.number(1, 100_000_000)),
                model: model?,
            })
        })?
    }
}

// === impl ThinkingRule ===

impl ThinkingRule {
    fn read(value: Value) -> Option<Self> {
        value.one_of(&[
            ("never", Self::Never),
            ("budget", Self::Budget),
            ("adaptive", Self::Adaptive),
            ("always", Self::Always),
            ("level", Self::Level),
            ("effort", Self::Effort),
            ("nova", Self::Nova),
        ])
    }
}
