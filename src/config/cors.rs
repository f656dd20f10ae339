//! The `cors` section: which web pages may call.

use super::Url;
use super::read::Value;

/// Which web pages may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Origins as browsers send them, or `*` for any.
    pub allow_origins: Vec<String>,
}

// === impl Cors ===

impl Cors {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| Self {
            allow_origins: s.require("allow_origins", |v| v.list(origin)).unwrap_or_default(),
        })
    }
}

/// Reads an origin exactly as a browser would send it: anything else would never match.
fn origin(value: Value) -> Option<String> {
    let text = value.text()?;
    let sent = text.parse::<Url>().ok().filter(|url| url.path.is_empty());
    if text == "*" || sent.is_some_and(|url| url.to_string() == text) {
        return Some(text);
    }
    value.must_be_hint("`*` or an origin", "such as https://chat.example.org, without a path")
}
