//! Models that requests are written for.

use forebay::config::{Dialect, Kind};
use forebay::protocol::canonical::Rules;

/// Where a request goes.
#[derive(Clone, Copy)]
pub struct Provider {
    /// What its files are called.
    pub name: &'static str,
    pub dialect: Dialect,
    pub kind: Kind,
    pub model: &'static str,
}

impl Provider {
    pub fn rules(&self) -> Rules {
        Rules::of(self.dialect, self.kind, self.model)
    }
}

const fn at(name: &'static str, dialect: Dialect, kind: Kind, model: &'static str) -> Provider {
    Provider { name, dialect, kind, model }
}

/// One of each dialect, whose model takes what its dialect has.
pub const PROVIDERS: [Provider; 5] = [
    at("openai_chat", Dialect::OpenaiChat, Kind::Openai, "gpt-4.1"),
    at("openai_responses", Dialect::OpenaiResponses, Kind::Openai, "gpt-4.1"),
    at("anthropic", Dialect::Anthropic, Kind::Anthropic, "claude-sonnet-4-5"),
    at("gemini", Dialect::Gemini, Kind::Gemini, "gemini-3-flash"),
    at("bedrock", Dialect::Bedrock, Kind::Bedrock, "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
];

/// Others, for requests about reasoning.
pub const REASONERS: [Provider; 8] = [
    at("openai_chat-gpt-5", Dialect::OpenaiChat, Kind::Openai, "gpt-5.1"),
    VLLM,
    at("openai_responses-gpt-5", Dialect::OpenaiResponses, Kind::Openai, "gpt-5.1"),
    ADAPTIVE,
    at("anthropic-5", Dialect::Anthropic, Kind::Anthropic, "claude-opus-4-7"),
    OLDER_GEMINI,
    at("bedrock-nova-2", Dialect::Bedrock, Kind::Bedrock, "us.amazon.nova-2-lite-v1:0"),
    at("bedrock-gpt-oss", Dialect::Bedrock, Kind::Bedrock, "openai.gpt-oss-120b-1:0"),
];

/// Others, for requests with a schema: models that must be held to it by a tool.
pub const SCHEMATISTS: [Provider; 3] = [
    at("anthropic-3-5", Dialect::Anthropic, Kind::Anthropic, "claude-3-5-sonnet-20241022"),
    OLDER_GEMINI,
    at("bedrock-nova", Dialect::Bedrock, Kind::Bedrock, "us.amazon.nova-pro-v1:0"),
];

pub const VLLM: Provider = at("openai_chat-vllm", Dialect::OpenaiChat, Kind::Vllm, "qwen3");
pub const ADAPTIVE: Provider =
    at("anthropic-4-6", Dialect::Anthropic, Kind::Anthropic, "claude-opus-4-6");
pub const OLDER_GEMINI: Provider =
    at("gemini-2-5", Dialect::Gemini, Kind::Gemini, "gemini-2.5-flash");
