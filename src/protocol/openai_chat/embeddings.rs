//! `POST /v1/embeddings`, of `OpenAI`'s and of all that are like it.
//!
//! <https://platform.openai.com/docs/api-reference/embeddings>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::protocol::canonical::{
    Asked, EmbedRequest, EmbedResponse, Invalid, Losses, Target, Unreadable, Usage,
};
use crate::protocol::json::{Mistyped, Object};

pub fn read_embed_request(
    body: &[u8],
    asked: &Asked,
    losses: &mut Losses,
) -> Result<EmbedRequest, Invalid> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Invalid::request("body", "the body must be UTF-8"))?;
    let mut members = Object::parse(text, "body").map_err(mistyped)?;
    let named = members.string("model").map_err(mistyped)?;
    let input = members.take("input").ok_or_else(|| {
        Invalid::request("input", "`input` must be a string or an array of strings")
    })?;
    let request = EmbedRequest {
        model: asked.model.map(str::to_owned).or(named).unwrap_or_default(),
        inputs: inputs(input)?,
        dimensions: members.unsigned("dimensions").map_err(mistyped)?,
        user: members.string("user").map_err(mistyped)?,
        base64: match members.string("encoding_format").map_err(mistyped)?.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => {
                let message = "`encoding_format` must be `float` or `base64`";
                return Err(Invalid::request("encoding_format", message));
            }
        },
        ..EmbedRequest::default()
    };
    members.rest().try_for_each(|name| losses.drop_member(name))?;
    Ok(request)
}

fn mistyped(mistyped: Mistyped) -> Invalid {
    let message = mistyped.to_string();
    Invalid::request(mistyped.name, message)
}

/// One text or several. Numbers are tokens, and each model has tokens of its own.
fn inputs(input: &RawValue) -> Result<Vec<String>, Invalid> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Input {
        One(String),
        Many(Vec<String>),
        /// Read only to tell them from what is neither.
        Tokens(#[expect(dead_code, reason = "its type says all")] Vec<u64>),
        ManyTokens(#[expect(dead_code, reason = "its type says all")] Vec<Vec<u64>>),
    }
    match serde_json::from_str(input.get()) {
        Ok(Input::One(text)) => Ok(vec![text]),
        Ok(Input::Many(texts)) if !texts.is_empty() => Ok(texts),
        Ok(Input::Many(_)) => Err(Invalid::request("input", "`input` must not be empty")),
        Ok(Input::Tokens(_) | Input::ManyTokens(_)) => Err(Invalid::Unsupported {
            param: "input".to_owned(),
            why: "tokens of one model are none of another's; send text".to_owned(),
        }),
        Err(_) => Err(Invalid::request("input", "`input` must be a string or an array of strings")),
    }
}

pub fn write_embed_request(
    request: &EmbedRequest,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    #[derive(Serialize)]
    struct Body<'a> {
        model: &'a str,
        input: &'a [String],
        #[serde(skip_serializing_if = "Option::is_none")]
        dimensions: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a str>,
    }
    if request.purpose.is_some() {
        losses.drop_member("taskType")?;
    }
    let body = Body {
        model: to.model,
        input: &request.inputs,
        dimensions: request.dimensions,
        user: request.user.as_deref(),
    };
    serde_json::to_vec(&body).map_err(|error| Invalid::request("body", error.to_string()))
}

pub fn read_embed_response(body: &[u8]) -> Result<EmbedResponse, Unreadable> {
    #[derive(Deserialize)]
    struct Body {
        data: Vec<Embedding>,
        usage: Option<Counts>,
    }
    #[derive(Deserialize)]
    struct Embedding {
        #[serde(default)]
        index: u64,
        embedding: Vector,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Vector {
        Floats(Vec<f32>),
        Base64(String),
    }
    let Body { mut data, usage } =
        serde_json::from_slice(body).map_err(|error| Unreadable(error.to_string()))?;
    data.sort_by_key(|embedding| embedding.index);
    let vectors = data.into_iter().map(|embedding| match embedding.embedding {
        Vector::Floats(floats) => Ok(floats),
        Vector::Base64(text) => from_base64(&text),
    });
    let vectors = vectors.collect::<Result<_, _>>()?;
    let usage = usage.and_then(|counts| counts.prompt_tokens);
    Ok(EmbedResponse { vectors, usage: usage.map(|input| Usage { input, ..Usage::default() }) })
}

#[derive(Deserialize)]
struct Counts {
    prompt_tokens: Option<u64>,
}

pub fn write_embed_response(response: &EmbedResponse, asked: &EmbedRequest) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        object: &'static str,
        data: Vec<Item<'a>>,
        model: &'a str,
        usage: Counted,
    }
    #[derive(Serialize)]
    struct Item<'a> {
        object: &'static str,
        index: usize,
        embedding: Vector<'a>,
    }
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Vector<'a> {
        Floats(&'a [f32]),
        Base64(String),
    }
    #[derive(Serialize)]
    struct Counted {
        prompt_tokens: u64,
        total_tokens: u64,
    }
    let vectors = response.vectors.iter().map(|floats| {
        if asked.base64 { Vector::Base64(to_base64(floats)) } else { Vector::Floats(floats) }
    });
    // Clients of `OpenAI`'s count on a number.
    let input = response.usage.map_or(0, |usage| usage.input);
    let data = vectors.enumerate().map(|(index, embedding)| Item {
        object: "embedding",
        index,
        embedding,
    });
    let body = Body {
        object: "list",
        data: data.collect(),
        model: &asked.model,
        usage: Counted { prompt_tokens: input, total_tokens: input },
    };
    serde_json::to_vec(&body).unwrap_or_default()
}

fn to_base64(floats: &[f32]) -> String {
    let bytes: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

fn from_base64(text: &str) -> Result<Vec<f32>, Unreadable> {
    let bytes = STANDARD.decode(text).map_err(|error| Unreadable(error.to_string()))?;
    let (floats, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Unreadable("a vector ends within a number".to_owned()));
    }
    Ok(floats.iter().map(|float| f32::from_le_bytes(*float)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Dialect, Kind, Translation};
    use crate::protocol::canonical::{EmbedPurpose, Rules};

    fn losses() -> Losses {
        Losses::new(Dialect::OpenaiChat, Translation::Lenient)
    }

    fn read(body: &str) -> Result<EmbedRequest, Invalid> {
        read_embed_request(body.as_bytes(), &Asked::default(), &mut losses())
    }

    #[test]
    fn one_text_and_several_are_read() {
        let request = read(r#"{"model":"m","input":"a","dimensions":3,"user":"u"}"#).unwrap();
        assert_eq!(request.inputs, ["a"]);
        assert_eq!((request.dimensions, request.base64), (Some(3), false));
        let request =
            read(r#"{"model":"m","input":["a","b"],"encoding_format":"base64"}"#).unwrap();
        assert_eq!(request.inputs, ["a", "b"]);
        assert!(request.base64);
    }

    #[test]
    fn tokens_are_refused_and_so_is_nothing() {
        for tokens in ["[1,2]", "[[1],[2]]"] {
            let refused = read(&format!(r#"{{"model":"m","input":{tokens}}}"#)).unwrap_err();
            assert!(matches!(refused, Invalid::Unsupported { .. }), "{tokens}");
        }
        for input in [r#""input":[]"#, r#""input":{}"#, r#""x":1"#] {
            let refused = read(&format!(r#"{{"model":"m",{input}}}"#)).unwrap_err();
            assert!(matches!(refused, Invalid::Request { .. }), "{input}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let request = EmbedRequest {
            model: "m".to_owned(),
            inputs: vec!["a".to_owned(), "b".to_owned()],
            dimensions: Some(2),
            user: Some("u".to_owned()),
            ..EmbedRequest::default()
        };
        let rules = Rules::of(Dialect::OpenaiChat, Kind::Openai, "m");
        let to = Target { model: "m", rules: &rules };
        let body = write_embed_request(&request, &to, &mut losses()).unwrap();
        assert_eq!(read(std::str::from_utf8(&body).unwrap()), Ok(request.clone()));
        let purpose = Some(EmbedPurpose::Query);
        let mut losses = Losses::new(Dialect::Gemini, Translation::Lenient);
        write_embed_request(&EmbedRequest { purpose, ..request }, &to, &mut losses).unwrap();
        assert_eq!(losses.dropped(), ["taskType"]);
    }

    #[test]
    fn an_answer_is_the_same_as_numbers_and_in_base64() {
        let usage = Some(Usage { input: 5, ..Usage::default() });
        let vectors = vec![vec![0.1, -2.5e-8, 3.0], vec![f32::MAX, 0.0, 1e-40]];
        let response = EmbedResponse { vectors, usage };
        for base64 in [false, true] {
            let asked = EmbedRequest { base64, ..EmbedRequest::default() };
            let body = write_embed_response(&response, &asked);
            assert_eq!(read_embed_response(&body).unwrap(), response);
        }
    }

    #[test]
    fn vectors_come_in_the_order_of_their_texts() {
        let body = br#"{"data":[{"index":1,"embedding":[1]},{"index":0,"embedding":"AAAAAA=="}]}"#;
        let response = read_embed_response(body).unwrap();
        assert_eq!(response.vectors, [[0.0], [1.0]]);
        assert_eq!(response.usage, None);
    }

    #[test]
    fn a_vector_that_is_none_cannot_be_read() {
        for vector in [r#""AAA=""#, r#""!""#, r#"["x"]"#, "1"] {
            let body = format!(r#"{{"data":[{{"index":0,"embedding":{vector}}}]}}"#);
            read_embed_response(body.as_bytes()).unwrap_err();
        }
    }
}
