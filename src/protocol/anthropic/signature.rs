//! Signatures of others in the places Anthropic has for its own, so that a client that sends back what
//! it got brings them along.
//!
//! Anthropic's own are base64; what begins with `forebay` is ours:
//! `forebay.<dialect>.<the call's id in base64url, if it is a call's>.<the signature>`.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::Dialect;
use crate::protocol::canonical::Signature;

/// Stands where nobody signed: some clients send back no thinking without a signature.
const UNSIGNED: &str = "forebay";

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
        Some(Signature { dialect, data }) => {
            Cow::Owned(format!("{UNSIGNED}.{}..{data}", name(*dialect)))
        }
    }
}

/// What stands for the signature of a call.
pub fn write_call_signature(id: &str, signature: &Signature) -> String {
    let Signature { dialect, data } = signature;
    format!("{UNSIGNED}.{}.{}.{data}", name(*dialect), URL_SAFE_NO_PAD.encode(id))
}

pub fn read_signature(text: String) -> Signed {
    if text.is_empty() || text == UNSIGNED {
        return Signed::Nothing;
    }
    let ours = text.strip_prefix(UNSIGNED).and_then(|rest| rest.strip_prefix('.'));
    match ours {
        Some(ours) => read_ours(ours).unwrap_or(Signed::Nothing),
        None => Signed::Thinking(Signature { dialect: Dialect::Anthropic, data: text }),
    }
}

fn read_ours(text: &str) -> Option<Signed> {
    let mut parts = text.splitn(3, '.');
    let (dialect, id, data) = (parts.next()?, parts.next()?, parts.next()?);
    let dialect = ALL.into_iter().find(|known| name(*known) == dialect)?;
    let signature = Signature { dialect, data: data.to_owned() };
    if id.is_empty() {
        return Some(Signed::Thinking(signature));
    }
    let id = String::from_utf8(URL_SAFE_NO_PAD.decode(id).ok()?).ok()?;
    Some(Signed::Call(id, signature))
}

const ALL: [Dialect; 5] = [
    Dialect::OpenaiChat,
    Dialect::OpenaiResponses,
    Dialect::Anthropic,
    Dialect::Gemini,
    Dialect::Bedrock,
];

fn name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenaiChat => "openai_chat",
        Dialect::OpenaiResponses => "openai_responses",
        Dialect::Anthropic => "anthropic",
        Dialect::Gemini => "gemini",
        Dialect::Bedrock => "bedrock",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_signed_the_signature_comes_back_as_it_was() {
        for dialect in ALL {
            let signature = Signature { dialect, data: "Eq.Q=/+ä".to_owned() };
            let written = write_signature(Some(&signature)).into_owned();
            assert_eq!(read_signature(written), Signed::Thinking(signature.clone()));
            let written = write_call_signature("call:1.ä", &signature);
            assert_eq!(read_signature(written), Signed::Call("call:1.ä".to_owned(), signature));
        }
    }

    #[test]
    fn no_signature_and_a_damaged_one_are_none() {
        for text in
            ["", &write_signature(None), "forebay.x..y", "forebay.gemini", "forebay.gemini.!.x"]
        {
            assert_eq!(read_signature(text.to_owned()), Signed::Nothing, "{text}");
        }
    }
}
