//! An answer, or a piece of a streamed one: both have one form, and are read here.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::usage::UsageMetadata;
use crate::protocol::json;

/// `GenerateContentResponse`, as far as it is understood.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer<'a> {
    #[serde(borrow)]
    pub candidates: Option<Vec<Candidate<'a>>>,
    pub prompt_feedback: Option<PromptFeedback>,
    pub usage_metadata: Option<UsageMetadata>,
    /// Strings; read of the first piece only.
    #[serde(borrow)]
    pub model_version: Option<&'a RawValue>,
    #[serde(borrow)]
    pub response_id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub create_time: Option<&'a RawValue>,
    /// What Google sends instead of an answer, also in the middle of a stream.
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
}

/// Why nothing is answered.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromptFeedback {
    pub block_reason: Option<String>,
    pub block_reason_message: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate<'a> {
    pub index: Option<u32>,
    #[serde(borrow)]
    pub content: Option<Content<'a>>,
    pub finish_reason: Option<String>,
    pub finish_message: Option<String>,
    #[serde(borrow)]
    pub grounding_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub citation_metadata: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub struct Content<'a> {
    #[serde(borrow)]
    pub parts: Option<Vec<Part<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part<'a> {
    pub text: Option<String>,
    pub thought: Option<bool>,
    pub thought_signature: Option<String>,
    pub inline_data: Option<Blob>,
    #[serde(borrow)]
    pub function_call: Option<FunctionCall<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blob {
    pub mime_type: Option<String>,
    pub data: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionCall<'a> {
    pub id: Option<String>,
    pub name: Option<String>,
    #[serde(borrow)]
    pub args: Option<&'a RawValue>,
    /// Vertex AI's `streamFunctionCallArguments`.
    #[serde(borrow)]
    pub partial_args: Option<Vec<PartialArg<'a>>>,
    pub will_continue: Option<bool>,
}

/// A piece of one argument, and where in the arguments it stands.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartialArg<'a> {
    /// RFC 9535, such as `$.to[0].name`.
    pub json_path: Option<String>,
    pub string_value: Option<String>,
    #[serde(borrow)]
    pub number_value: Option<&'a RawValue>,
    pub bool_value: Option<bool>,
    /// More of this string is to come.
    pub will_continue: Option<bool>,
}

impl Part<'_> {
    pub fn is_thought(&self) -> bool {
        self.thought == Some(true)
    }
}

impl<'a> Answer<'a> {
    pub fn read(json: &'a [u8]) -> Result<Self, serde_json::Error> {
        json::read(json)
    }
}

/// A string that was left unread; empty where it is none.
pub fn string(raw: Option<&RawValue>) -> String {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}
