//! How many tokens a prompt has: `CountTokens`
//! (<https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CountTokens.html>).

use super::read_content::mistyped;
use super::read_request::read_request;
use super::write_request::write_request;
use crate::protocol::canonical::count::{counted, members_of, prompt};
use crate::protocol::canonical::{Asked, Invalid, Losses, Request, Target, Unreadable};
use crate::protocol::json::{Mistyped, Object};

/// What is counted.
const COUNTED: &[&str] = &["system", "messages", "toolConfig"];

/// Reads the body: a request within `input.converse`.
pub fn read_count_request(
    body: &[u8],
    asked: &Asked,
    losses: &mut Losses,
) -> Result<Request, Invalid> {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let mut outer = Object::parse(text, "body").map_err(|it| mistyped("", it))?;
    let input = outer.object("input").map_err(|it| mistyped("", it))?;
    let mut input = input.ok_or_else(|| mistyped("", Mistyped::new("input", "an object")))?;
    if input.has("invokeModel") {
        let why = "it is a body of the model's own".to_owned();
        return Err(Invalid::Unsupported { param: "input.invokeModel".to_owned(), why });
    }
    let converse = input.take("converse");
    let missing = || mistyped("input", Mistyped::new("converse", "an object"));
    read_request(converse.ok_or_else(missing)?.get().as_bytes(), asked, losses)
}

/// Writes the body.
pub fn write_count_request(
    request: &Request,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    let body = write_request(&prompt(request), to, losses)?;
    let members = members_of(&body, COUNTED);
    Ok(format!(r#"{{"input":{{"converse":{{{members}}}}}}}"#).into_bytes())
}

/// Reads the count.
pub fn read_count_response(body: &[u8]) -> Result<u64, Unreadable> {
    counted(body, "inputTokens")
}

/// Writes the count.
pub fn write_count_response(tokens: u64) -> Vec<u8> {
    format!(r#"{{"inputTokens":{tokens}}}"#).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Dialect, Kind, Translation};
    use crate::protocol::canonical::Rules;

    const ASKED: Asked = Asked { model: Some("amazon.nova-pro-v1:0"), stream: false };

    fn losses() -> Losses {
        Losses::new(Dialect::Bedrock, Translation::Lenient)
    }

    #[test]
    fn what_is_asked_is_the_prompt() {
        let members = r#""messages":[{"role":"user","content":[{"text":"hi"}]}]"#;
        let body = format!(
            r#"{{"input":{{"converse":{{{members},"inferenceConfig":{{"maxTokens":5}}}}}}}}"#
        );
        let rules = Rules::of(Dialect::Bedrock, Kind::Bedrock, "amazon.nova-pro-v1:0");
        let target = Target { model: "amazon.nova-pro-v1:0", rules: &rules };
        let request = read_count_request(body.as_bytes(), &ASKED, &mut losses()).unwrap();
        let written = write_count_request(&request, &target, &mut losses()).unwrap();
        let wanted = format!(r#"{{"input":{{"converse":{{{members}}}}}}}"#);
        assert_eq!(String::from_utf8(written).unwrap(), wanted);
    }

    #[test]
    fn a_body_without_a_conversation_is_refused() {
        for body in ["{}", r#"{"input":{}}"#, r#"{"input":{"invokeModel":{"body":"e30="}}}"#] {
            read_count_request(body.as_bytes(), &ASKED, &mut losses()).unwrap_err();
        }
    }

    #[test]
    fn a_count_is_read_as_it_was_written() {
        assert_eq!(read_count_response(&write_count_response(7)), Ok(7));
        read_count_response(b"{}").unwrap_err();
    }
}
