//! Signatures of others in `thoughtSignature`, so that a client that sends back what it got brings them
//! along.
//!
//! Google's own are base64, and its clients take nothing else. Ours is the base64 of
//! `forebay.<dialect>.<what it signs>.<the signature>`.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::media::standard;
use crate::config::Dialect;
use crate::protocol::canonical::{MARK, MARK_IN_BASE64, Signature};

/// What stood in `thoughtSignature`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signed {
    /// Of the part it stands on.
    Part(Signature),
    /// It is reasoning that only its provider can read.
    Redacted(Signature),
}

/// Google's own, which go back to Google; nobody else's.
pub fn own(signature: &Signature) -> Option<&str> {
    (signature.dialect == Dialect::Gemini).then_some(signature.data.as_str())
}

/// A signature as a client keeps it.
pub fn write(signature: &Signature) -> Cow<'_, str> {
    marked(signature, "")
}

/// Reasoning that only its provider can read, as a client keeps it.
pub fn write_redacted(signature: &Signature) -> Cow<'_, str> {
    marked(signature, "redacted")
}

pub fn read(data: String) -> Signed {
    other(&data).unwrap_or(Signed::Part(Signature { dialect: Dialect::Gemini, data }))
}

fn marked<'s>(signature: &'s Signature, what: &str) -> Cow<'s, str> {
    let Signature { dialect, data } = signature;
    if *dialect == Dialect::Gemini {
        return Cow::Borrowed(data);
    }
    Cow::Owned(STANDARD.encode(format!("{MARK}.{}.{what}.{data}", dialect.word())))
}

fn other(data: &str) -> Option<Signed> {
    if !data.starts_with(MARK_IN_BASE64) {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(standard(data.to_owned())).ok()?).ok()?;
    let mut words = text.strip_prefix(MARK)?.strip_prefix('.')?.splitn(3, '.');
    let (name, what, data) = (words.next()?, words.next()?, words.next()?);
    let dialect = Dialect::of_word(name).filter(|dialect| *dialect != Dialect::Gemini)?;
    let signature = Signature { dialect, data: data.to_owned() };
    Some(if what.is_empty() { Signed::Part(signature) } else { Signed::Redacted(signature) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_keeps_its_dialect_on_the_way_through_a_client() {
        for dialect in Dialect::ALL {
            let signature = Signature { dialect, data: "Eq.Q=/+ä?>".to_owned() };
            assert_eq!(read(write(&signature).into_owned()), Signed::Part(signature.clone()));
            // As Google's Python client sends it back.
            let urlsafe = write(&signature).replace('+', "-").replace('/', "_");
            if dialect != Dialect::Gemini {
                assert_eq!(read(urlsafe), Signed::Part(signature.clone()));
                let redacted = write_redacted(&signature).into_owned();
                assert_eq!(read(redacted), Signed::Redacted(signature));
            }
        }
    }

    #[test]
    fn googles_own_is_not_changed() {
        let signature = Signature { dialect: Dialect::Gemini, data: "EqsFCqgF".to_owned() };
        assert_eq!(write(&signature), "EqsFCqgF");
        assert_eq!(own(&signature), Some("EqsFCqgF"));
    }
}
