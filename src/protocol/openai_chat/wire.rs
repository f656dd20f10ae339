//! An answer as servers write it: one chunk of a stream, or the whole at once.
//!
//! The form is `OpenAI`'s (<https://platform.openai.com/docs/api-reference/chat-streaming>); what is
//! optional here, or of several types, is so because some server of those that speak the dialect leaves
//! it out, or writes it so.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_json::value::RawValue;

use super::usage::WireUsage;

/// A `chat.completion.chunk` or a `chat.completion`.
#[derive(Deserialize)]
pub(super) struct Chunk<'j> {
    #[serde(borrow)]
    pub id: Option<Text<'j>>,
    #[serde(borrow)]
    pub model: Option<Text<'j>>,
    /// `SGLang`'s errors are flat: `{"object":"error","message":…}`.
    #[serde(borrow)]
    pub object: Option<Text<'j>>,
    pub created: Option<Number>,
    #[serde(borrow)]
    pub choices: Option<Vec<Choice<'j>>>,
    /// What few chunks have lies elsewhere: a chunk is moved several times.
    pub usage: Option<Box<WireUsage>>,
    #[serde(borrow)]
    pub error: Option<&'j RawValue>,
    /// Groq's own member, which has the usage too, and in its older versions alone.
    pub x_groq: Option<Box<XGroq>>,
}

#[derive(Deserialize)]
pub(super) struct XGroq {
    pub usage: Option<WireUsage>,
}

#[derive(Deserialize)]
pub(super) struct Choice<'j> {
    pub index: Option<Number>,
    #[serde(borrow)]
    pub delta: Option<Message<'j>>,
    /// Of a whole answer. Some servers end a stream with all of it once more.
    #[serde(borrow)]
    pub message: Option<Box<Message<'j>>>,
    #[serde(borrow)]
    pub finish_reason: Option<Text<'j>>,
    /// vLLM: the string that ended the answer, or a token's number.
    #[serde(borrow)]
    pub stop_reason: Option<Words<'j>>,
    /// `SGLang`'s name of the same.
    #[serde(borrow)]
    pub matched_stop: Option<Words<'j>>,
}

/// A message, or more of one.
#[derive(Default, Deserialize)]
pub(super) struct Message<'j> {
    #[serde(borrow)]
    pub content: Option<Words<'j>>,
    #[serde(borrow)]
    pub refusal: Option<Text<'j>>,
    /// `SGLang`, `DeepSeek` and most others.
    #[serde(borrow)]
    pub reasoning_content: Option<Words<'j>>,
    /// vLLM, Groq, `OpenRouter`.
    #[serde(borrow)]
    pub reasoning: Option<Words<'j>>,
    /// `OpenRouter`'s form, which has signatures.
    #[serde(borrow)]
    pub reasoning_details: Option<Vec<Detail<'j>>>,
    #[serde(borrow)]
    pub tool_calls: Option<Vec<Call<'j>>>,
    #[serde(borrow)]
    pub annotations: Option<Vec<Note<'j>>>,
    #[serde(borrow)]
    pub images: Option<Vec<Picture<'j>>>,
}

/// One of `reasoning_details`
/// (<https://openrouter.ai/docs/use-cases/reasoning-tokens#reasoning_details-array-structure>).
#[derive(Default, Deserialize)]
pub(super) struct Detail<'j> {
    #[serde(borrow)]
    pub text: Option<Text<'j>>,
    #[serde(borrow)]
    pub summary: Option<Text<'j>>,
    #[serde(borrow)]
    pub signature: Option<Text<'j>>,
    #[serde(borrow)]
    pub data: Option<Text<'j>>,
    #[serde(borrow)]
    pub format: Option<Text<'j>>,
    pub index: Option<Number>,
}

/// A tool's call, or more of one.
#[derive(Default, Deserialize)]
pub(super) struct Call<'j> {
    pub index: Option<Number>,
    #[serde(borrow)]
    pub id: Option<Text<'j>>,
    #[serde(borrow)]
    pub function: Option<Function<'j>>,
    #[serde(borrow)]
    pub custom: Option<Custom<'j>>,
    #[serde(borrow)]
    pub extra_content: Option<ExtraContent<'j>>,
}

#[derive(Default, Deserialize)]
pub(super) struct Function<'j> {
    #[serde(borrow)]
    pub name: Option<Text<'j>>,
    /// A string of JSON; from some servers the JSON itself.
    #[serde(borrow)]
    pub arguments: Option<&'j RawValue>,
}

#[derive(Default, Deserialize)]
pub(super) struct Custom<'j> {
    #[serde(borrow)]
    pub name: Option<Text<'j>>,
    #[serde(borrow)]
    pub input: Option<Text<'j>>,
}

/// Where Google puts the signature of a call
/// (<https://ai.google.dev/gemini-api/docs/thought-signatures>).
#[derive(Default, Deserialize)]
pub(super) struct ExtraContent<'j> {
    #[serde(borrow)]
    pub google: Option<Google<'j>>,
}

#[derive(Default, Deserialize)]
pub(super) struct Google<'j> {
    #[serde(borrow)]
    pub thought_signature: Option<Text<'j>>,
}

#[derive(Deserialize)]
pub(super) struct Note<'j> {
    #[serde(borrow)]
    pub url_citation: Option<Citation<'j>>,
}

#[derive(Deserialize)]
pub(super) struct Citation<'j> {
    #[serde(borrow)]
    pub url: Option<Text<'j>>,
    #[serde(borrow)]
    pub title: Option<Text<'j>>,
    pub start_index: Option<Number>,
    pub end_index: Option<Number>,
}

#[derive(Deserialize)]
pub(super) struct Picture<'j> {
    #[serde(borrow)]
    pub image_url: Option<PictureUrl<'j>>,
}

#[derive(Deserialize)]
pub(super) struct PictureUrl<'j> {
    #[serde(borrow)]
    pub url: Option<Text<'j>>,
}

impl Chunk<'_> {
    /// Whether it tells of an error. Like the official clients, this looks whether `error` says anything.
    pub fn is_error(&self) -> bool {
        let said = |value: &RawValue| !matches!(value.get(), "null" | "false" | "\"\"" | "{}");
        self.error.is_some_and(said)
            || (self.choices.is_none() && self.object.as_ref().is_some_and(|it| it.0 == "error"))
    }
}

impl Function<'_> {
    /// The arguments' text; empty for none.
    pub fn arguments(&self) -> Cow<'_, str> {
        let raw = self.arguments.map_or("null", RawValue::get);
        match serde_json::from_str::<Option<Text>>(raw) {
            Ok(text) => text.unwrap_or_default().0,
            // An object is its own text.
            Err(_) => Cow::Borrowed(raw),
        }
    }
}

/// A string, borrowed where nothing in it is escaped. Ids are numbers on some servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text<'j>(pub Cow<'j, str>);

impl Text<'_> {
    /// What it says, if anything.
    pub fn said(this: Option<&Self>) -> Option<&str> {
        this.map(|text| &*text.0).filter(|text| !text.is_empty())
    }
}

impl<'de: 'j, 'j> Deserialize<'de> for Text<'j> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Characters;

        impl<'de> Visitor<'de> for Characters {
            type Value = Text<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(number.to_string())))
            }
        }

        deserializer.deserialize_any(Characters)
    }
}

/// Words in one string, or in parts as Mistral writes them; whatever else stands there says nothing.
#[derive(Debug)]
pub(super) enum Words<'j> {
    Text(Cow<'j, str>),
    Parts(Vec<Part<'j>>),
    Nothing,
}

#[derive(Debug, Deserialize)]
pub(super) struct Part<'j> {
    #[serde(borrow)]
    pub text: Option<Text<'j>>,
    #[serde(borrow)]
    pub thinking: Option<Box<Words<'j>>>,
}

impl Words<'_> {
    pub fn are_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Parts(parts) => parts.is_empty(),
            Self::Nothing => true,
        }
    }

    /// The text, if it is one string and not empty.
    pub fn said(this: Option<&Self>) -> Option<&str> {
        match this {
            Some(Self::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
}

impl<'de: 'j, 'j> Deserialize<'de> for Words<'j> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Words<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a string or parts")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Words::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Words::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = seq.next_element()? {
                    parts.push(part);
                }
                Ok(Words::Parts(parts))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Words::Nothing)
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Words::Nothing)
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Words::Nothing)
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Words::Nothing)
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Words::Nothing)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(call: &str) -> String {
        let call: Call = serde_json::from_str(call).unwrap();
        call.function.unwrap().arguments().into_owned()
    }

    #[test]
    fn arguments_are_a_string_an_object_or_nothing() {
        assert_eq!(arguments(r#"{"function":{"arguments":"{\"a\":1}"}}"#), r#"{"a":1}"#);
        assert_eq!(arguments(r#"{"function":{"arguments":{"a": 1}}}"#), r#"{"a": 1}"#);
        assert_eq!(arguments(r#"{"function":{"arguments":null}}"#), "");
        assert_eq!(arguments(r#"{"function":{}}"#), "");
    }

    #[test]
    fn an_error_is_what_says_something() {
        let is_error = |text| serde_json::from_str::<Chunk>(text).unwrap().is_error();
        assert!(is_error(r#"{"error":{"message":"no"}}"#));
        assert!(is_error(r#"{"error":"no","error_type":"overloaded"}"#));
        assert!(is_error(r#"{"object":"error","message":"no","code":400}"#));
        assert!(!is_error(r#"{"error":null,"choices":[]}"#));
        assert!(!is_error(r#"{"choices":[]}"#));
    }

    #[test]
    fn a_text_without_escapes_is_borrowed() {
        let text: Text = serde_json::from_str(r#""hi""#).unwrap();
        assert!(matches!(text.0, Cow::Borrowed("hi")));
    }
}
