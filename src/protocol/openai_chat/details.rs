//! Whose a signature is, in the words of `reasoning_details`.

use crate::config::Dialect;

/// The `format` of a detail that has a dialect's signature. `OpenRouter`'s names, where it has one.
pub(super) fn format_of(dialect: Dialect) -> Option<&'static str> {
    Some(match dialect {
        Dialect::OpenaiChat => return None,
        Dialect::OpenaiResponses => "openai-responses-v1",
        Dialect::Anthropic => "anthropic-claude-v1",
        Dialect::Gemini => "google-gemini-v1",
        Dialect::Bedrock => "amazon-bedrock-v1",
    })
}

/// The dialect whose signatures have this format; a server's own are this dialect's.
pub fn dialect_of(format: Option<&str>) -> Dialect {
    match format {
        Some("openai-responses-v1" | "azure-openai-responses-v1") => Dialect::OpenaiResponses,
        Some("anthropic-claude-v1") => Dialect::Anthropic,
        Some("google-gemini-v1") => Dialect::Gemini,
        Some("amazon-bedrock-v1") => Dialect::Bedrock,
        _ => Dialect::OpenaiChat,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialects_format_is_known_again() {
        for dialect in [
            Dialect::OpenaiChat,
            Dialect::OpenaiResponses,
            Dialect::Anthropic,
            Dialect::Gemini,
            Dialect::Bedrock,
        ] {
            assert_eq!(dialect_of(format_of(dialect)), dialect);
        }
    }
}
