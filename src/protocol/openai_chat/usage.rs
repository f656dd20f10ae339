//! Tokens as this dialect counts them: the wholes include their parts.

use serde::{Deserialize, Serialize};

use crate::protocol::canonical::Usage;

/// What servers write, read as far as it is known.
#[derive(Debug, Default, Deserialize)]
pub(super) struct WireUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
    /// `SGLang`.
    reasoning_tokens: Option<u64>,
    /// `DeepSeek`.
    prompt_cache_hit_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
}

impl WireUsage {
    pub fn read(&self) -> Usage {
        let prompt = self.prompt_tokens_details.as_ref();
        let completion = self.completion_tokens_details.as_ref();
        let input = self.prompt_tokens.unwrap_or_default();
        // xAI, and Google's endpoint for this dialect, leave the reasoning out of the completion, but
        // not out of the total.
        let rest = self.total_tokens.unwrap_or_default().saturating_sub(input);
        Usage {
            input,
            cache_read: prompt
                .and_then(|details| details.cached_tokens)
                .or(self.prompt_cache_hit_tokens)
                .unwrap_or_default(),
            cache_write: prompt.and_then(|details| details.cache_write_tokens).unwrap_or_default(),
            cache_write_long: 0,
            output: self.completion_tokens.unwrap_or_default().max(rest),
            reasoning: completion
                .and_then(|details| details.reasoning_tokens)
                .or(self.reasoning_tokens),
        }
    }
}

/// What clients are told.
#[derive(Serialize)]
pub(super) struct ToldUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: ToldPrompt,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<ToldCompletion>,
}

#[derive(Serialize)]
struct ToldPrompt {
    cached_tokens: u64,
    cache_write_tokens: u64,
}

#[derive(Serialize)]
struct ToldCompletion {
    reasoning_tokens: u64,
}

impl ToldUsage {
    pub fn of(usage: &Usage) -> Self {
        let cache_write_tokens = usage.cache_write.saturating_add(usage.cache_write_long);
        Self {
            prompt_tokens: usage.input,
            completion_tokens: usage.output,
            total_tokens: usage.total(),
            prompt_tokens_details: ToldPrompt {
                cached_tokens: usage.cache_read,
                cache_write_tokens,
            },
            completion_tokens_details: usage
                .reasoning
                .map(|reasoning_tokens| ToldCompletion { reasoning_tokens }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Usage {
        serde_json::from_str::<WireUsage>(text).unwrap().read()
    }

    #[test]
    fn every_servers_way_of_counting_comes_out_the_same() {
        let expected =
            Usage { input: 10, cache_read: 4, output: 7, reasoning: Some(5), ..Usage::default() };
        for text in [
            r#"{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17,
                "prompt_tokens_details":{"cached_tokens":4},
                "completion_tokens_details":{"reasoning_tokens":5}}"#,
            // SGLang
            r#"{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17,"reasoning_tokens":5,
                "prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":null}"#,
            // DeepSeek, its older form
            r#"{"prompt_tokens":10,"completion_tokens":7,"prompt_cache_hit_tokens":4,
                "completion_tokens_details":{"reasoning_tokens":5}}"#,
            // xAI
            r#"{"prompt_tokens":10,"completion_tokens":2,"total_tokens":17,
                "prompt_tokens_details":{"cached_tokens":4,"text_tokens":10},
                "completion_tokens_details":{"reasoning_tokens":5}}"#,
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_told_is_read_again() {
        let usage =
            Usage { input: 9, cache_read: 2, cache_write: 3, output: 4, ..Usage::default() };
        let text = serde_json::to_string(&ToldUsage::of(&usage)).unwrap();
        assert_eq!(read(&text), usage);
    }
}
