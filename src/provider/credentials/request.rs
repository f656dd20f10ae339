//! A request for a token, and why none came of it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};

use crate::config::{Secret, Url};
use crate::provider::sensitive;

/// How much of what a server says is told.
const LONGEST_SAYING: usize = 200;

/// A request for a token.
pub struct TokenRequest {
    pub method: Method,
    /// Where; of its path only what is in `target` counts.
    pub url: Url,
    /// Path and query.
    pub target: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
    /// What of it must not be told, should the answer repeat it.
    secrets: Vec<Secret>,
}

/// Why no token came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unobtained {
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    /// Nobody was reached, or nothing whole came back.
    #[error("{host} does not answer: {reason}")]
    Unreachable { host: String, reason: String },
    #[error("{host} answers {status}{said}")]
    Refused { host: String, status: u16, said: String },
    #[error("what {host} answers cannot be used: {reason}")]
    Unusable { host: String, reason: &'static str },
}

// === impl TokenRequest ===

impl TokenRequest {
    pub(super) fn get(url: Url, target: String) -> Self {
        Self {
            method: Method::GET,
            url,
            target,
            headers: Vec::new(),
            body: Bytes::new(),
            secrets: Vec::new(),
        }
    }

    /// A form, posted to the path of `url`.
    pub(super) fn form(url: Url, pairs: &[(&str, &str)]) -> Self {
        let body = form(pairs);
        let target = if url.path.is_empty() { "/".to_owned() } else { url.path.clone() };
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        Self {
            method: Method::POST,
            headers: vec![(http::header::CONTENT_TYPE, form)],
            body: body.into(),
            ..Self::get(url, target)
        }
    }

    /// … with this header.
    #[must_use]
    pub(super) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((HeaderName::from_static(name), HeaderValue::from_static(value)));
        self
    }

    /// … with this secret in a header; without it when no header can carry it.
    #[must_use]
    pub(super) fn secret_header(mut self, name: HeaderName, value: &Secret) -> Self {
        self.headers.extend(sensitive(value.expose()).map(|value| (name, value)));
        self.hide(value)
    }

    /// … which holds this secret.
    #[must_use]
    pub(super) fn hide(mut self, secret: &Secret) -> Self {
        self.secrets.push(secret.clone());
        self
    }

    /// Whom it goes to.
    pub fn host(&self) -> String {
        self.url.authority()
    }

    pub(super) fn unusable(&self, reason: &'static str) -> Unobtained {
        Unobtained::Unusable { host: self.host(), reason }
    }

    /// A refusal, in the server's words: what kind of error, and what about it.
    pub(super) fn refused(&self, status: u16, words: &[&str]) -> Unobtained {
        let words: Vec<String> = words.iter().filter_map(|words| self.tellable(words)).collect();
        let said = if words.is_empty() { String::new() } else { format!(": {}", words.join(": ")) };
        Unobtained::Refused { host: self.host(), status, said }
    }

    /// What may stand in a log: plain, short, and nothing of what was sent in confidence.
    fn tellable(&self, words: &str) -> Option<String> {
        let first = words.lines().next()?.trim();
        let told = self.secrets.iter().any(|secret| {
            let secret = secret.expose();
            !secret.is_empty() && (first.contains(secret) || secret.contains(first))
        });
        let plain = first.chars().filter(|it| *it == ' ' || it.is_ascii_graphic());
        let plain: String = plain.take(LONGEST_SAYING).collect();
        (!told && !plain.is_empty()).then_some(plain)
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenRequest({} {})", self.method, self.host())
    }
}

// === impl Unobtained ===

impl Unobtained {
    pub(super) fn file(path: &Path, error: &io::Error) -> Self {
        // The path stands before it already, in errors that name it.
        let reason = error.to_string();
        let named = format!("{}: ", path.display());
        let reason = reason.strip_prefix(&named).unwrap_or(&reason).to_owned();
        Self::File { path: path.to_owned(), reason }
    }

    /// The reason in one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::File { .. } => "no_credentials",
            Self::Unreachable { .. } => "token_server_unreachable",
            Self::Refused { .. } => "token_refused",
            Self::Unusable { .. } => "token_unusable",
        }
    }
}

/// A form's body.
pub(super) fn form(pairs: &[(&str, &str)]) -> String {
    let encoded = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let pair = |(name, value): &(&str, &str)| format!("{name}={}", encoded(value));
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_repeats_nothing_that_was_sent_in_confidence() {
        let url: Url = "https://tokens.example.org/t".parse().unwrap();
        let secret = Secret::new("canary-of-a-secret");
        let request = TokenRequest::form(url, &[("client_secret", secret.expose())]).hide(&secret);
        let said = |words: &[&str]| request.refused(401, words).to_string();
        assert_eq!(
            said(&["invalid_client", "The secret canary-of-a-secret is wrong."]),
            "tokens.example.org answers 401: invalid_client"
        );
        assert_eq!(
            said(&["invalid_client", "A wrong secret.\r\nTrace: 1"]),
            "tokens.example.org answers 401: invalid_client: A wrong secret."
        );
        assert_eq!(said(&["", "\u{7}"]), "tokens.example.org answers 401");
        assert!(said(&[&"x".repeat(1000)]).len() < 300);
        assert!(!format!("{request:?}").contains("canary"));
    }
}
