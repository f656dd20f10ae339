//! Signatures of other providers, where a client of Converse keeps them until it sends them back.
//!
//! A client has one place for what signs a model's reasoning, and sends it back as it came. What it
//! was given by a provider of another dialect is marked, so that it finds its way back there and to
//! no one else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

use crate::config::Dialect;
use crate::protocol::canonical::Signature;

const MARKS: [(&str, Dialect); 4] = [
    ("forebay.anthropic..", Dialect::Anthropic),
    ("forebay.gemini..", Dialect::Gemini),
    ("forebay.openai_chat..", Dialect::OpenaiChat),
    ("forebay.openai_responses..", Dialect::OpenaiResponses),
];

/// `forebay.` in base64, as far as what follows does not change it.
const ENCODED: &str = "Zm9yZWJheS";

/// A signature as `reasoningText.signature` has it.
pub fn write(signature: &Signature) -> Cow<'_, str> {
    match MARKS.iter().find(|(_, dialect)| *dialect == signature.dialect) {
        Some((mark, _)) => Cow::Owned(format!("{mark}{}", signature.data)),
        None => Cow::Borrowed(&signature.data),
    }
}

pub fn read(text: String) -> Signature {
    let marked = MARKS.iter().find_map(|(mark, dialect)| {
        text.strip_prefix(mark).map(|data| (*dialect, data.to_owned()))
    });
    let (dialect, data) = marked.unwrap_or((Dialect::Bedrock, text));
    Signature { dialect, data }
}

/// What only its provider can read as `redactedContent` has it, which is base64.
pub fn write_redacted(signature: &Signature) -> Cow<'_, str> {
    match write(signature) {
        Cow::Owned(marked) => Cow::Owned(STANDARD.encode(marked)),
        Cow::Borrowed(own) => Cow::Borrowed(own),
    }
}

pub fn read_redacted(base64: String) -> Signature {
    let marked = base64.starts_with(ENCODED).then(|| STANDARD.decode(&base64).ok()).flatten();
    match marked.and_then(|bytes| String::from_utf8(bytes).ok()) {
        Some(text) => read(text),
        None => Signature { dialect: Dialect::Bedrock, data: base64 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_keeps_its_dialect_on_the_way_through_a_client() {
        let others = MARKS.iter().map(|(_, dialect)| *dialect);
        for dialect in others.chain([Dialect::Bedrock]) {
            let signature = Signature { dialect, data: "c2lnbmF0dXJl".to_owned() };
            assert_eq!(read(write(&signature).into_owned()), signature);
            assert_eq!(read_redacted(write_redacted(&signature).into_owned()), signature);
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
