//! The facts of one answered request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// All that is known of a request once it is over, whatever its end. No content, and no key but its
/// name. Addresses and what tells of a device are absent where the configuration keeps none.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each says one thing, and all combine")]
pub struct Record {
    /// When its head had arrived, in Unix milliseconds.
    pub at: i64,
    /// As its answer told it. A caller may have chosen it, and may choose the same one again.
    pub request_id: Arc<str>,
    pub method: &'static str,
    /// The path's label; `other` when there is no such path.
    pub endpoint: &'static str,
    /// Who called, by an id that is nobody else's.
    pub principal: Option<Arc<str>>,
    /// The key's name.
    pub key: Option<Arc<str>>,
    /// Whom the key belongs to.
    pub user: Option<Arc<str>>,
    /// The words of the configuration for a dialect.
    pub client_dialect: &'static str,
    /// What the provider was spoken to in.
    pub provider_dialect: Option<&'static str>,
    /// The model's name as the caller gave it, cut off at [`LONGEST_NAME`].
    pub asked_model: Option<Arc<str>>,
    /// The label of the configured model that served, or was tried last.
    pub model: Option<Arc<str>>,
    /// The provider's name of it.
    pub served_model: Option<Arc<str>>,
    pub provider: Option<Arc<str>>,
    pub replica: Option<SocketAddr>,
    /// Attempts at upstreams.
    pub attempts: u32,
    /// What the client was answered with; 499 when it left before that.
    pub status: u16,
    /// The client went away before its answer was whole.
    pub client_gone: bool,
    /// The code of what was refused or failed, as the caller was told it.
    pub error: Option<&'static str>,
    /// Why it failed, in the gateway's words, for operators.
    pub failure: Option<Arc<str>>,
    /// Why the answer ended, in the words of the dialect it was given in.
    pub stop: Option<Arc<str>>,
    /// What was used, when an upstream has answered.
    pub spent: Option<Spent>,
    /// From the head to the beginning of the last attempt; absent without one.
    pub queued: Option<Duration>,
    /// From the head to the first event of a stream.
    pub first_token: Option<Duration>,
    /// From the head to the end.
    pub duration: Duration,
    /// Of the request's body, as far as it was read.
    pub bytes_in: u64,
    /// Of the answer's body.
    pub bytes_out: u64,
    pub client: Option<IpAddr>,
    /// Cut off at [`LONGEST_NAME`].
    pub user_agent: Option<Arc<str>>,
    /// It asked for a stream.
    pub stream: bool,
    /// It offered tools.
    pub tools: bool,
    /// It has images in it.
    pub images: bool,
}

/// What an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub prompt: u64,
    pub completion: u64,
    /// A part of the prompt.
    pub cached: u64,
    /// A part of the completion.
    pub reasoning: u64,
    /// In nanodollars.
    pub cost_nanos: u64,
    /// The upstream has not told all of it.
    pub estimated: bool,
}

/// The most that is kept of a name that a caller chose, in bytes.
pub const LONGEST_NAME: usize = 256;

// === impl Record ===

impl Record {
    /// A text of a caller's, as it is kept: in one line, and not longer than [`LONGEST_NAME`].
    pub fn bounded(text: &str) -> Arc<str> {
        let end = text.floor_char_boundary(LONGEST_NAME);
        let text = text.get(..end).unwrap_or_default();
        if text.chars().any(char::is_control) {
            return text.replace(char::is_control, " ").into();
        }
        Arc::from(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_callers_is_one_short_line() {
        assert_eq!(&*Record::bounded("gpt\n5\0"), "gpt 5 ");
        assert_eq!(Record::bounded(&"ä".repeat(200)).len(), LONGEST_NAME);
        assert_eq!(&*Record::bounded("llama"), "llama");
    }
}
