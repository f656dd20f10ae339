//! Signatures of other providers, where a client of Converse keeps them until it sends them back.
//!
//! A client has one place for what signs a model's reasoning, and sends it back as it came. What it
//! was given by a provider of another dialect is marked, so that it finds its way back there and to
//! no one else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

use crate::config::Dialect;
use crate::protocol::canonical::{Carried, MARK_IN_BASE64, Signature};

/// What stood in `redactedContent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redacted {
    /// Reasoning that only its provider can read.
    Thinking(Signature),
    /// The signature of the call of this id.
    Call(String, Signature),
    /// Of our making, and nothing that can be read.
    Damaged,
}

/// A signature as `reasoningText.signature` has it.
pub fn write(signature: &Signature) -> Cow<'_, str> {
    match signature.dialect {
        Dialect::Bedrock => Cow::Borrowed(&signature.data),
        _ => Cow::Owned(Carried::write(signature)),
    }
}

pub fn read(text: String) -> Option<Signature> {
    match Carried::read(&text) {
        Some(Carried::Block(signature)) => Some(signature),
        Some(Carried::Call(..) | Carried::Damaged) => None,
        None => Some(Signature { dialect: Dialect::Bedrock, data: text }),
    }
}

/// What only its provider can read as `redactedContent` has it, which is base64.
pub fn write_redacted(signature: &Signature) -> Cow<'_, str> {
    match write(signature) {
        Cow::Owned(marked) => Cow::Owned(STANDARD.encode(marked)),
        Cow::Borrowed(own) => Cow::Borrowed(own),
    }
}

/// The signature of a call as `redactedContent` has it: Converse has no place for one.
pub fn write_call(id: &str, signature: &Signature) -> String {
    STANDARD.encode(Carried::write_call(id, signature))
}

pub fn read_redacted(base64: String) -> Redacted {
    let marked =
        base64.starts_with(MARK_IN_BASE64).then(|| STANDARD.decode(&base64).ok()).flatten();
    let text = marked.and_then(|bytes| String::from_utf8(bytes).ok());
    match text.and_then(|text| Carried::read(&text)) {
        Some(Carried::Block(signature)) => Redacted::Thinking(signature),
        Some(Carried::Call(id, signature)) => Redacted::Call(id, signature),
        Some(Carried::Damaged) => Redacted::Damaged,
        None => Redacted::Thinking(Signature { dialect: Dialect::Bedrock, data: base64 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_keeps_its_dialect_on_the_way_through_a_client() {
        for dialect in [Dialect::Anthropic, Dialect::Gemini, Dialect::OpenaiChat, Dialect::Bedrock]
        {
            let signature = Signature { dialect, data: "c2lnbmF0dXJl".to_owned() };
            assert_eq!(read(write(&signature).into_owned()), Some(signature.clone()));
            let redacted = write_redacted(&signature).into_owned();
            assert_eq!(read_redacted(redacted), Redacted::Thinking(signature.clone()));
            let call = write_call("call.1", &signature);
            assert_eq!(read_redacted(call), Redacted::Call("call.1".to_owned(), signature));
        }
    }

    #[test]
    fn its_own_is_not_changed() {
        let signature = Signature { dialect: Dialect::Bedrock, data: "EqQB".to_owned() };
        assert_eq!(write(&signature), "EqQB");
        assert_eq!(write_redacted(&signature), "EqQB");
    }

    #[test]
    fn what_is_redacted_stays_base64() {
        let signature = Signature { dialect: Dialect::Anthropic, data: "x_y-z".to_owned() };
        STANDARD.decode(write_redacted(&signature).as_ref()).unwrap();
    }
}
