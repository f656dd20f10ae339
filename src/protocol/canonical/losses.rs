//! What does not cross, and what is said of it.

use super::{Fate, Field};
use crate::config::{Dialect, Translation};

/// How many names are told; a request with more has bigger troubles.
const MOST_NAMES: usize = 40;

/// A request that cannot be made in the provider's dialect, or is none in the client's own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is malformed.
    #[error("{message}")]
    Request { param: String, message: String },
    /// Something of it cannot cross.
    #[error("`{param}` cannot be carried over to the model's provider{}", colon(.why))]
    Unsupported { param: String, why: String },
}

fn colon(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

impl Invalid {
    pub fn request(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Request { param: param.into(), message: message.into() }
    }
}

/// What of a request did not cross.
#[derive(Clone, Debug)]
pub struct Losses {
    client: Dialect,
    translation: Translation,
    /// In the client's own words, each once, in the order they were met.
    dropped: Vec<String>,
}

impl Losses {
    pub fn new(client: Dialect, translation: Translation) -> Self {
        Self { client, translation, dropped: Vec::new() }
    }

    /// `field` is in the request and cannot cross as `fate` says: refused, or dropped and named.
    pub fn lose(&mut self, field: Field, fate: Fate) -> Result<(), Invalid> {
        let name = field.name(self.client);
        match fate {
            Fate::Refused(why) => {
                Err(Invalid::Unsupported { param: name.to_owned(), why: why.to_owned() })
            }
            _ if field.is_hint() => {
                self.note(name);
                Ok(())
            }
            Fate::Carried | Fate::Converted(_) | Fate::Dropped => self.drop_member(name),
        }
    }

    /// A member of the client's body that has no place in the middle form.
    pub fn drop_member(&mut self, name: &str) -> Result<(), Invalid> {
        if self.translation == Translation::Strict {
            return Err(Invalid::Unsupported { param: name.to_owned(), why: String::new() });
        }
        self.note(name);
        Ok(())
    }

    fn note(&mut self, name: &str) {
        // It becomes a header.
        let name: String = name.chars().filter(char::is_ascii_graphic).take(100).collect();
        if self.dropped.len() < MOST_NAMES && !self.dropped.contains(&name) {
            self.dropped.push(name);
        }
    }

    /// What was dropped, in the client's words.
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_named_once_in_the_clients_words() {
        let mut losses = Losses::new(Dialect::Gemini, Translation::Lenient);
        losses.lose(Field::TopK, Fate::Dropped).unwrap();
        losses.lose(Field::TopK, Fate::Dropped).unwrap();
        losses.drop_member("safetySettings").unwrap();
        assert_eq!(losses.dropped(), ["generationConfig.topK", "safetySettings"]);
    }

    #[test]
    fn strict_refuses_what_lenient_drops() {
        let mut losses = Losses::new(Dialect::OpenaiChat, Translation::Strict);
        let refused = losses.lose(Field::Seed, Fate::Dropped).unwrap_err();
        assert!(matches!(refused, Invalid::Unsupported { ref param, .. } if param == "seed"));
    }

    #[test]
    fn a_hint_is_named_and_never_refused() {
        let mut losses = Losses::new(Dialect::Anthropic, Translation::Strict);
        losses.lose(Field::CacheMark, Fate::Dropped).unwrap();
        losses.lose(Field::CacheKey, Fate::Carried).unwrap();
        assert_eq!(losses.dropped(), ["cache_control", "prompt_cache_key"]);
    }

    #[test]
    fn what_would_falsify_the_call_is_refused_in_any_case() {
        let mut losses = Losses::new(Dialect::OpenaiChat, Translation::Lenient);
        losses.lose(Field::Audio, Fate::Refused("no audio")).unwrap_err();
    }
}
