//! Usage as Anthropic tells it: its `input_tokens` leave out what the cache is about.

use serde::{Deserialize, Serialize};

use crate::protocol::canonical::Usage;

/// What was told so far; what a stream tells later replaces what it told before.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Told {
    input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<Creation>,
    output_tokens: Option<u64>,
    output_tokens_details: Option<Details>,
}

/// Of `cache_creation_input_tokens`: how long they stay.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct Creation {
    #[serde(default)]
    ephemeral_5m_input_tokens: u64,
    #[serde(default)]
    ephemeral_1h_input_tokens: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct Details {
    thinking_tokens: Option<u64>,
}

impl Told {
    /// Takes over what `later` says; what it leaves out stays.
    pub fn update(&mut self, later: Self) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.cache_read_input_tokens =
            later.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.cache_creation_input_tokens =
            later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.cache_creation = later.cache_creation.or(self.cache_creation);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.output_tokens_details = later.output_tokens_details.or(self.output_tokens_details);
    }

    /// With the cache's tokens among the input's.
    pub fn inclusive(&self) -> Usage {
        let creation = self.cache_creation.unwrap_or_default();
        let parts =
            creation.ephemeral_5m_input_tokens.saturating_add(creation.ephemeral_1h_input_tokens);
        let written = self.cache_creation_input_tokens.unwrap_or(parts);
        let cache_write_long = creation.ephemeral_1h_input_tokens.min(written);
        let cache_read = self.cache_read_input_tokens.unwrap_or_default();
        let fresh = self.input_tokens.unwrap_or_default();
        Usage {
            input: fresh.saturating_add(cache_read).saturating_add(written),
            cache_read,
            cache_write: written - cache_write_long,
            cache_write_long,
            output: self.output_tokens.unwrap_or_default(),
            reasoning: self.output_tokens_details.and_then(|details| details.thinking_tokens),
        }
    }
}

/// Usage as it is written: every answer has it.
#[derive(Debug, Serialize)]
pub struct Written {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    cache_creation: Creation,
    output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens_details: Option<Details>,
}

impl Written {
    pub fn new(usage: Option<&Usage>) -> Self {
        let usage = usage.copied().unwrap_or_default();
        let thinking_tokens = usage.reasoning;
        Self {
            input_tokens: usage.fresh_input(),
            cache_creation_input_tokens: usage.cache_write.saturating_add(usage.cache_write_long),
            cache_read_input_tokens: usage.cache_read,
            cache_creation: Creation {
                ephemeral_5m_input_tokens: usage.cache_write,
                ephemeral_1h_input_tokens: usage.cache_write_long,
            },
            output_tokens: usage.output,
            output_tokens_details: thinking_tokens
                .map(|tokens| Details { thinking_tokens: Some(tokens) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(json: &str) -> Told {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_input_includes_what_the_cache_is_about() {
        let told = told(
            r#"{"input_tokens":3,"cache_read_input_tokens":10,"cache_creation_input_tokens":500,
                "cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":400},
                "output_tokens":7,"output_tokens_details":{"thinking_tokens":5}}"#,
        );
        let usage = Usage {
            input: 513,
            cache_read: 10,
            cache_write: 100,
            cache_write_long: 400,
            output: 7,
            reasoning: Some(5),
        };
        assert_eq!(told.inclusive(), usage);
        assert_eq!(usage.fresh_input(), 3);
    }

    #[test]
    fn what_is_told_later_replaces_what_was_told_and_nothing_else() {
        let mut usage =
            told(r#"{"input_tokens":43,"cache_read_input_tokens":2,"output_tokens":1}"#);
        usage.update(told(r#"{"output_tokens":9}"#));
        assert_eq!((usage.inclusive().input, usage.inclusive().output), (45, 9));
        usage.update(told(r#"{"input_tokens":61,"cache_read_input_tokens":null}"#));
        assert_eq!((usage.inclusive().input, usage.inclusive().output), (63, 9));
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let usage = Usage {
            input: 100,
            cache_read: 20,
            cache_write: 30,
            cache_write_long: 40,
            output: 5,
            reasoning: Some(4),
        };
        let json = serde_json::to_string(&Written::new(Some(&usage))).unwrap();
        assert_eq!(told(&json).inclusive(), usage);
    }
}
