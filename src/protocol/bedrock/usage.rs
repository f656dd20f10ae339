//! Tokens as Converse counts them: `inputTokens` is what neither came from a cache nor went into one.

use serde::{Deserialize, Serialize};

use crate::protocol::canonical::Usage;
use crate::protocol::json::last_member;

/// What an answer took, read from its end: one of Converse, or Titan's vector.
pub fn last_usage(end: &[u8]) -> Option<Usage> {
    if let Some(counts) = last_member::<Counts>(end, "usage") {
        return Some(counts.read());
    }
    let input = last_member(end, "inputTextTokenCount")?;
    Some(Usage { input, ..Usage::default() })
}

/// `usage` of an answer, and of a stream's `metadata`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    input_tokens: u64,
    output_tokens: u64,
    total_tokens: u64,
    #[serde(skip_serializing_if = "is_none_or_zero")]
    cache_read_input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "is_none_or_zero")]
    cache_write_input_tokens: Option<u64>,
    /// What was written into a cache, by how long it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_details: Option<Vec<CacheDetail>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct CacheDetail {
    ttl: String,
    input_tokens: u64,
}

#[expect(clippy::ref_option, reason = "serde hands it over so")]
fn is_none_or_zero(tokens: &Option<u64>) -> bool {
    tokens.is_none_or(|tokens| tokens == 0)
}

impl Counts {
    pub fn read(self) -> Usage {
        let read = self.cache_read_input_tokens.unwrap_or_default();
        let written = self.cache_write_input_tokens.unwrap_or_default();
        let details = self.cache_details.unwrap_or_default();
        let hour = details.iter().filter(|detail| detail.ttl == "1h");
        let long = hour.fold(0u64, |sum, detail| sum.saturating_add(detail.input_tokens));
        let long = long.min(written);
        Usage {
            input: self.input_tokens.saturating_add(read).saturating_add(written),
            cache_read: read,
            cache_write: written - long,
            cache_write_long: long,
            output: self.output_tokens,
            reasoning: None,
        }
    }

    pub fn of(usage: &Usage) -> Self {
        let (short, long) = (usage.cache_write, usage.cache_write_long);
        let details = [("5m", short), ("1h", long)];
        let details = details.into_iter().filter(|(_, tokens)| *tokens > 0);
        let details: Vec<_> = details
            .map(|(ttl, input_tokens)| CacheDetail { ttl: ttl.to_owned(), input_tokens })
            .collect();
        Self {
            input_tokens: usage.fresh_input(),
            output_tokens: usage.output,
            total_tokens: usage.total(),
            cache_read_input_tokens: Some(usage.cache_read),
            cache_write_input_tokens: Some(short.saturating_add(long)),
            cache_details: (!details.is_empty()).then_some(details),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cached_is_counted_into_the_input_and_told_apart() {
        let text = r#"{"inputTokens":3,"outputTokens":61,"totalTokens":2435,
            "cacheReadInputTokens":2074,"cacheWriteInputTokens":297,
            "cacheDetails":[{"inputTokens":200,"ttl":"1h"},{"inputTokens":97,"ttl":"5m"}]}"#;
        let usage = serde_json::from_str::<Counts>(text).unwrap().read();
        let wanted = Usage {
            input: 2374,
            cache_read: 2074,
            cache_write: 97,
            cache_write_long: 200,
            output: 61,
            reasoning: None,
        };
        assert_eq!(usage, wanted);
        let written = serde_json::to_value(Counts::of(&usage)).unwrap();
        assert_eq!(written["inputTokens"], 3);
        assert_eq!(written["totalTokens"], 2435);
        assert_eq!(serde_json::from_value::<Counts>(written).unwrap().read(), usage);
    }
}
