//! What a model takes and what it refuses, as far as its dialect does not tell.

use super::Effort;
pub use crate::config::ThinkingRule;
use crate::config::{Capability, Dialect, Kind, glob_matches};

/// What a model takes. The default is what every dialect's newest models do not refuse.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each says one thing, and all combine")]
pub struct Rules {
    pub thinking: ThinkingRule,
    /// The efforts it knows; none: it knows no efforts.
    pub efforts: &'static [Effort],
    /// It takes `temperature`, `top_p`, `top_k`.
    pub sampling: bool,
    /// It takes `temperature` and `top_p` together.
    pub temperature_with_top_p: bool,
    /// The conversation may end with a turn of the assistant's.
    pub prefill: bool,
    /// It can be held to a JSON Schema; else a tool stands in for it.
    pub structured_outputs: bool,
    /// Instructions may stand in the middle of a conversation.
    pub system_inside: bool,
    /// The most it can answer, sent where the client set no bound and the dialect demands one.
    pub max_output: u64,
    /// Gemini: calls have ids (3 and newer), which older models refuse.
    pub call_ids: bool,
    /// Gemini: calls of earlier turns must be signed (3 and newer).
    pub signed_calls: bool,
    pub penalties: bool,
    /// Tools and a JSON format may stand in one request.
    pub tools_with_format: bool,
    pub stop: bool,
    /// Bedrock: a tool may be demanded.
    pub tool_choice: bool,
    /// `max_completion_tokens` instead of `max_tokens`.
    pub max_completion_tokens: bool,
    /// The instructions' role is `developer`.
    pub developer_role: bool,
    /// Where a chat has the reasoning of earlier turns.
    pub reasoning_field: ReasoningField,
    /// It takes `top_k`, `min_p` and such beside `OpenAI`'s own members (vLLM, `SGLang`).
    pub extended_sampling: bool,
    /// Chat: it knows tools that take free text.
    pub custom_tools: bool,
}

/// Where a chat has the reasoning of an earlier turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasoningField {
    /// Nowhere: it is left out.
    Nowhere,
    /// `reasoning` (vLLM).
    Reasoning,
    /// `reasoning_content` (`SGLang`, `DeepSeek`).
    ReasoningContent,
}

const LOW_TO_HIGH: &[Effort] = &[Effort::Low, Effort::Medium, Effort::High];
const LOW_TO_MAX: &[Effort] =
    &[Effort::Low, Effort::Medium, Effort::High, Effort::Xhigh, Effort::Max];
/// Claude 4.6's best, which refuses `xhigh` by name.
const LOW_TO_HIGH_AND_MAX: &[Effort] = &[Effort::Low, Effort::Medium, Effort::High, Effort::Max];
const LEVELS: &[Effort] = &[Effort::Minimal, Effort::Low, Effort::Medium, Effort::High];
const LOW_OR_HIGH: &[Effort] = &[Effort::Low, Effort::High];
const NONE_TO_HIGH: &[Effort] = &[Effort::None, Effort::Low, Effort::Medium, Effort::High];
const NONE_TO_XHIGH: &[Effort] =
    &[Effort::None, Effort::Low, Effort::Medium, Effort::High, Effort::Xhigh];
const LOW_TO_XHIGH: &[Effort] = &[Effort::Low, Effort::Medium, Effort::High, Effort::Xhigh];
const ALL: &[Effort] = &[
    Effort::None,
    Effort::Minimal,
    Effort::Low,
    Effort::Medium,
    Effort::High,
    Effort::Xhigh,
    Effort::Max,
];

/// The efforts that `OpenAI`'s models know, which refuse others by name
/// (<https://platform.openai.com/docs/guides/reasoning>); the first row that matches. Models of other
/// names are thought to know all.
const OPENAI_EFFORTS: &[(&str, &[Effort])] = &[
    ("o1*", LOW_TO_HIGH),
    ("o3*", LOW_TO_HIGH),
    ("o4*", LOW_TO_HIGH),
    ("gpt-5-pro*", &[Effort::High]),
    ("gpt-5-codex*", LOW_TO_HIGH),
    ("gpt-5.1-codex-max*", LOW_TO_XHIGH),
    ("gpt-5.1-codex*", LOW_TO_HIGH),
    ("gpt-5.1*", NONE_TO_HIGH),
    ("gpt-5.*", NONE_TO_XHIGH),
    ("gpt-5*", LEVELS),
];

/// What every dialect begins with.
const BASE: Rules = Rules {
    thinking: ThinkingRule::Never,
    efforts: &[],
    sampling: true,
    temperature_with_top_p: true,
    prefill: true,
    structured_outputs: true,
    system_inside: true,
    max_output: 4096,
    call_ids: true,
    signed_calls: false,
    penalties: true,
    tools_with_format: true,
    stop: true,
    tool_choice: true,
    max_completion_tokens: false,
    developer_role: false,
    reasoning_field: ReasoningField::Nowhere,
    extended_sampling: false,
    custom_tools: false,
};

/// Claude until 4.5: thinks by a budget.
const CLAUDE: Rules = Rules {
    thinking: ThinkingRule::Budget,
    temperature_with_top_p: false,
    structured_outputs: false,
    system_inside: false,
    max_output: 32_000,
    ..BASE
};

/// Claude 4.6: decides itself how much to think, and answers no turn that is begun for it.
const CLAUDE_4_6: Rules = Rules {
    thinking: ThinkingRule::Adaptive,
    efforts: LOW_TO_HIGH,
    prefill: false,
    structured_outputs: true,
    max_output: 64_000,
    ..CLAUDE
};

/// Claude from 4.7 on: takes no sampling parameters.
const CLAUDE_5: Rules = Rules { efforts: LOW_TO_MAX, sampling: false, ..CLAUDE_4_6 };

const GEMINI_3: Rules = Rules {
    thinking: ThinkingRule::Level,
    efforts: LEVELS,
    system_inside: false,
    penalties: false,
    signed_calls: true,
    ..BASE
};

const GEMINI_2_5: Rules = Rules {
    thinking: ThinkingRule::Budget,
    system_inside: false,
    call_ids: false,
    tools_with_format: false,
    ..BASE
};

const BEDROCK: Rules =
    Rules { structured_outputs: false, system_inside: false, prefill: false, ..BASE };

/// What models are known to take: the first row whose glob matches the model's name without the
/// provider's prefixes (`us.anthropic.`, `publishers/google/models/`), in lower case.
const MODELS: &[(&str, Rules)] = &[
    ("*claude-fable*", Rules { thinking: ThinkingRule::Always, ..CLAUDE_5 }),
    ("*claude-mythos*", Rules { thinking: ThinkingRule::Always, ..CLAUDE_5 }),
    ("*claude-opus-4-7*", CLAUDE_5),
    ("*claude-opus-4-8*", Rules { system_inside: true, ..CLAUDE_5 }),
    ("*claude-opus-4-9*", Rules { system_inside: true, ..CLAUDE_5 }),
    ("*claude-opus-4-6*", Rules { efforts: LOW_TO_HIGH_AND_MAX, ..CLAUDE_4_6 }),
    ("*claude-*-4-6*", CLAUDE_4_6),
    ("*claude-opus-4-5*", Rules { efforts: LOW_TO_HIGH, structured_outputs: true, ..CLAUDE }),
    ("*claude-*-4-5*", Rules { structured_outputs: true, ..CLAUDE }),
    ("*claude-opus-5*", Rules { system_inside: true, ..CLAUDE_5 }),
    ("*claude-sonnet-5*", Rules { system_inside: true, ..CLAUDE_5 }),
    ("*claude-haiku-5*", Rules { system_inside: true, ..CLAUDE_5 }),
    ("*claude-3-7*", Rules { max_output: 64_000, temperature_with_top_p: true, ..CLAUDE }),
    (
        "*claude-3*",
        Rules {
            thinking: ThinkingRule::Never,
            temperature_with_top_p: true,
            max_output: 4096,
            ..CLAUDE
        },
    ),
    ("*claude*", CLAUDE),
    ("*gemini-3-pro*", Rules { efforts: LOW_OR_HIGH, ..GEMINI_3 }),
    ("*gemini-3*", GEMINI_3),
    ("*gemini-2.5*", GEMINI_2_5),
    ("*gemini-2*", Rules { thinking: ThinkingRule::Never, ..GEMINI_2_5 }),
    ("*gemini-1*", Rules { thinking: ThinkingRule::Never, ..GEMINI_2_5 }),
    ("*gemini*", GEMINI_3),
    ("*nova-2*", Rules { thinking: ThinkingRule::Nova, efforts: LOW_TO_HIGH, ..BEDROCK }),
    ("*nova*", BEDROCK),
    (
        "*gpt-oss*",
        Rules { thinking: ThinkingRule::Effort, efforts: LOW_TO_HIGH, stop: false, ..BEDROCK },
    ),
    ("*grok*", Rules { stop: false, ..BEDROCK }),
    ("*qwen*", Rules { stop: false, ..BEDROCK }),
];

impl Rules {
    /// What is known of `model` at a provider of this kind that speaks `dialect`.
    pub fn of(dialect: Dialect, kind: Kind, model: &str) -> Self {
        let model = model.to_ascii_lowercase();
        let known = MODELS.iter().find(|(glob, _)| glob_matches(glob, &model));
        match (dialect, known) {
            (Dialect::Anthropic | Dialect::Gemini | Dialect::Bedrock, Some((_, rules))) => {
                Self { prefill: rules.prefill && dialect != Dialect::Bedrock, ..*rules }
            }
            (Dialect::Anthropic, None) => Self { system_inside: false, ..CLAUDE },
            (Dialect::Gemini, None) => GEMINI_3,
            (Dialect::Bedrock, None) => BEDROCK,
            (Dialect::OpenaiChat | Dialect::OpenaiResponses, _) => Self::of_openai(kind, &model),
        }
    }

    /// What is known of models by their names, in the order of the search.
    pub fn known() -> &'static [(&'static str, Self)] {
        MODELS
    }

    /// The same, with what the configuration says of the model.
    #[must_use]
    pub fn with(mut self, said: &[Capability], model: &str) -> Self {
        let Some(said) = said.iter().find(|said| glob_matches(&said.model, model)) else {
            return self;
        };
        let flags = [
            (&mut self.sampling, said.sampling),
            (&mut self.prefill, said.prefill),
            (&mut self.structured_outputs, said.structured_outputs),
            (&mut self.system_inside, said.system_inside),
            (&mut self.stop, said.stop),
            (&mut self.tool_choice, said.tool_choice),
            (&mut self.penalties, said.penalties),
            (&mut self.custom_tools, said.custom_tools),
        ];
        for (flag, said) in flags {
            *flag = said.unwrap_or(*flag);
        }
        if let Some(thinking) = said.thinking {
            self.thinking = thinking;
            if self.efforts.is_empty() {
                self.efforts = LOW_TO_HIGH;
            }
        }
        self.max_output = said.max_output.unwrap_or(self.max_output);
        self
    }

    fn of_openai(kind: Kind, model: &str) -> Self {
        let thinks = ["o1*", "o3*", "o4*", "gpt-5*", "gpt-6*"];
        let official = matches!(kind, Kind::Openai | Kind::Azure);
        // The chat models of these families do not think.
        let thinks = thinks.iter().any(|glob| glob_matches(glob, model));
        let reasoning = thinks && !glob_matches("*-chat*", model);
        let known = OPENAI_EFFORTS.iter().find(|(glob, _)| glob_matches(glob, model));
        match kind {
            Kind::Openai | Kind::Azure => Self {
                thinking: if reasoning { ThinkingRule::Effort } else { ThinkingRule::Never },
                efforts: known.map_or(ALL, |(_, efforts)| efforts),
                // https://platform.openai.com/docs/guides/reasoning: other values than the defaults
                // are refused.
                sampling: !reasoning,
                penalties: !reasoning,
                stop: !reasoning,
                max_completion_tokens: true,
                developer_role: official && reasoning,
                custom_tools: true,
                ..BASE
            },
            Kind::Vllm => Self {
                thinking: ThinkingRule::Effort,
                efforts: ALL,
                reasoning_field: ReasoningField::Reasoning,
                extended_sampling: true,
                ..BASE
            },
            _ => Self {
                thinking: ThinkingRule::Effort,
                efforts: ALL,
                reasoning_field: ReasoningField::ReasoningContent,
                ..BASE
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anthropic(model: &str) -> Rules {
        Rules::of(Dialect::Anthropic, Kind::Anthropic, model)
    }

    #[test]
    fn the_families_of_claude_are_told_apart() {
        assert_eq!(anthropic("claude-sonnet-4-5-20250929").thinking, ThinkingRule::Budget);
        assert!(anthropic("claude-sonnet-4-5-20250929").prefill);
        assert_eq!(anthropic("claude-sonnet-4-6").thinking, ThinkingRule::Adaptive);
        assert!(!anthropic("claude-opus-4-7").sampling);
        assert_eq!(anthropic("claude-fable-1").thinking, ThinkingRule::Always);
        assert_eq!(anthropic("claude-3-5-sonnet-20241022").thinking, ThinkingRule::Never);
        let bedrock =
            Rules::of(Dialect::Bedrock, Kind::Bedrock, "us.anthropic.claude-opus-4-6-v1:0");
        assert_eq!(bedrock.thinking, ThinkingRule::Adaptive);
    }

    #[test]
    fn a_model_is_asked_for_no_effort_that_it_refuses() {
        let openai = |model| Rules::of(Dialect::OpenaiChat, Kind::Openai, model).efforts;
        assert_eq!(Effort::Xhigh.at_most(openai("gpt-5.1")), Some(Effort::High));
        assert_eq!(Effort::Minimal.at_most(openai("gpt-5.1-2025-11-13")), Some(Effort::None));
        assert_eq!(Effort::Minimal.at_most(openai("gpt-5-mini")), Some(Effort::Minimal));
        assert_eq!(Effort::None.at_most(openai("o4-mini")), Some(Effort::Low));
        assert_eq!(Effort::Max.at_most(openai("gpt-6-luna")), Some(Effort::Max));
        assert_eq!(Effort::Xhigh.at_most(anthropic("claude-opus-4-6").efforts), Some(Effort::High));
    }

    #[test]
    fn the_generations_of_gemini_are_told_apart() {
        let gemini = |model| Rules::of(Dialect::Gemini, Kind::Gemini, model);
        assert_eq!(gemini("gemini-2.5-pro").thinking, ThinkingRule::Budget);
        assert!(!gemini("gemini-2.5-pro").call_ids);
        assert!(gemini("gemini-3-pro-preview").signed_calls);
    }
}
