//! `:embedContent` and `:batchEmbedContents`; Vertex's `:predict` is told by its bodies.
//!
//! <https://ai.google.dev/api/embeddings>

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::members::Members;
use super::predict::{read_predict_request, read_predict_response, write_predict_response};
use super::usage::UsageMetadata;
use crate::protocol::canonical::{
    Asked, EmbedForm, EmbedPurpose, EmbedRequest, EmbedResponse, Invalid, Losses, Target,
    Unreadable, Usage,
};

/// Reads the body of either: that of several has `requests`.
pub fn read_embed_request(
    body: &[u8],
    asked: &Asked,
    losses: &mut Losses,
) -> Result<EmbedRequest, Invalid> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Invalid::request("body", "the body must be UTF-8"))?;
    let mut members = Members::parse(text, "")?;
    if members.has("instances") {
        let predicted = read_predict_request(members, losses)?;
        return Ok(EmbedRequest { model: asked.model.unwrap_or_default().to_owned(), ..predicted });
    }
    let mut requests = members.array("requests")?.into_iter();
    let mut whole = match requests.next() {
        None => EmbedRequest { form: EmbedForm::One, ..read_one(members, losses)? },
        Some(first) => {
            members.drop_rest(losses)?;
            read_one(Members::parse(first.get(), "requests")?, losses)?
        }
    };
    for one in requests {
        let one = read_one(Members::parse(one.get(), "requests")?, losses)?;
        if (whole.dimensions, whole.purpose) != (one.dimensions, one.purpose) {
            return Err(Invalid::Unsupported {
                param: "requests".to_owned(),
                why: "all must ask for vectors of one kind and length".to_owned(),
            });
        }
        whole.inputs.extend(one.inputs);
    }
    if let Some(model) = asked.model {
        model.clone_into(&mut whole.model);
    }
    Ok(whole)
}

fn read_one(mut members: Members, losses: &mut Losses) -> Result<EmbedRequest, Invalid> {
    let model = members.string("model")?.unwrap_or_default();
    let model = model.strip_prefix("models/").map_or(model.clone(), str::to_owned);
    let Some(content) = members.take("content") else {
        return Err(members.mistyped("content", "an object"));
    };
    let text = read_text(content, &members.at("content"), losses)?;
    let mut purpose = None;
    if let Some(task) = members.string("taskType")? {
        purpose = purpose_of(&task);
        if purpose.is_none() && task != "TASK_TYPE_UNSPECIFIED" {
            losses.drop_member(&members.at("taskType"))?;
        }
    }
    let dimensions = members.unsigned("outputDimensionality")?;
    members.drop_rest(losses)?;
    Ok(EmbedRequest { model, inputs: vec![text], dimensions, purpose, ..EmbedRequest::default() })
}

/// The text of a content, whose parts are pieces of one.
fn read_text(content: &RawValue, path: &str, losses: &mut Losses) -> Result<String, Invalid> {
    let mut content = Members::parse(content.get(), path)?;
    content.take("role");
    let mut text = String::new();
    for part in content.array("parts")? {
        let mut part = Members::parse(part.get(), &content.at("parts"))?;
        let Some(piece) = part.string("text")? else {
            let (param, why) = (content.at("parts"), "only text can be carried over".to_owned());
            return Err(Invalid::Unsupported { param, why });
        };
        part.drop_rest(losses)?;
        text.push_str(&piece);
    }
    content.drop_rest(losses)?;
    Ok(text)
}

pub(super) fn purpose_of(task: &str) -> Option<EmbedPurpose> {
    Some(match task {
        "RETRIEVAL_DOCUMENT" => EmbedPurpose::Document,
        // What is asked, said or looked for in code: each is to find documents by.
        "RETRIEVAL_QUERY" | "QUESTION_ANSWERING" | "FACT_VERIFICATION" | "CODE_RETRIEVAL_QUERY" => {
            EmbedPurpose::Query
        }
        "CLASSIFICATION" => EmbedPurpose::Classification,
        "CLUSTERING" => EmbedPurpose::Clustering,
        "SEMANTIC_SIMILARITY" => EmbedPurpose::Similarity,
        _ => return None,
    })
}

pub(super) fn task_of(purpose: EmbedPurpose) -> &'static str {
    match purpose {
        EmbedPurpose::Document => "RETRIEVAL_DOCUMENT",
        EmbedPurpose::Query => "RETRIEVAL_QUERY",
        EmbedPurpose::Classification => "CLASSIFICATION",
        EmbedPurpose::Clustering => "CLUSTERING",
        EmbedPurpose::Similarity => "SEMANTIC_SIMILARITY",
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct One<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u64>,
}

#[derive(Serialize)]
struct Content<'a> {
    parts: [Text<'a>; 1],
}

#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
}

/// Writes the body of `:embedContent` for one text, and of `:batchEmbedContents` for several.
pub fn write_embed_request(
    request: &EmbedRequest,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    let model = to.model.strip_prefix("models/").unwrap_or(to.model);
    written(request, Some(&format!("models/{model}")), losses)
}

/// Writes the body of Vertex's `:embedContent`, which has the model in its path alone, and takes one text.
pub fn write_vertex_embed_request(
    request: &EmbedRequest,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    if request.inputs.len() != 1 {
        let why = format!("`{}` takes one text in a call on Vertex", to.model);
        return Err(Invalid::Unsupported { param: "input".to_owned(), why });
    }
    written(request, None, losses)
}

fn written(
    request: &EmbedRequest,
    model: Option<&str>,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    #[derive(Serialize)]
    struct Many<'a> {
        requests: Vec<One<'a>>,
    }
    if request.user.is_some() {
        losses.drop_member("user")?;
    }
    let one = |text| One {
        model: model.map(str::to_owned),
        content: Content { parts: [Text { text }] },
        task_type: request.purpose.map(task_of),
        output_dimensionality: request.dimensions,
    };
    let requests: Vec<One> = request.inputs.iter().map(|text| one(text.as_str())).collect();
    let written = match requests.as_slice() {
        [one] => serde_json::to_vec(one),
        _ => serde_json::to_vec(&Many { requests }),
    };
    written.map_err(|error| Invalid::request("body", error.to_string()))
}

/// Reads the answer of any of the methods.
pub fn read_embed_response(body: &[u8]) -> Result<EmbedResponse, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        embedding: Option<Values>,
        embeddings: Option<Vec<Values>>,
        usage_metadata: Option<UsageMetadata>,
        predictions: Option<IgnoredAny>,
    }
    #[derive(Deserialize)]
    struct Values {
        values: Vec<f32>,
    }
    let Body { embedding, embeddings, usage_metadata, predictions } =
        serde_json::from_slice(body).map_err(|error| Unreadable(error.to_string()))?;
    if predictions.is_some() {
        return read_predict_response(body);
    }
    let embeddings = embeddings.or_else(|| embedding.map(|one| vec![one]));
    let embeddings = embeddings.ok_or_else(|| Unreadable("it has no embeddings".to_owned()))?;
    let input = usage_metadata.and_then(|usage| usage.usage()).map(|usage| usage.input);
    Ok(EmbedResponse {
        vectors: embeddings.into_iter().map(|it| it.values).collect(),
        usage: input.map(|input| Usage { input, ..Usage::default() }),
    })
}

pub fn write_embed_response(response: &EmbedResponse, asked: &EmbedRequest) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        embedding: Option<Values<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        embeddings: Option<Vec<Values<'a>>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        usage_metadata: Option<Counted>,
    }
    #[derive(Serialize)]
    struct Values<'a> {
        values: &'a [f32],
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Counted {
        prompt_token_count: u64,
        total_token_count: u64,
    }
    if asked.form == EmbedForm::Predictions {
        return write_predict_response(response);
    }
    let mut vectors = response.vectors.iter().map(|values| Values { values });
    let one = asked.form == EmbedForm::One;
    let usage_metadata = response
        .usage
        .map(|usage| Counted { prompt_token_count: usage.input, total_token_count: usage.input });
    let body = Body {
        embedding: one.then(|| vectors.next()).flatten(),
        embeddings: (!one).then(|| vectors.collect()),
        usage_metadata,
    };
    serde_json::to_vec(&body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Dialect, Kind, Translation};
    use crate::protocol::canonical::Rules;

    fn losses() -> Losses {
        Losses::new(Dialect::Gemini, Translation::Lenient)
    }

    fn read(body: &str) -> Result<EmbedRequest, Invalid> {
        let asked = Asked { model: Some("asked"), stream: false };
        read_embed_request(body.as_bytes(), &asked, &mut losses())
    }

    #[test]
    fn one_content_and_several_requests_are_read() {
        let one = r#"{"model":"models/x","content":{"role":"user","parts":[{"text":"a"},{"text":"b"}]},
            "taskType":"RETRIEVAL_QUERY","output_dimensionality":8}"#;
        let request = read(one).unwrap();
        assert_eq!((request.model.as_str(), request.form), ("asked", EmbedForm::One));
        assert_eq!(request.inputs, ["ab"]);
        assert_eq!(request.purpose, Some(EmbedPurpose::Query));
        assert_eq!(request.dimensions, Some(8));
        let many = r#"{"requests":[{"content":{"parts":[{"text":"a"}]}},{"content":{"parts":[{"text":"b"}]}}]}"#;
        let request = read(many).unwrap();
        assert_eq!((request.inputs.len(), request.form), (2, EmbedForm::Many));
    }

    #[test]
    fn what_cannot_be_one_call_is_refused() {
        for body in [
            r#"{"requests":[{"content":{"parts":[{"text":"a"}]}},{"content":{"parts":[{"text":"b"}]},"outputDimensionality":3}]}"#,
            r#"{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":""}}]}}"#,
            r#"{"requests":[]}"#,
            r#"{"content":"a"}"#,
            "{}",
        ] {
            read(body).unwrap_err();
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let rules = Rules::of(Dialect::Gemini, Kind::Gemini, "gemini-embedding-001");
        let to = Target { model: "gemini-embedding-001", rules: &rules };
        for inputs in [vec!["a"], vec!["a", "b"]] {
            let inputs: Vec<String> = inputs.into_iter().map(str::to_owned).collect();
            let form = if inputs.len() == 1 { EmbedForm::One } else { EmbedForm::Many };
            let request = EmbedRequest {
                model: "asked".to_owned(),
                inputs,
                dimensions: Some(2),
                purpose: Some(EmbedPurpose::Clustering),
                form,
                ..EmbedRequest::default()
            };
            let body = write_embed_request(&request, &to, &mut losses()).unwrap();
            let body = String::from_utf8(body).unwrap();
            assert!(body.contains(r#""model":"models/gemini-embedding-001""#));
            assert_eq!(request.inputs.len() > 1, body.contains("requests"));
            assert_eq!(read(&body), Ok(request));
        }
    }

    #[test]
    fn an_answer_has_the_form_that_was_asked_for() {
        let response = EmbedResponse { vectors: vec![vec![0.5, -1.25]], usage: None };
        let one = EmbedRequest { form: EmbedForm::One, ..EmbedRequest::default() };
        let body = write_embed_response(&response, &one);
        assert_eq!(body, br#"{"embedding":{"values":[0.5,-1.25]}}"#);
        assert_eq!(read_embed_response(&body).unwrap(), response);
        let usage = Some(Usage { input: 4, ..Usage::default() });
        let response = EmbedResponse { usage, ..response };
        let body = write_embed_response(&response, &EmbedRequest::default());
        assert!(body.starts_with(br#"{"embeddings":[{"values":[0.5,-1.25]}]"#));
        assert_eq!(read_embed_response(&body).unwrap(), response);
        read_embed_response(b"{}").unwrap_err();
    }
}
