//! Vectors by Vertex's `:predict`, which its older models are called by, for one text or several.
//!
//! <https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api>

use serde::{Deserialize, Serialize};

use super::embeddings::{purpose_of, task_of};
use super::members::Members;
use crate::protocol::canonical::{
    EmbedForm, EmbedRequest, EmbedResponse, Invalid, Losses, Unreadable, Usage,
};

/// Whether Vertex embeds with this model by `:predict`, and not by `:embedContent`, as Google's SDKs
/// tell the two apart (<https://github.com/googleapis/python-genai/blob/main/google/genai/_transformers.py>).
pub fn is_predicted(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    name == "gemini-embedding-001" || !(name.contains("gemini") || name.contains("maas"))
}

/// Reads a body with `instances`.
pub fn read_predict_request(
    mut members: Members,
    losses: &mut Losses,
) -> Result<EmbedRequest, Invalid> {
    let mut request = EmbedRequest { form: EmbedForm::Predictions, ..EmbedRequest::default() };
    for (place, instance) in members.array("instances")?.into_iter().enumerate() {
        let mut instance = Members::parse(instance.get(), "instances")?;
        let Some(text) = instance.string("content")? else {
            let (param, why) = (instance.at("content"), "only text can be carried over".to_owned());
            return Err(Invalid::Unsupported { param, why });
        };
        let task = instance.string("taskType")?;
        let purpose = task.as_deref().and_then(purpose_of);
        if task.is_some_and(|it| purpose.is_none() && it != "TASK_TYPE_UNSPECIFIED") {
            losses.drop_member(&instance.at("taskType"))?;
        }
        if place > 0 && request.purpose != purpose {
            return Err(Invalid::Unsupported {
                param: "instances".to_owned(),
                why: "all must ask for vectors of one kind".to_owned(),
            });
        }
        request.purpose = purpose;
        instance.drop_rest(losses)?;
        request.inputs.push(text);
    }
    if request.inputs.is_empty() {
        return Err(Invalid::request("instances", "`instances` must have at least one text"));
    }
    if let Some(mut parameters) = members.object("parameters")? {
        request.dimensions = parameters.unsigned("outputDimensionality")?;
        // What is too long is cut by default, at Google; others refuse it.
        if parameters.boolean("autoTruncate")? == Some(true) {
            losses.drop_member(&parameters.at("autoTruncate"))?;
        }
        parameters.drop_rest(losses)?;
    }
    members.drop_rest(losses)?;
    Ok(request)
}

/// Writes the body for one text or several.
pub fn write_predict_request(
    request: &EmbedRequest,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    #[derive(Serialize)]
    struct Instance<'a> {
        content: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        task_type: Option<&'static str>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Parameters {
        output_dimensionality: u64,
    }
    #[derive(Serialize)]
    struct Body<'a> {
        instances: Vec<Instance<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        parameters: Option<Parameters>,
    }
    if request.user.is_some() {
        losses.drop_member("user")?;
    }
    let task_type = request.purpose.map(task_of);
    let instances = request.inputs.iter().map(|content| Instance { content, task_type });
    let parameters =
        request.dimensions.map(|output_dimensionality| Parameters { output_dimensionality });
    let body = Body { instances: instances.collect(), parameters };
    serde_json::to_vec(&body).map_err(|error| Invalid::request("body", error.to_string()))
}

/// Reads an answer.
pub fn read_predict_response(body: &[u8]) -> Result<EmbedResponse, Unreadable> {
    #[derive(Deserialize)]
    struct Body {
        predictions: Vec<Prediction>,
    }
    #[derive(Deserialize)]
    struct Prediction {
        embeddings: Embeddings,
    }
    #[derive(Deserialize)]
    struct Embeddings {
        values: Vec<f32>,
        #[serde(default)]
        statistics: Statistics,
    }
    #[derive(Default, Deserialize)]
    struct Statistics {
        /// Vertex has it as `4.0`, too.
        token_count: Option<f64>,
    }
    let Body { predictions } =
        serde_json::from_slice(body).map_err(|error| Unreadable(error.to_string()))?;
    let counts = predictions.iter().map(|it| it.embeddings.statistics.token_count);
    let counted: Option<f64> = counts.sum();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast from a float saturates"
    )]
    let input = counted.filter(|_| !predictions.is_empty()).map(|count| count as u64);
    Ok(EmbedResponse {
        vectors: predictions.into_iter().map(|it| it.embeddings.values).collect(),
        usage: input.map(|input| Usage { input, ..Usage::default() }),
    })
}

/// Writes an answer. The tokens of all texts are told with the first: only their sum is known.
pub fn write_predict_response(response: &EmbedResponse) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        predictions: Vec<Prediction<'a>>,
    }
    #[derive(Serialize)]
    struct Prediction<'a> {
        embeddings: Embeddings<'a>,
    }
    #[derive(Serialize)]
    struct Embeddings<'a> {
        statistics: Statistics,
        values: &'a [f32],
    }
    #[derive(Serialize)]
    struct Statistics {
        token_count: u64,
        truncated: bool,
    }
    let mut tokens = response.usage.map_or(0, |usage| usage.input);
    let prediction = |values| {
        let statistics = Statistics { token_count: std::mem::take(&mut tokens), truncated: false };
        Prediction { embeddings: Embeddings { statistics, values } }
    };
    let vectors = response.vectors.iter().map(Vec::as_slice);
    let body = Body { predictions: vectors.map(prediction).collect() };
    serde_json::to_vec(&body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Dialect, Translation};
    use crate::protocol::canonical::EmbedPurpose;

    fn losses() -> Losses {
        Losses::new(Dialect::Gemini, Translation::Lenient)
    }

    fn read(body: &str) -> Result<EmbedRequest, Invalid> {
        read_predict_request(Members::parse(body, "").unwrap(), &mut losses())
    }

    #[test]
    fn googles_older_models_are_predicted() {
        for (model, is) in [
            ("text-embedding-005", true),
            ("text-multilingual-embedding-002", true),
            ("gemini-embedding-001", true),
            ("gemini-embedding-2-preview", false),
            ("intfloat/multilingual-e5-large-instruct-maas", false),
        ] {
            assert_eq!(is_predicted(model), is, "{model}");
        }
    }

    #[test]
    fn several_texts_are_written_and_read_again() {
        let request = EmbedRequest {
            inputs: vec!["a".to_owned(), "b".to_owned()],
            dimensions: Some(8),
            purpose: Some(EmbedPurpose::Query),
            form: EmbedForm::Predictions,
            ..EmbedRequest::default()
        };
        let body = write_predict_request(&request, &mut losses()).unwrap();
        let body = String::from_utf8(body).unwrap();
        assert_eq!(
            body,
            r#"{"instances":[{"content":"a","task_type":"RETRIEVAL_QUERY"},{"content":"b","task_type":"RETRIEVAL_QUERY"}],"parameters":{"outputDimensionality":8}}"#
        );
        assert_eq!(read(&body), Ok(request));
    }

    #[test]
    fn what_cannot_be_one_call_is_refused() {
        for body in [
            r#"{"instances":[]}"#,
            r#"{"instances":[{"image":{"bytesBase64Encoded":""}}]}"#,
            r#"{"instances":[{"content":"a","task_type":"CLUSTERING"},{"content":"b"}]}"#,
        ] {
            read(body).unwrap_err();
        }
    }

    #[test]
    fn an_answer_is_read_with_its_tokens_however_they_are_spelled() {
        let body = br#"{"predictions":[{"embeddings":{"values":[0.5],"statistics":{"token_count":4.0,"truncated":false}}},
            {"embeddings":{"values":[1],"statistics":{"token_count":3}}}],"metadata":{"billableCharacterCount":5}}"#;
        let response = read_predict_response(body).unwrap();
        assert_eq!(response.vectors, [vec![0.5], vec![1.0]]);
        assert_eq!(response.usage.map(|usage| usage.input), Some(7));
        assert_eq!(read_predict_response(&write_predict_response(&response)), Ok(response));
        read_predict_response(b"{}").unwrap_err();
    }
}
