//! Signatures as clients of other dialects keep them, in places that are for their own providers', so
//! that they come back with the conversation.
//!
//! `forebay.<dialect>.<the call's id in base64url, if it is a call's>.<the signature>`; no provider's
//! own begins so.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Signature;
use crate::config::Dialect;

/// What they begin with.
pub const MARK: &str = "forebay";
/// That and a dot in base64, as far as what follows does not change it.
pub const MARK_IN_BASE64: &str = "Zm9yZWJheS";

/// A signature that a client kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// Of the block it stands in.
    Block(Signature),
    /// Of the call of this id.
    Call(String, Signature),
    /// Nothing that can be read.
    Damaged,
}

impl Carried {
    /// The signature of a block, as a client keeps it.
    pub fn write(signature: &Signature) -> String {
        Self::write_call("", signature)
    }

    /// The signature of a call, as a client keeps it.
    pub fn write_call(id: &str, Signature { dialect, data }: &Signature) -> String {
        format!("{MARK}.{}.{}.{data}", dialect.word(), URL_SAFE_NO_PAD.encode(id))
    }

    /// `None`: it is not of our making.
    pub fn read(text: &str) -> Option<Self> {
        let ours = text.strip_prefix(MARK)?.strip_prefix('.')?;
        Some(Self::read_ours(ours).unwrap_or(Self::Damaged))
    }

    fn read_ours(ours: &str) -> Option<Self> {
        let mut parts = ours.splitn(3, '.');
        let (dialect, id, data) = (parts.next()?, parts.next()?, parts.next()?);
        let dialect = Dialect::of_word(dialect)?;
        let signature = Signature { dialect, data: data.to_owned() };
        if id.is_empty() {
            return Some(Self::Block(signature));
        }
        let id = String::from_utf8(URL_SAFE_NO_PAD.decode(id).ok()?).ok()?;
        Some(Self::Call(id, signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_signed_the_signature_comes_back_as_it_was() {
        for dialect in Dialect::ALL {
            let signature = Signature { dialect, data: "Eq.Q=/+ä".to_owned() };
            let written = Carried::write(&signature);
            assert_eq!(Carried::read(&written), Some(Carried::Block(signature.clone())));
            let written = Carried::write_call("call:1.ä", &signature);
            let read = Carried::read(&written);
            assert_eq!(read, Some(Carried::Call("call:1.ä".to_owned(), signature)));
        }
    }

    #[test]
    fn a_damaged_one_is_none_and_anothers_is_not_ours() {
        for text in ["forebay.x..y", "forebay.gemini", "forebay.gemini.!.x"] {
            assert_eq!(Carried::read(text), Some(Carried::Damaged), "{text}");
        }
        for text in ["", "forebay", "EqQB"] {
            assert_eq!(Carried::read(text), None, "{text}");
        }
    }
}
