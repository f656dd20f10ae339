//! Other providers' signatures in `encrypted_content`, so that a client that keeps nothing but the
//! items brings them back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::config::Dialect;
use crate::protocol::canonical::Signature;

/// How our own content begins; `OpenAI`'s begins with `gAAAA`.
const PREFIX: &str = "gw1:";

/// What a signature belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signed {
    /// The reasoning in the same item.
    #[default]
    Thinking,
    /// Reasoning without words.
    Redacted,
    /// The call of this id, which is an item of its own.
    Call(String),
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    dialect: String,
    of: Signed,
    data: String,
}

/// What stands in `encrypted_content`: `OpenAI`'s own as it is, another's in a wrapping.
pub fn seal(signature: &Signature, of: Signed) -> String {
    if signature.dialect == Dialect::OpenaiResponses && !matches!(of, Signed::Call(_)) {
        return signature.data.clone();
    }
    let sealed =
        Sealed { dialect: signature.dialect.word().to_owned(), of, data: signature.data.clone() };
    let json = serde_json::to_vec(&sealed).unwrap_or_default();
    format!("{PREFIX}{}", STANDARD.encode(json))
}

/// Whose signature it is and of what; `None` for a wrapping that is damaged.
pub fn unseal(content: &str) -> Option<(Signature, Signed)> {
    let Some(wrapped) = content.strip_prefix(PREFIX) else {
        let data = content.to_owned();
        return Some((Signature { dialect: Dialect::OpenaiResponses, data }, Signed::Thinking));
    };
    let json = STANDARD.decode(wrapped).ok()?;
    let Sealed { dialect, of, data } = serde_json::from_slice(&json).ok()?;
    let dialect = Dialect::of_word(&dialect)?;
    Some((Signature { dialect, data }, of))
}

/// Is this of our making? No provider can read it.
pub fn is_sealed(content: &str) -> bool {
    content.starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(dialect: Dialect) -> Signature {
        Signature { dialect, data: "EqQB/+=ä".to_owned() }
    }

    #[test]
    fn anothers_signature_comes_back_as_it_was() {
        for dialect in Dialect::ALL {
            for of in [Signed::Thinking, Signed::Redacted, Signed::Call("c1".to_owned())] {
                let whose = unseal(&seal(&signature(dialect), of.clone()));
                let of = match of {
                    Signed::Redacted if dialect == Dialect::OpenaiResponses => Signed::Thinking,
                    of => of,
                };
                assert_eq!(whose, Some((signature(dialect), of)));
            }
        }
    }

    #[test]
    fn openais_own_stays_as_it_is() {
        let own = signature(Dialect::OpenaiResponses);
        assert_eq!(seal(&own, Signed::Thinking), own.data);
        assert!(!is_sealed(&own.data));
    }

    #[test]
    fn what_is_damaged_is_nobodys() {
        let sealed = seal(&signature(Dialect::Gemini), Signed::Thinking);
        assert!(is_sealed(&sealed));
        assert_eq!(unseal(&sealed[..sealed.len() - 5]), None);
        assert_eq!(unseal("gw1:!"), None);
        assert_eq!(unseal(&format!("gw1:{}", STANDARD.encode("{}"))), None);
    }
}
