//! How many tokens a prompt has: `countTokens` (<https://ai.google.dev/api/tokens>).

use super::read_request::read_request;
use super::write_request::write_request;
use crate::protocol::canonical::count::{counted, members_of, prompt};
use crate::protocol::canonical::{Asked, Invalid, Losses, Request, Target, Unreadable};
use crate::protocol::json::Object;
use crate::protocol::json::text::quote;

/// What is counted.
const COUNTED: &[&str] = &["systemInstruction", "contents", "tools"];

/// Reads the body: a request, or one within `generateContentRequest`.
pub fn read_count_request(
    body: &[u8],
    asked: &Asked,
    losses: &mut Losses,
) -> Result<Request, Invalid> {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let mut outer = Object::parse(text, "body").unwrap_or_default();
    let inner =
        outer.take("generateContentRequest").or_else(|| outer.take("generate_content_request"));
    read_request(inner.map_or(body, |inner| inner.get().as_bytes()), asked, losses)
}

/// Writes the body as AI Studio takes it, which counts instructions and tools only there.
pub fn write_count_request(
    request: &Request,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    let body = write_request(&prompt(request), to, losses)?;
    let model = if to.model.contains('/') { to.model } else { &format!("models/{}", to.model) };
    let (model, members) = (quote(model), members_of(&body, COUNTED));
    let body = format!(r#"{{"generateContentRequest":{{"model":{model},{members}}}}}"#);
    Ok(body.into_bytes())
}

/// Writes the body as Vertex takes it.
pub fn write_vertex_count_request(
    request: &Request,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    let body = write_request(&prompt(request), to, losses)?;
    Ok(format!("{{{}}}", members_of(&body, COUNTED)).into_bytes())
}

/// A body that AI Studio takes, as Vertex does, which knows no request within a request and has the model
/// in its path; `None` where it is one already.
pub fn count_for_vertex(body: &[u8]) -> Option<Vec<u8>> {
    let mut outer = Object::parse(std::str::from_utf8(body).ok()?, "body").ok()?;
    let inner =
        outer.take("generateContentRequest").or_else(|| outer.take("generate_content_request"))?;
    let mut inner = Object::parse(inner.get(), "generateContentRequest").ok()?;
    inner.take("model");
    Some(inner.text().unwrap_or_else(|| "{}".to_owned()).into_bytes())
}

/// Reads the count.
pub fn read_count_response(body: &[u8]) -> Result<u64, Unreadable> {
    counted(body, "totalTokens")
}

/// Writes the count.
pub fn write_count_response(tokens: u64) -> Vec<u8> {
    format!(r#"{{"totalTokens":{tokens}}}"#).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Dialect, Kind, Translation};
    use crate::protocol::canonical::Rules;

    const ASKED: Asked = Asked { model: Some("gemini-3-flash"), stream: false };

    fn losses() -> Losses {
        Losses::new(Dialect::Gemini, Translation::Lenient)
    }

    #[test]
    fn what_is_asked_is_the_prompt_in_each_of_its_two_forms() {
        let inner = r#"{"model":"models/x","contents":[{"role":"user","parts":[{"text":"hi"}]}],
            "generationConfig":{"temperature":0.5}}"#;
        let outer = format!(r#"{{"generateContentRequest":{inner}}}"#);
        let rules = Rules::of(Dialect::Gemini, Kind::Gemini, "gemini-3-flash");
        let target = Target { model: "gemini-3-flash", rules: &rules };
        for body in [inner, &outer] {
            let request = read_count_request(body.as_bytes(), &ASKED, &mut losses()).unwrap();
            let contents = r#""contents":[{"parts":[{"text":"hi"}],"role":"user"}]"#;
            let written = write_count_request(&request, &target, &mut losses()).unwrap();
            let model = r#""model":"models/gemini-3-flash""#;
            let wanted = format!(r#"{{"generateContentRequest":{{{model},{contents}}}}}"#);
            assert_eq!(String::from_utf8(written).unwrap(), wanted);
            let written = write_vertex_count_request(&request, &target, &mut losses()).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), format!("{{{contents}}}"));
        }
    }

    #[test]
    fn vertex_knows_no_request_within_a_request() {
        let outer =
            br#"{"generate_content_request":{"model":"models/x","contents":[1e2],"y":"z"}}"#;
        let inner = count_for_vertex(outer).unwrap();
        assert_eq!(inner, br#"{"contents":[1e2],"y":"z"}"#);
        assert_eq!(count_for_vertex(&inner), None);
    }

    #[test]
    fn a_count_is_read_as_it_was_written() {
        assert_eq!(read_count_response(&write_count_response(7)), Ok(7));
        read_count_response(b"{}").unwrap_err();
    }
}
