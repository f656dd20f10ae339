//! How a mock behaves: what it serves, how fast, and how it misbehaves on demand.

use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// What a mock is told when it starts.
#[derive(Debug, Clone)]
pub struct Options {
    /// The models it lists; the first one answers when a request names none.
    pub models: Vec<String>,
    /// Refuse a model that is not listed, as vLLM does. Otherwise every name is served.
    pub strict_models: bool,
    /// Words in a reply, each of them one token and one chunk of a stream.
    pub tokens: u32,
    /// How long it waits before the first byte.
    pub delay: Duration,
    /// How long it waits between two chunks of a stream.
    pub interval: Duration,
    /// How it fails, if it does. Only `POST` fails: health checks and model lists go on working.
    pub fail: Option<Fail>,
    /// The key a request must carry, if any.
    pub key: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            models: vec!["mock".to_owned()],
            strict_models: false,
            // The introduction, one word, and one more sentence: see `answer`.
            tokens: 16,
            delay: Duration::ZERO,
            interval: Duration::ZERO,
            fail: None,
            key: None,
        }
    }
}

/// One way to fail. Written `500`, `429:3` (every third request), `hang`, `cut:5`, `first-event`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fail {
    /// Answer every `every`th request with this status.
    Status {
        /// 400 to 599.
        status: u16,
        /// 1 fails them all.
        every: u32,
    },
    /// Read the request and never answer.
    Hang,
    /// Close the connection after so many chunks of a stream, or so many bytes of a plain answer.
    Cut {
        /// How many still arrive.
        after: u32,
    },
    /// Answer 200 and an event stream whose first event is an error, as vLLM does when its engine
    /// has died.
    FirstEventError,
}

/// A failure that is spelled wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no failure: use a status (500), every third time (429:3), hang, cut:5, or first-event"
)]
pub struct UnknownFail(String);

impl FromStr for Fail {
    type Err = UnknownFail;

    fn from_str(text: &str) -> Result<Self, UnknownFail> {
        parse(text).ok_or_else(|| UnknownFail(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Fail> {
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, Some(count.parse::<u32>().ok()?)),
        None => (text, None),
    };
    match (name, count) {
        ("hang", None) => Some(Fail::Hang),
        ("first-event", None) => Some(Fail::FirstEventError),
        ("cut", after) => Some(Fail::Cut { after: after.unwrap_or(1) }),
        (status, every) => {
            let status = status.parse().ok().filter(|status| (400..600).contains(status))?;
            let every = every.unwrap_or(1);
            (every > 0).then_some(Fail::Status { status, every })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_understood() {
        assert_eq!("500".parse(), Ok(Fail::Status { status: 500, every: 1 }));
        assert_eq!("429:3".parse(), Ok(Fail::Status { status: 429, every: 3 }));
        assert_eq!("hang".parse(), Ok(Fail::Hang));
        assert_eq!("cut:5".parse(), Ok(Fail::Cut { after: 5 }));
        assert_eq!("first-event".parse(), Ok(Fail::FirstEventError));
    }

    #[test]
    fn what_is_no_failure_is_refused() {
        for text in ["", "200", "500:0", "600", "cut:x", "hang:2", "5xx"] {
            assert!(text.parse::<Fail>().is_err(), "{text}");
        }
    }
}
