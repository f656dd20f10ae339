//! Refusals as Anthropic writes them.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::protocol::canonical::Refusal;

/// The body of an error answer.
pub fn write_refusal(refusal: &Refusal) -> Vec<u8> {
    body(refusal).to_string().into_bytes()
}

/// The event after which a stream ends that has begun and cannot go on.
pub fn write_stream_refusal(refusal: &Refusal) -> Vec<u8> {
    format!("event: error\ndata: {}\n\n", body(refusal)).into_bytes()
}

fn body(refusal: &Refusal) -> Value {
    let message = match refusal.code {
        "context_length_exceeded" => overflow(refusal.message),
        _ => Cow::Borrowed(refusal.message),
    };
    json!({
        "type": "error",
        "error": { "type": error_type(refusal.status), "message": message },
        "request_id": refusal.request_id,
    })
}

/// <https://docs.anthropic.com/en/api/errors>
fn error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        408 | 504 => "timeout_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// The least that Claude Code leaves between the prompt and the context's end.
const MARGIN: u64 = 1000;

/// An overflow of the context in Anthropic's own words, which are a part of the protocol: Claude Code
/// compacts the conversation where it reads `prompt is too long: A tokens > M maximum`, and asks for a
/// shorter answer where it reads ``input length and `max_tokens` exceed context limit: A + B > M``.
fn overflow(message: &str) -> Cow<'_, str> {
    let lower = message.to_ascii_lowercase();
    if lower.contains("prompt is too long") || lower.contains("exceed context limit") {
        return Cow::Borrowed(message);
    }
    let Counts { most, prompt, answer, total } = Counts::read(&lower);
    let Some(most) = most else { return Cow::Owned(format!("prompt is too long: {message}")) };
    Cow::Owned(match (prompt, answer) {
        (Some(prompt), Some(answer)) if prompt.saturating_add(MARGIN) <= most => format!(
            "input length and `max_tokens` exceed context limit: {prompt} + {answer} > {most}, \
             decrease input length or `max_tokens` and try again"
        ),
        (prompt, answer) => {
            let sum = prompt.unwrap_or_default().saturating_add(answer.unwrap_or_default());
            let tokens = prompt.filter(|prompt| *prompt > most);
            let tokens = tokens.or(total).unwrap_or(sum);
            if tokens > most {
                format!("prompt is too long: {tokens} tokens > {most} maximum")
            } else {
                format!("prompt is too long: {message}")
            }
        }
    })
}

/// What the servers' messages say of an overflow, in tokens.
#[derive(Debug, Default)]
struct Counts {
    /// The context's length.
    most: Option<u64>,
    prompt: Option<u64>,
    /// The most that the answer was to have.
    answer: Option<u64>,
    /// Of prompt and answer.
    total: Option<u64>,
}

impl Counts {
    /// Reads a message in lower case: those of `OpenAI`, vLLM, `SGLang`, TGI, Mistral and Google.
    fn read(message: &str) -> Self {
        let after =
            |words: &[&str]| words.iter().find_map(|words| number_at(message.split_once(words)?.1));
        let before = |words: &[&str]| {
            words.iter().find_map(|words| number_before(message.split_once(words)?.0))
        };
        Self {
            most: after(&[
                "maximum context length is ",
                "maximum context length of ",
                "maximum context length (",
                "context length (",
                "context length is only ",
                "maximum model length of ",
                "maximum number of tokens allowed (",
                "`max_new_tokens` must be <= ",
                "model with ",
            ]),
            prompt: before(&[
                " in the messages",
                " tokens from the input messages",
                " input tokens",
                " `inputs` tokens",
                " tokens) is longer than",
                " tokens and too large",
            ])
            .or_else(|| {
                after(&[
                    "messages resulted in ",
                    "input token count (",
                    "input length (",
                    "decoder prompt (length ",
                    "prompt contains ",
                ])
            }),
            answer: before(&[
                " in the completion",
                " tokens for the completion",
                " output tokens",
                " `max_new_tokens`",
            ])
            .or_else(|| after(&["is too large: "])),
            total: after(&["you requested a total of ", "a total of at least ", "you requested "]),
        }
    }
}

/// The number that a text begins with, its thousands parted by commas or not.
fn number_at(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b',');
    number(digits)
}

/// The number that a text ends with.
fn number_before(text: &str) -> Option<u64> {
    let length =
        text.bytes().rev().take_while(|byte| byte.is_ascii_digit() || *byte == b',').count();
    number(text.bytes().skip(text.len() - length))
}

fn number(digits: impl Iterator<Item = u8>) -> Option<u64> {
    let digits: String = digits.filter(u8::is_ascii_digit).map(char::from).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSAL: Refusal = Refusal {
        status: 400,
        code: "context_length_exceeded",
        message: "",
        param: None,
        request_id: "r-1",
    };

    #[test]
    fn a_refusal_has_the_type_of_its_status() {
        for (status, kind) in [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
            (429, "rate_limit_error"),
            (504, "timeout_error"),
            (503, "overloaded_error"),
            (502, "api_error"),
        ] {
            let refusal = Refusal { status, code: "x", message: "no \"x\"\n", ..REFUSAL };
            let written: Value = serde_json::from_slice(&write_refusal(&refusal)).unwrap();
            let error = json!({"type": kind, "message": "no \"x\"\n"});
            assert_eq!(written, json!({"type": "error", "error": error, "request_id": "r-1"}));
        }
    }

    #[test]
    fn the_refusal_in_a_stream_is_one_event() {
        let written = String::from_utf8(write_stream_refusal(&REFUSAL)).unwrap();
        let data = written.strip_prefix("event: error\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap();
        assert_eq!(data["type"], "error");
    }

    #[test]
    fn a_prompt_beyond_the_context_is_told_in_the_words_that_make_claude_code_compact() {
        for message in [
            "This model's maximum context length is 8192 tokens. However, your messages resulted in \
             9000 tokens. Please reduce the length of the messages.",
            "This model's maximum context length is 8,192 tokens. However, you requested 9,100 tokens \
             (9,000 in the messages, 100 in the completion).",
            "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
            "Input length (9000) exceeds model's maximum context length (8192).",
            "Requested token count exceeds the model's maximum context length of 8192 tokens. You \
             requested a total of 9100 tokens: 9000 tokens from the input messages and 100 tokens for \
             the completion.",
            "The decoder prompt (length 9000) is longer than the maximum model length of 8192.",
            "The input token count (9000) exceeds the maximum number of tokens allowed (8192).",
            "`inputs` tokens + `max_new_tokens` must be <= 8192. Given: 9000 `inputs` tokens and 100 \
             `max_new_tokens`",
            "Prompt contains 9000 tokens and 0 draft tokens, too large for model with 8192 maximum \
             context length",
        ] {
            assert_eq!(
                overflow(message),
                "prompt is too long: 9000 tokens > 8192 maximum",
                "{message}"
            );
        }
    }

    #[test]
    fn an_answer_that_does_not_fit_behind_the_prompt_is_told_in_the_words_that_make_it_shorter() {
        for message in [
            "This model's maximum context length is 8192 tokens. However, you requested 10000 tokens \
             (6000 in the messages, 4000 in the completion).",
            "This model's maximum context length is 8192 tokens. However, you requested 4000 output \
             tokens and your prompt contains at least 6000 input tokens, for a total of at least \
             10000 tokens.",
            "'max_tokens' or 'max_completion_tokens' is too large: 4000. This model's maximum context \
             length is 8192 tokens and your request has 6000 input tokens (4000 > 8192 - 6000).",
            "Requested token count exceeds the model's maximum context length of 8192 tokens. You \
             requested a total of 10000 tokens: 6000 tokens from the input messages and 4000 tokens \
             for the completion.",
        ] {
            let wanted = "input length and `max_tokens` exceed context limit: 6000 + 4000 > 8192, \
                          decrease input length or `max_tokens` and try again";
            assert_eq!(overflow(message), wanted, "{message}");
        }
    }

    #[test]
    fn where_a_shorter_answer_does_not_help_the_prompt_is_too_long() {
        let message = "This model's maximum context length is 8192 tokens. However, you requested 9200 \
                       tokens (8000 in the messages, 1200 in the completion).";
        assert_eq!(overflow(message), "prompt is too long: 9200 tokens > 8192 maximum");
    }

    #[test]
    fn anthropics_own_words_stay_and_a_message_without_numbers_gets_the_ones_that_count() {
        let own = "prompt is too long: 208310 tokens > 200000 maximum";
        assert_eq!(overflow(own), own);
        let own = "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000";
        assert_eq!(overflow(own), own);
        let message = "Input is too long for requested model.";
        assert_eq!(overflow(message), "prompt is too long: Input is too long for requested model.");
    }
}
