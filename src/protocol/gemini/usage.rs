//! `usageMetadata`: Google counts thoughts beside the answer, and cached tokens within the prompt.

use serde::{Deserialize, Serialize};

use crate::protocol::canonical::Usage;
use crate::protocol::json::last_member;

/// What an answer took, read from its end.
pub fn last_usage(end: &[u8]) -> Option<Usage> {
    last_member::<UsageMetadata>(end, "usageMetadata")?.usage()
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are Google's")]
pub struct UsageMetadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_content_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidates_token_count: Option<u64>,
    /// What Google's own tools read, beside the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_use_prompt_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thoughts_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_token_count: Option<u64>,
}

impl UsageMetadata {
    /// What was used; nothing where no tokens are counted, as for a blocked prompt.
    pub fn usage(&self) -> Option<Usage> {
        if self.prompt_token_count.is_none() && self.total_token_count.is_none() {
            return None;
        }
        let tool = self.tool_use_prompt_token_count.unwrap_or_default();
        let input = self.prompt_token_count.unwrap_or_default().saturating_add(tool);
        let candidates = self.candidates_token_count.unwrap_or_default();
        let thoughts = self.thoughts_token_count.unwrap_or_default();
        // Some hosts count thoughts within the answer; the sum tells.
        let within = candidates >= thoughts
            && self.total_token_count == Some(input.saturating_add(candidates));
        let output = if within { candidates } else { candidates.saturating_add(thoughts) };
        Some(Usage {
            input,
            cache_read: self.cached_content_token_count.unwrap_or_default(),
            output,
            reasoning: self.thoughts_token_count,
            ..Usage::default()
        })
    }
}

impl From<&Usage> for UsageMetadata {
    fn from(usage: &Usage) -> Self {
        Self {
            prompt_token_count: Some(usage.input),
            cached_content_token_count: (usage.cache_read > 0).then_some(usage.cache_read),
            candidates_token_count: Some(
                usage.output.saturating_sub(usage.reasoning.unwrap_or_default()),
            ),
            tool_use_prompt_token_count: None,
            thoughts_token_count: usage.reasoning,
            total_token_count: Some(usage.total()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<Usage> {
        serde_json::from_str::<UsageMetadata>(json).unwrap().usage()
    }

    #[test]
    fn thoughts_belong_to_the_output_and_are_counted_once() {
        let beside = r#"{"promptTokenCount":9,"candidatesTokenCount":5,"thoughtsTokenCount":185,
            "totalTokenCount":199}"#;
        let usage = read(beside).unwrap();
        assert_eq!((usage.input, usage.output, usage.reasoning), (9, 190, Some(185)));
        let within = r#"{"promptTokenCount":9,"candidatesTokenCount":190,"thoughtsTokenCount":185,
            "totalTokenCount":199}"#;
        assert_eq!(read(within), Some(usage));
    }

    #[test]
    fn what_googles_tools_read_belongs_to_the_input() {
        let json = r#"{"promptTokenCount":17,"candidatesTokenCount":201,"thoughtsTokenCount":213,
            "toolUsePromptTokenCount":119,"totalTokenCount":550}"#;
        let usage = read(json).unwrap();
        assert_eq!((usage.input, usage.output, usage.total()), (136, 414, 550));
    }

    #[test]
    fn what_counts_nothing_is_no_usage() {
        assert_eq!(read(r#"{"trafficType":"ON_DEMAND"}"#), None);
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let usage =
            Usage { input: 10, cache_read: 4, output: 7, reasoning: Some(3), ..Usage::default() };
        assert_eq!(UsageMetadata::from(&usage).usage(), Some(usage));
        let usage = Usage { reasoning: None, ..usage };
        assert_eq!(UsageMetadata::from(&usage).usage(), Some(usage));
    }
}
