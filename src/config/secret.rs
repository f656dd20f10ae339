//! Text that must not be shown.

use std::fmt;

use super::read::Value;

// The fewest that cannot be tried out, when they are random.
const SHORT: usize = 16;

/// A key, a token, or anything else that must not be shown: no `Display`, and `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

// === impl Secret ===

impl Secret {
    /// Hides this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Each call is a place to look at when a secret got out.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Enough to tell keys apart: the last four characters, or nothing of a short one.
    pub fn hint(&self) -> String {
        let length = self.0.chars().count();
        let shown = if length < 12 { length } else { length - 4 };
        std::iter::once('…').chain(self.0.chars().skip(shown)).collect()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Value<'_> {
    /// Reads a key that callers show; what is wrong with one is told without repeating it.
    pub(super) fn access_key(self) -> Option<Secret> {
        let key = self.scalar("a text")?.text.as_str();
        if key.is_empty() {
            return self.error("an empty key would let everyone in");
        }
        if key.chars().any(char::is_whitespace) {
            return self.error(format!("`{}` holds whitespace", self.name));
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return self
                .error(format!("`{}` holds characters that no header can carry", self.name));
        }
        if key.len() < SHORT {
            self.warn(format!("`{}` is shorter than {SHORT} characters: easy to guess", self.name));
        }
        Some(Secret::new(key))
    }
}
