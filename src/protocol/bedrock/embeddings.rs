//! Vectors by `InvokeModel`, where each maker's models have bodies of their own: Amazon's Titan, which
//! takes one text, and Cohere's Embed, which takes up to 96.
//!
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html>,
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed.html>

use serde::{Deserialize, Serialize};

use crate::protocol::canonical::{
    Asked, EmbedForm, EmbedPurpose, EmbedRequest, EmbedResponse, Invalid, Losses, Target,
    Unreadable, Usage,
};
use crate::protocol::json::{Mistyped, Object};

/// The most texts of one call to Cohere's models.
const MOST_TEXTS: usize = 96;

/// Reads a body of either maker's; `inputText` is Titan's.
pub fn read_embed_request(
    body: &[u8],
    asked: &Asked,
    losses: &mut Losses,
) -> Result<EmbedRequest, Invalid> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Invalid::request("body", "the body must be UTF-8"))?;
    let mut members = Object::parse(text, "body").map_err(mistyped)?;
    let mut request = EmbedRequest {
        model: asked.model.unwrap_or_default().to_owned(),
        ..EmbedRequest::default()
    };
    if let Some(text) = members.string("inputText").map_err(mistyped)? {
        request.inputs = vec![text];
        request.form = EmbedForm::One;
        request.dimensions = members.unsigned("dimensions").map_err(mistyped)?;
        floats_only(&mut members, "embeddingTypes")?;
    } else {
        let texts = members.read("texts", "an array of strings").map_err(mistyped)?;
        request.inputs = texts.unwrap_or_default();
        request.dimensions = members.unsigned("output_dimension").map_err(mistyped)?;
        if floats_only(&mut members, "embedding_types")? {
            request.form = EmbedForm::ByType;
        }
        if let Some(purpose) = members.string("input_type").map_err(mistyped)? {
            request.purpose = Some(purpose_of(&purpose)?);
        }
    }
    if request.inputs.is_empty() {
        return Err(Invalid::request("texts", "there must be `inputText` or `texts`"));
    }
    members.rest().try_for_each(|name| losses.drop_member(name))?;
    Ok(request)
}

fn mistyped(mistyped: Mistyped) -> Invalid {
    let message = mistyped.to_string();
    Invalid::request(mistyped.name, message)
}

/// Whether types of numbers are asked for at all; others than floats are refused.
fn floats_only(members: &mut Object, name: &str) -> Result<bool, Invalid> {
    let types: Option<Vec<String>> = members.read(name, "an array of strings").map_err(mistyped)?;
    if types.iter().flatten().any(|kind| kind != "float") {
        let why = "vectors are floats".to_owned();
        return Err(Invalid::Unsupported { param: name.to_owned(), why });
    }
    Ok(types.is_some())
}

fn purpose_of(input_type: &str) -> Result<EmbedPurpose, Invalid> {
    Ok(match input_type {
        "search_document" => EmbedPurpose::Document,
        "search_query" => EmbedPurpose::Query,
        "classification" => EmbedPurpose::Classification,
        "clustering" => EmbedPurpose::Clustering,
        _ => {
            let why = "only texts can be carried over".to_owned();
            return Err(Invalid::Unsupported { param: "input_type".to_owned(), why });
        }
    })
}

/// Cohere's models must be told what for; most vectors are to be found.
fn input_type(purpose: Option<EmbedPurpose>) -> &'static str {
    match purpose {
        None | Some(EmbedPurpose::Document) => "search_document",
        Some(EmbedPurpose::Query) => "search_query",
        Some(EmbedPurpose::Classification) => "classification",
        Some(EmbedPurpose::Clustering | EmbedPurpose::Similarity) => "clustering",
    }
}

/// Writes the body that the model's maker wants.
pub fn write_embed_request(
    request: &EmbedRequest,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    if request.user.is_some() {
        losses.drop_member("user")?;
    }
    if to.model.contains("titan-embed") {
        return write_titan(request, to, losses);
    }
    if to.model.contains("cohere.embed") {
        return write_cohere(request, to);
    }
    Err(unsupported("model", "of Bedrock's models only Titan's and Cohere's are known to embed"))
}

fn unsupported(param: &str, why: &str) -> Invalid {
    Invalid::Unsupported { param: param.to_owned(), why: why.to_owned() }
}

fn write_titan(
    request: &EmbedRequest,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        input_text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        dimensions: Option<u64>,
    }
    let [text] = request.inputs.as_slice() else {
        return Err(unsupported("input", "Titan takes one text in a call"));
    };
    // The first generation's vectors have one length.
    if request.dimensions.is_some_and(|length| length != 1536) && !to.model.contains("-v2") {
        return Err(unsupported("dimensions", "the model's vectors have 1536"));
    }
    if request.purpose.is_some() {
        losses.drop_member("taskType")?;
    }
    let dimensions = request.dimensions.filter(|_| to.model.contains("-v2"));
    written(&Body { input_text: text, dimensions })
}

fn write_cohere(request: &EmbedRequest, to: &Target) -> Result<Vec<u8>, Invalid> {
    #[derive(Serialize)]
    struct Body<'a> {
        texts: &'a [String],
        input_type: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        output_dimension: Option<u64>,
        /// The fourth generation answers as many types as it knows if it is not told.
        #[serde(skip_serializing_if = "Option::is_none")]
        embedding_types: Option<[&'static str; 1]>,
    }
    if request.inputs.len() > MOST_TEXTS {
        return Err(unsupported("input", "Cohere takes 96 texts in a call"));
    }
    let fourth = to.model.contains("embed-v4");
    if request.dimensions.is_some_and(|length| length != 1024) && !fourth {
        return Err(unsupported("dimensions", "the model's vectors have 1024"));
    }
    written(&Body {
        texts: &request.inputs,
        input_type: input_type(request.purpose),
        output_dimension: request.dimensions.filter(|_| fourth),
        embedding_types: fourth.then_some(["float"]),
    })
}

fn written(body: &impl Serialize) -> Result<Vec<u8>, Invalid> {
    serde_json::to_vec(body).map_err(|error| Invalid::request("body", error.to_string()))
}

/// Reads an answer of either maker's. Cohere's do not say what they took.
pub fn read_embed_response(body: &[u8]) -> Result<EmbedResponse, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        embedding: Option<Vec<f32>>,
        input_text_token_count: Option<u64>,
        embeddings: Option<Embeddings>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Embeddings {
        Floats(Vec<Vec<f32>>),
        ByType { float: Vec<Vec<f32>> },
    }
    let Body { embedding, input_text_token_count, embeddings } =
        serde_json::from_slice(body).map_err(|error| Unreadable(error.to_string()))?;
    let vectors = match (embeddings, embedding) {
        (Some(Embeddings::Floats(vectors) | Embeddings::ByType { float: vectors }), _) => vectors,
        (None, Some(vector)) => vec![vector],
        (None, None) => return Err(Unreadable("it has no embeddings".to_owned())),
    };
    let usage = input_text_token_count.map(|input| Usage { input, ..Usage::default() });
    Ok(EmbedResponse { vectors, usage })
}

pub fn write_embed_response(response: &EmbedResponse, asked: &EmbedRequest) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Titan<'a> {
        embedding: &'a [f32],
        embeddings_by_type: One<'a>,
        input_text_token_count: u64,
    }
    #[derive(Serialize)]
    struct One<'a> {
        float: &'a [f32],
    }
    #[derive(Serialize)]
    struct Cohere<'a> {
        embeddings: Embeddings<'a>,
        response_type: &'static str,
        texts: &'a [String],
    }
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Embeddings<'a> {
        Floats(&'a [Vec<f32>]),
        ByType { float: &'a [Vec<f32>] },
    }
    let (vectors, texts) = (response.vectors.as_slice(), asked.inputs.as_slice());
    let written = match asked.form {
        EmbedForm::One => {
            let float = vectors.first().map(Vec::as_slice).unwrap_or_default();
            serde_json::to_vec(&Titan {
                embedding: float,
                embeddings_by_type: One { float },
                input_text_token_count: response.usage.map_or(0, |usage| usage.input),
            })
        }
        EmbedForm::Many | EmbedForm::Predictions => serde_json::to_vec(&Cohere {
            embeddings: Embeddings::Floats(vectors),
            response_type: "embeddings_floats",
            texts,
        }),
        EmbedForm::ByType => serde_json::to_vec(&Cohere {
            embeddings: Embeddings::ByType { float: vectors },
            response_type: "embeddings_by_type",
            texts,
        }),
    };
    written.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Dialect, Kind, Translation};
    use crate::protocol::canonical::Rules;

    const TITAN: &str = "amazon.titan-embed-text-v2:0";

    fn losses() -> Losses {
        Losses::new(Dialect::Bedrock, Translation::Lenient)
    }

    fn asking(inputs: &[&str]) -> EmbedRequest {
        let inputs = inputs.iter().map(|text| (*text).to_owned()).collect();
        EmbedRequest { inputs, ..EmbedRequest::default() }
    }

    fn write(request: &EmbedRequest, model: &str) -> Result<String, Invalid> {
        let rules = Rules::of(Dialect::Bedrock, Kind::Bedrock, model);
        let body = write_embed_request(request, &Target { model, rules: &rules }, &mut losses())?;
        Ok(String::from_utf8(body).unwrap())
    }

    fn read(body: &str) -> Result<EmbedRequest, Invalid> {
        let asked = Asked { model: Some("m"), stream: false };
        read_embed_request(body.as_bytes(), &asked, &mut losses())
    }

    #[test]
    fn titan_takes_one_text() {
        let request = EmbedRequest { dimensions: Some(256), ..asking(&["a"]) };
        let body = write(&request, TITAN).unwrap();
        assert_eq!(body, r#"{"inputText":"a","dimensions":256}"#);
        let again = read(&body).unwrap();
        assert_eq!((again.inputs, again.dimensions), (request.inputs, request.dimensions));
        let refused = write(&asking(&["a", "b"]), TITAN).unwrap_err();
        assert!(matches!(refused, Invalid::Unsupported { ref param, .. } if param == "input"));
    }

    #[test]
    fn cohere_is_told_what_for() {
        let body = write(&asking(&["a", "b"]), "cohere.embed-english-v3").unwrap();
        assert_eq!(body, r#"{"texts":["a","b"],"input_type":"search_document"}"#);
        let request = EmbedRequest {
            purpose: Some(EmbedPurpose::Query),
            dimensions: Some(512),
            form: EmbedForm::ByType,
            model: "m".to_owned(),
            ..asking(&["a"])
        };
        let body = write(&request, "us.cohere.embed-v4:0").unwrap();
        assert_eq!(read(&body), Ok(request));
    }

    #[test]
    fn vectors_of_another_length_than_the_models_are_refused() {
        let request = EmbedRequest { dimensions: Some(256), ..asking(&["a"]) };
        for model in ["amazon.titan-embed-text-v1", "cohere.embed-english-v3"] {
            let refused = write(&request, model).unwrap_err();
            assert!(
                matches!(refused, Invalid::Unsupported { ref param, .. } if param == "dimensions")
            );
        }
        write(&request, "amazon.nova-lite-v1:0").unwrap_err();
        write(&asking(&["a"; 97]), "cohere.embed-english-v3").unwrap_err();
    }

    #[test]
    fn answers_of_both_makers_are_read() {
        let titan =
            br#"{"embedding":[0.5],"embeddingsByType":{"float":[0.5]},"inputTextTokenCount":3}"#;
        let response = read_embed_response(titan).unwrap();
        assert_eq!(response.vectors, [[0.5]]);
        assert_eq!(response.usage.map(|usage| usage.input), Some(3));
        for cohere in [
            r#"{"embeddings":[[0.5],[1.5]],"id":"x","response_type":"embeddings_floats","texts":[]}"#,
            r#"{"embeddings":{"float":[[0.5],[1.5]]},"response_type":"embeddings_by_type"}"#,
        ] {
            let response = read_embed_response(cohere.as_bytes()).unwrap();
            assert_eq!(response.vectors, [[0.5], [1.5]]);
            assert_eq!(response.usage, None);
        }
        read_embed_response(b"{}").unwrap_err();
    }

    #[test]
    fn an_answer_has_the_form_that_was_asked_for() {
        let response = EmbedResponse { vectors: vec![vec![0.5]], usage: None };
        for (form, begin) in [
            (EmbedForm::One, r#"{"embedding":[0.5]"#),
            (EmbedForm::Many, r#"{"embeddings":[[0.5]]"#),
            (EmbedForm::ByType, r#"{"embeddings":{"float":[[0.5]]}"#),
        ] {
            let body = write_embed_response(&response, &EmbedRequest { form, ..asking(&["a"]) });
            assert!(body.starts_with(begin.as_bytes()), "{form:?}");
            assert_eq!(read_embed_response(&body).unwrap().vectors, response.vectors);
        }
    }

    #[test]
    fn other_numbers_than_floats_are_refused() {
        read(r#"{"texts":["a"],"input_type":"search_query","embedding_types":["int8"]}"#)
            .unwrap_err();
        read(r#"{"inputText":"a","embeddingTypes":["binary"]}"#).unwrap_err();
        read(r#"{"images":["x"],"input_type":"image"}"#).unwrap_err();
    }
}
