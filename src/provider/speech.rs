//! What a provider speaks, and where in its API each call of a dialect lies.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Profile;
use crate::config::{self, Dialect, Kind};
use crate::protocol::gemini::predict::is_predicted;
use crate::protocol::{Operation, Task};

/// What a model's name may have in a path without an escape (RFC 3986 §2.3). Amazon's SDKs escape the
/// colon too, and sign what they escaped.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How a call goes to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// As it came.
    Same {
        /// It may turn out that the provider does not know the call.
        perhaps: bool,
    },
    /// In this dialect.
    In(Dialect),
}

/// What a Messages body is put into where it is not Anthropic itself that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapping {
    None,
    /// Bedrock's `InvokeModel`.
    Bedrock,
    /// Vertex's `rawPredict`.
    Vertex,
    /// Vertex's `predict`, which is not wrapped around anything: a call for vectors of its own.
    Predict,
}

/// What a provider speaks.
#[derive(Debug)]
pub struct Speech {
    profile: &'static Profile,
    /// What the configuration says.
    given: Option<Dialect>,
    /// Dialects that this kind of provider may have, and this one was found not to.
    lacks: [AtomicBool; 2],
}

// === impl Speech ===

impl Speech {
    pub(super) fn new(given: &config::Provider, profile: &'static Profile) -> Self {
        Self { profile, given: given.dialect, lacks: Default::default() }
    }

    /// How a call goes to this provider for `model`, its own name of it.
    pub fn of(&self, operation: Operation, model: &str) -> Spoken {
        let Some(asked) = operation.dialect() else { return Spoken::Same { perhaps: false } };
        let own = self.own(model);
        // Embeddings are the same in all of OpenAI's dialects.
        let embeds = operation.task() == Some(Task::Embed);
        if operation.task() == Some(Task::Count) && self.profile.kind == Kind::Bedrock {
            // Bedrock counts what stands in a conversation of its own, whoever's dialect the model has.
            return match asked {
                Dialect::Bedrock => Spoken::Same { perhaps: false },
                _ => Spoken::In(Dialect::Bedrock),
            };
        }
        if embeds && asked == Dialect::Gemini && own == asked {
            // Google's two APIs have different calls for vectors.
            let vertex = self.profile.kind == Kind::Vertex;
            let has = match operation {
                Operation::Predict => vertex && is_predicted(model),
                Operation::EmbedContent => !(vertex && is_predicted(model)),
                _ => !vertex,
            };
            return if has { Spoken::Same { perhaps: false } } else { Spoken::In(own) };
        }
        if asked == own || embeds && asked == Dialect::OpenaiChat && is_openai(own) {
            return Spoken::Same { perhaps: false };
        }
        if embeds && own == Dialect::OpenaiResponses {
            return Spoken::In(Dialect::OpenaiChat);
        }
        if self.given.is_some() {
            return Spoken::In(own);
        }
        if self.profile.also.contains(&asked) && operation != Operation::Predict {
            return Spoken::Same { perhaps: false };
        }
        if self.profile.perhaps.contains(&asked) && !self.is_lacking(asked) {
            return Spoken::Same { perhaps: true };
        }
        Spoken::In(own)
    }

    /// This provider has no such calls, after all.
    pub fn found_lacking(&self, dialect: Dialect) {
        if let Some(lacks) = self.lack(dialect) {
            lacks.store(true, Relaxed);
        }
    }

    /// What a call in `dialect` is put into.
    pub fn wrapping(&self, dialect: Dialect, task: Task, model: &str) -> Wrapping {
        match (self.profile.kind, dialect) {
            (Kind::Vertex, Dialect::Gemini) if task == Task::Embed && is_predicted(model) => {
                Wrapping::Predict
            }
            (Kind::Bedrock, Dialect::Anthropic) => Wrapping::Bedrock,
            (Kind::Vertex, Dialect::Anthropic) => Wrapping::Vertex,
            _ => Wrapping::None,
        }
    }

    fn own(&self, model: &str) -> Dialect {
        let claude = self.profile.kind == Kind::Vertex && model.contains("claude");
        let by_kind = if claude { Dialect::Anthropic } else { self.profile.dialect };
        self.given.unwrap_or(by_kind)
    }

    fn is_lacking(&self, dialect: Dialect) -> bool {
        self.lack(dialect).is_some_and(|lacks| lacks.load(Relaxed))
    }

    fn lack(&self, dialect: Dialect) -> Option<&AtomicBool> {
        let [responses, messages] = &self.lacks;
        match dialect {
            Dialect::OpenaiResponses => Some(responses),
            Dialect::Anthropic => Some(messages),
            _ => None,
        }
    }
}

fn is_openai(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::OpenaiChat | Dialect::OpenaiResponses)
}

/// Where a call lies in the API of its dialect, as its clients send it: `/v1/messages`,
/// `/v1beta/models/m:generateContent`. `several`: more than one text is embedded.
pub fn path_of(
    dialect: Dialect,
    task: Task,
    model: &str,
    stream: bool,
    several: bool,
    wrapping: Wrapping,
) -> String {
    let fixed = match (dialect, task) {
        (Dialect::OpenaiChat | Dialect::OpenaiResponses, Task::Embed) => "/v1/embeddings",
        // vLLM counts what stands in a chat.
        (Dialect::OpenaiChat, Task::Count) => "/tokenize",
        (Dialect::OpenaiChat, Task::Generate) => "/v1/chat/completions",
        (Dialect::OpenaiResponses, Task::Generate) => "/v1/responses",
        (Dialect::OpenaiResponses, Task::Count) => "/v1/responses/input_tokens",
        (Dialect::Anthropic, task) => return messages(task, model, stream, wrapping),
        (Dialect::Gemini, task) => {
            let verb = match task {
                Task::Generate if stream => "streamGenerateContent",
                Task::Generate => "generateContent",
                Task::Count => "countTokens",
                Task::Embed if wrapping == Wrapping::Predict => "predict",
                Task::Embed if several => "batchEmbedContents",
                Task::Embed => "embedContent",
            };
            return google(model, verb);
        }
        (Dialect::Bedrock, task) => {
            let action = match task {
                Task::Generate if stream => "converse-stream",
                Task::Generate => "converse",
                Task::Count => "count-tokens",
                Task::Embed => "invoke",
            };
            return amazon(model, action);
        }
    };
    fixed.to_owned()
}

fn messages(task: Task, model: &str, stream: bool, wrapping: Wrapping) -> String {
    match (wrapping, task) {
        (Wrapping::None | Wrapping::Predict, Task::Count) => "/v1/messages/count_tokens".to_owned(),
        (Wrapping::None | Wrapping::Predict, _) => "/v1/messages".to_owned(),
        (Wrapping::Bedrock, Task::Count) => amazon(model, "count-tokens"),
        (Wrapping::Bedrock, _) if stream => amazon(model, "invoke-with-response-stream"),
        (Wrapping::Bedrock, _) => amazon(model, "invoke"),
        (Wrapping::Vertex, Task::Count) => google("count-tokens", "rawPredict"),
        (Wrapping::Vertex, _) if stream => google(model, "streamRawPredict"),
        (Wrapping::Vertex, _) => google(model, "rawPredict"),
    }
}

/// Tuned models lie beside the others.
fn google(model: &str, verb: &str) -> String {
    let (below, model) = match model.strip_prefix("tunedModels/") {
        Some(tuned) => ("tunedModels", tuned),
        None => ("models", model.strip_prefix("models/").unwrap_or(model)),
    };
    format!("/v1beta/{below}/{}:{verb}", utf8_percent_encode(model, IN_PATH))
}

fn amazon(model: &str, action: &str) -> String {
    format!("/model/{}/{action}", utf8_percent_encode(model, IN_PATH))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speech(kind: Kind, dialect: Option<Dialect>) -> Speech {
        let mut given = config::Provider::new("p", kind, Vec::new());
        given.dialect = dialect;
        Speech::new(&given, Profile::of(kind))
    }

    #[test]
    fn a_call_in_the_providers_own_dialect_goes_as_it_came() {
        let same = Spoken::Same { perhaps: false };
        assert_eq!(speech(Kind::Anthropic, None).of(Operation::Messages, "m"), same);
        assert_eq!(speech(Kind::Openai, None).of(Operation::Responses, "m"), same);
        assert_eq!(speech(Kind::Gemini, None).of(Operation::GenerateContent, "m"), same);
        let responses = speech(Kind::Openai, Some(Dialect::OpenaiResponses));
        assert_eq!(responses.of(Operation::Embeddings, "m"), same);
    }

    #[test]
    fn others_cross() {
        let across = |kind, operation| speech(kind, None).of(operation, "m");
        assert_eq!(across(Kind::Openai, Operation::Messages), Spoken::In(Dialect::OpenaiChat));
        assert_eq!(across(Kind::Bedrock, Operation::ChatCompletions), Spoken::In(Dialect::Bedrock));
        let chat_only = speech(Kind::Openai, Some(Dialect::OpenaiChat));
        assert_eq!(chat_only.of(Operation::Responses, "m"), Spoken::In(Dialect::OpenaiChat));
    }

    #[test]
    fn what_a_server_may_have_is_tried_until_it_is_found_lacking() {
        let vllm = speech(Kind::Vllm, None);
        assert_eq!(vllm.of(Operation::Messages, "m"), Spoken::Same { perhaps: true });
        vllm.found_lacking(Dialect::Anthropic);
        assert_eq!(vllm.of(Operation::Messages, "m"), Spoken::In(Dialect::OpenaiChat));
        assert_eq!(vllm.of(Operation::Responses, "m"), Spoken::Same { perhaps: true });
    }

    #[test]
    fn claude_on_vertex_speaks_its_own_dialect() {
        let vertex = speech(Kind::Vertex, None);
        assert_eq!(
            vertex.of(Operation::ChatCompletions, "claude-sonnet-4-5"),
            Spoken::In(Dialect::Anthropic)
        );
        assert_eq!(vertex.of(Operation::ChatCompletions, "gemini-3"), Spoken::In(Dialect::Gemini));
        let wrapping = |dialect, task| vertex.wrapping(dialect, task, "m");
        assert_eq!(wrapping(Dialect::Anthropic, Task::Generate), Wrapping::Vertex);
        assert_eq!(wrapping(Dialect::Gemini, Task::Generate), Wrapping::None);
    }

    #[test]
    fn vectors_are_asked_for_as_each_of_googles_apis_has_it() {
        let (same, across) = (Spoken::Same { perhaps: false }, Spoken::In(Dialect::Gemini));
        let (vertex, gemini) = (speech(Kind::Vertex, None), speech(Kind::Gemini, None));
        let (old, new) = ("text-embedding-005", "gemini-embedding-2");
        for (operation, predicted, embedded, studio) in [
            (Operation::Predict, same, across, across),
            (Operation::EmbedContent, across, same, same),
            (Operation::EmbedContents, across, across, same),
        ] {
            assert_eq!(vertex.of(operation, old), predicted, "{operation:?}");
            assert_eq!(vertex.of(operation, new), embedded, "{operation:?}");
            assert_eq!(gemini.of(operation, old), studio, "{operation:?}");
        }
        let wrapping = vertex.wrapping(Dialect::Gemini, Task::Embed, old);
        let path = path_of(Dialect::Gemini, Task::Embed, old, false, true, wrapping);
        assert_eq!(path, "/v1beta/models/text-embedding-005:predict");
    }

    #[test]
    fn a_models_name_stands_escaped_in_a_path() {
        let path = path_of(
            Dialect::Bedrock,
            Task::Generate,
            "us.amazon.nova-micro-v1:0",
            true,
            false,
            Wrapping::None,
        );
        assert_eq!(path, "/model/us.amazon.nova-micro-v1%3A0/converse-stream");
        let path = path_of(Dialect::Gemini, Task::Embed, "models/e", false, true, Wrapping::None);
        assert_eq!(path, "/v1beta/models/e:batchEmbedContents");
    }
}
