//! How many tokens a prompt has: `/v1/responses/input_tokens`
//! (<https://platform.openai.com/docs/api-reference/responses/input-tokens>).

use super::read_request::read_request;
use super::write_request::write_request;
use crate::protocol::canonical::count::{counted, members_of, prompt};
use crate::protocol::canonical::{Asked, Invalid, Losses, Request, Target, Unreadable};

/// What is counted.
const COUNTED: &[&str] = &[
    "model",
    "instructions",
    "input",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "text",
];

/// Reads the body, which is that of a request.
pub fn read_count_request(
    body: &[u8],
    asked: &Asked,
    losses: &mut Losses,
) -> Result<Request, Invalid> {
    read_request(body, asked, losses)
}

/// Writes the body.
pub fn write_count_request(
    request: &Request,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    let body = write_request(&prompt(request), to, losses)?;
    Ok(format!("{{{}}}", members_of(&body, COUNTED)).into_bytes())
}

/// Reads the count.
pub fn read_count_response(body: &[u8]) -> Result<u64, Unreadable> {
    counted(body, "input_tokens")
}

/// Writes the count.
pub fn write_count_response(tokens: u64) -> Vec<u8> {
    format!(r#"{{"object":"response.input_tokens","input_tokens":{tokens}}}"#).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Dialect, Kind, Translation};
    use crate::protocol::canonical::Rules;

    #[test]
    fn what_is_asked_is_the_prompt_and_nothing_about_the_answer() {
        let mut losses = Losses::new(Dialect::OpenaiResponses, Translation::Lenient);
        let body = br#"{"model":"gpt-5","instructions":"be brief","input":"hi","stream":true,
            "max_output_tokens":100}"#;
        let rules = Rules::of(Dialect::OpenaiResponses, Kind::Openai, "gpt-5");
        let target = Target { model: "gpt-5", rules: &rules };
        let request = read_count_request(body, &Asked::default(), &mut losses).unwrap();
        let written = write_count_request(&request, &target, &mut losses).unwrap();
        let written: serde_json::Value = serde_json::from_slice(&written).unwrap();
        let names: Vec<_> = written.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["model", "instructions", "input"]);
    }

    #[test]
    fn a_count_is_read_as_it_was_written() {
        let written = write_count_response(7);
        assert_eq!(read_count_response(&written), Ok(7));
        read_count_response(b"{}").unwrap_err();
    }
}
