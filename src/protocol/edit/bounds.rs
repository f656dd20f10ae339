//! Where a request says how long its answer may be, how many there are to be, and where they stop.

use super::request::{ChatCap, EditError};
use crate::protocol::Operation;
use crate::protocol::json::scan::{Members, ScanError, scan};
use crate::protocol::json::text::unquote;

/// The members that say how long an answer may be, in every dialect. A server may read another one than
/// the next; the largest counts.
const LONGEST: &[&str] = &[
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "maxOutputTokens",
    "maxTokens",
    "max_new_tokens",
];
/// How many answers are made: of those of `best_of` the client gets `n`.
const ANSWERS: &[&str] = &["n", "best_of", "candidateCount", "candidate_count"];
/// Objects of Google's and Amazon's that say the same. Google reads its names in either spelling
/// (<https://protobuf.dev/programming-guides/json/>).
const WITHIN: [&str; 4] = ["generationConfig", "generation_config", "inferenceConfig", MODELS_OWN];
/// What a model behind `Converse` takes beside what all of them do, in its own words.
const MODELS_OWN: &str = "additionalModelRequestFields";

/// What a request says of its answers; what it does not say is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The longest of one, in tokens.
    pub longest: Option<u64>,
    /// How many.
    pub answers: Option<u64>,
}

/// Where a request of one operation says it.
pub(super) struct Places {
    /// The object they stand in, by its names, of which the first is written; the request itself if none.
    pub within: &'static [&'static str],
    /// Members that cap the answer; the first is written where the client used none.
    pub caps: &'static [&'static str],
    pub stop: &'static [&'static str],
    /// An object in which caps may stand as well; none is written there.
    pub also: Option<&'static str>,
}

impl Bounds {
    /// Reads them wherever some dialect has them.
    ///
    /// # Errors
    /// When one is no whole number, or an object has a name twice.
    pub fn read(body: &[u8], members: &Members) -> Result<Self, EditError> {
        let mut bounds = Self::default();
        for (names, found) in [(LONGEST, &mut bounds.longest), (ANSWERS, &mut bounds.answers)] {
            for name in names {
                *found = (*found).max(members.unsigned(body, name)?);
            }
        }
        for outer in WITHIN {
            let Some(raw) = members.raw(body, outer).filter(|raw| *raw != b"null") else {
                continue;
            };
            let inner = scan(raw).map_err(|error| wrong_object(outer, &error))?;
            for (names, found) in [(LONGEST, &mut bounds.longest), (ANSWERS, &mut bounds.answers)] {
                for name in names {
                    let Some(raw) = inner.raw(raw, name).filter(|raw| *raw != b"null") else {
                        continue;
                    };
                    *found = (*found).max(Some(whole(name, raw)?));
                }
            }
        }
        Ok(bounds)
    }
}

impl Places {
    pub fn of(operation: Operation, chat_cap: ChatCap) -> Self {
        let none = Self { within: &[], caps: &[], stop: &[], also: None };
        match operation {
            Operation::ChatCompletions => {
                let caps: &[&str] = match chat_cap {
                    ChatCap::MaxTokens => &["max_tokens", "max_completion_tokens"],
                    ChatCap::MaxCompletionTokens => &["max_completion_tokens", "max_tokens"],
                };
                Self { caps, stop: &["stop"], ..none }
            }
            Operation::Completions => Self { caps: &["max_tokens"], stop: &["stop"], ..none },
            Operation::Messages | Operation::Invoke => {
                Self { caps: &["max_tokens"], stop: &["stop_sequences"], ..none }
            }
            Operation::Responses => Self { caps: &["max_output_tokens"], ..none },
            Operation::GenerateContent => Self {
                within: &["generationConfig", "generation_config"],
                caps: &["maxOutputTokens", "max_output_tokens"],
                stop: &["stopSequences", "stop_sequences"],
                ..none
            },
            Operation::Converse => Self {
                within: &["inferenceConfig"],
                caps: &["maxTokens"],
                stop: &["stopSequences"],
                also: Some(MODELS_OWN),
            },
            _ => none,
        }
    }
}

/// The members that may cap an answer in an object of the model's own.
pub(super) fn models_own_caps() -> &'static [&'static str] {
    LONGEST
}

/// A number of Google's and Amazon's, which may stand in quotes, and have a point and an exponent.
pub(super) fn whole(name: &str, raw: &[u8]) -> Result<u64, EditError> {
    let text = std::str::from_utf8(raw).unwrap_or_default();
    let text = if text.starts_with('"') { unquote(text) } else { text.into() };
    let number = text.parse().ok().or_else(|| {
        let number: f64 = text.parse().ok()?;
        let whole = number.fract() == 0.0 && (0.0..1e15).contains(&number);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it was just seen to be whole and not negative"
        )]
        whole.then_some(number as u64)
    });
    number.ok_or_else(|| EditError::wrong(name, "a whole number that is not negative"))
}

pub(super) fn wrong_object(name: &str, error: &ScanError) -> EditError {
    match error {
        ScanError::Duplicate(twice) => EditError::twice(name, twice),
        _ => EditError::wrong(name, "an object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(body: &str) -> Result<(Option<u64>, Option<u64>), EditError> {
        let members = scan(body.as_bytes()).unwrap();
        Bounds::read(body.as_bytes(), &members).map(|it| (it.longest, it.answers))
    }

    #[test]
    fn they_are_found_in_every_dialect_and_spelling() {
        for (body, found) in [
            ("{}", (None, None)),
            (r#"{"max_tokens":5,"max_completion_tokens":7,"n":2}"#, (Some(7), Some(2))),
            (r#"{"max_output_tokens":5}"#, (Some(5), None)),
            (
                r#"{"generationConfig":{"maxOutputTokens":5,"candidateCount":3}}"#,
                (Some(5), Some(3)),
            ),
            (r#"{"generation_config":{"max_output_tokens":"5"}}"#, (Some(5), None)),
            (
                r#"{"generation_config":{"maxOutputTokens":5.0,"candidate_count":"2"}}"#,
                (Some(5), Some(2)),
            ),
            (
                r#"{"generationConfig":{"maxOutputTokens":5},"generation_config":{"max_output_tokens":9}}"#,
                (Some(9), None),
            ),
            (r#"{"generationConfig":{"max_output_token\u0073":5e2}}"#, (Some(500), None)),
            (r#"{"generationConfig":null,"inferenceConfig":{"maxTokens":5}}"#, (Some(5), None)),
            (
                r#"{"inferenceConfig":{"maxTokens":5},"additionalModelRequestFields":{"max_tokens":8}}"#,
                (Some(8), None),
            ),
        ] {
            assert_eq!(bounds(body), Ok(found), "{body}");
        }
    }

    #[test]
    fn what_is_read_in_two_ways_or_not_at_all_is_refused() {
        for body in [
            r#"{"max_tokens":"5"}"#,
            r#"{"max_tokens":-1}"#,
            r#"{"generation_config":{"max_output_tokens":"many"}}"#,
            r#"{"generationConfig":{"maxOutputTokens":-5}}"#,
            r#"{"generationConfig":{"maxOutputTokens":1e99}}"#,
            r#"{"generationConfig":{"maxOutputTokens":1,"maxOutputTokens":99}}"#,
            r#"{"generationConfig":[]}"#,
            r#"{"inferenceConfig":{"maxTokens":true}}"#,
        ] {
            bounds(body).unwrap_err();
        }
    }
}
