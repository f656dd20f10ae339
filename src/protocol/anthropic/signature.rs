//! Signatures of others in the places Anthropic has for its own, which are base64.

use std::borrow::Cow;

use crate::config::Dialect;
use crate::protocol::canonical::{Carried, MARK, Signature};

/// Stands where nobody signed: some clients send back no thinking without a signature.
const UNSIGNED: &str = MARK;

/// What stood in `signature` or `data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signed {
    /// No signature, or nothing that can be read.
    Nothing,
    Thinking(Signature),
    /// The call of this id.
    Call(String, Signature),
}

/// What stands for the signature of thinking.
pub fn write_signature(signature: Option<&Signature>) -> Cow<'_, str> {
    match signature {
        None => Cow::Borrowed(UNSIGNED),
        Some(own) if own.dialect == Dialect::Anthropic => Cow::Borrowed(&own.data),
        Some(other) => Cow::Owned(Carried::write(other)),
    }
}

/// What stands for the signature of a call.
pub fn write_call_signature(id: &str, signature: &Signature) -> String {
    Carried::write_call(id, signature)
}

pub fn read_signature(text: String) -> Signed {
    if text.is_empty() || text == UNSIGNED {
        return Signed::Nothing;
    }
    match Carried::read(&text) {
        Some(Carried::Block(signature)) => Signed::Thinking(signature),
        Some(Carried::Call(id, signature)) => Signed::Call(id, signature),
        Some(Carried::Damaged) => Signed::Nothing,
        None => Signed::Thinking(Signature { dialect: Dialect::Anthropic, data: text }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_signed_the_signature_comes_back_as_it_was() {
        for dialect in [Dialect::Anthropic, Dialect::Gemini] {
            let signature = Signature { dialect, data: "Eq.Q=/+ä".to_owned() };
            let written = write_signature(Some(&signature)).into_owned();
            assert_eq!(read_signature(written), Signed::Thinking(signature.clone()));
            let written = write_call_signature("call:1.ä", &signature);
            assert_eq!(read_signature(written), Signed::Call("call:1.ä".to_owned(), signature));
        }
    }

    #[test]
    fn no_signature_and_a_damaged_one_are_none() {
        for text in ["", &write_signature(None), "forebay.x..y"] {
            assert_eq!(read_signature(text.to_owned()), Signed::Nothing, "{text}");
        }
    }
}
