//! What an answer took.

/// Tokens of one exchange. The dialects count differently; here the wholes include their parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Read by the model, those from and into a cache included.
    pub input: u64,
    /// Of `input`: read from a cache.
    pub cache_read: u64,
    /// Of `input`: written into a cache for minutes.
    pub cache_write: u64,
    /// Of `input`: written into a cache for an hour or more.
    pub cache_write_long: u64,
    /// Written by the model, reasoning included.
    pub output: u64,
    /// Of `output`: reasoning, where the provider says it.
    pub reasoning: Option<u64>,
}

impl Usage {
    /// Of `input`, what neither came from a cache nor went into one.
    pub fn fresh_input(&self) -> u64 {
        let cached = self.cache_read + self.cache_write + self.cache_write_long;
        self.input.saturating_sub(cached)
    }

    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

/// Tokens of a text with so many ASCII characters and so many others: four of the former are one, each
/// of the latter is.
pub fn estimated_tokens(ascii: u64, others: u64) -> u64 {
    ascii.div_ceil(4).saturating_add(others)
}
