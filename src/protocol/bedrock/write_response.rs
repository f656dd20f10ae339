//! Whole answers as Converse gives them.

use serde::Serialize;

use super::content::Content;
use super::stop::{self, ResponseFields};
use super::usage::Counts;
use crate::protocol::canonical::{Response, Told};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    output: Output<'a>,
    stop_reason: &'static str,
    usage: Counts,
    metrics: Metrics,
    #[serde(skip_serializing_if = "Option::is_none")]
    additional_model_response_fields: Option<ResponseFields>,
}

#[derive(Serialize)]
struct Output<'a> {
    message: Message<'a>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Vec<Content<'a>>,
}

/// Clients demand the member; how long the provider took is not known here.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    latency_ms: u64,
}

/// The body of an answer. Converse has no place for an answer's id, model and time; annotations are
/// left out, because clients that did not ask for citations look for text in `text` alone.
pub fn write_response(response: &Response, _told: &Told) -> Vec<u8> {
    let (stop_reason, fields) = stop::write(&response.stop);
    let told = |block| Content::call_signature(block).into_iter().chain(Content::of_answer(block));
    let content = response.blocks.iter().flat_map(told).collect();
    let answer = Answer {
        output: Output { message: Message { role: "assistant", content } },
        stop_reason,
        usage: Counts::of(&response.usage.unwrap_or_default()),
        metrics: Metrics::default(),
        additional_model_response_fields: fields,
    };
    serde_json::to_vec(&answer).unwrap_or_default()
}
