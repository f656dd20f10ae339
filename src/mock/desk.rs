//! Who answers what: the mock without its socket.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::ask::{Ask, Outcome, Serial};
use super::batches::Batches;
use super::files::Files;
use super::form::Form;
use super::media;
use super::models::Models;
use super::options::Options;
use super::reply::Reply;
use super::route::Endpoint;

/// The longest reply: it is made in memory before it is sent.
const WORDS: u32 = 16_384;

/// The models, the files and the batches, and how long a reply is.
pub struct Desk {
    models: Models,
    files: Mutex<Files>,
    batches: Mutex<Batches>,
    words: usize,
}

/// What a call brings with it from outside.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// What makes its ids unique.
    pub serial: Serial,
    /// Seconds since 1970.
    pub now: u64,
    /// Its query asks for a stream of events (`alt=sse`).
    pub events: bool,
}

impl Desk {
    /// A desk that opened at this time.
    pub fn new(options: &Options, now: u64) -> Self {
        Self {
            models: Models::new(options.models.clone(), options.strict_models, now),
            files: Mutex::default(),
            batches: Mutex::default(),
            words: usize::try_from(options.tokens.min(WORDS)).unwrap_or(1),
        }
    }

    /// Answers a call whose body is JSON, or which has none.
    pub fn answer(&self, endpoint: Endpoint, id: &str, facts: Facts, body: Value) -> Outcome {
        match endpoint {
            Endpoint::Asked(serve) | Endpoint::Anthropic(serve) => serve(&self.ask(facts, body)?),
            Endpoint::Google(serve) | Endpoint::Amazon(serve) => {
                serve(&self.ask_of(id, facts, body)?)
            }
            Endpoint::Health => Ok(Reply::whole("text/plain; charset=utf-8", "")),
            Endpoint::Models => Ok(self.models.all()),
            Endpoint::Model => self.models.one(id),
            Endpoint::Files => Ok(open(&self.files).all()),
            Endpoint::File => open(&self.files).one(id),
            Endpoint::FileContent => open(&self.files).content(id),
            Endpoint::DeleteFile => open(&self.files).delete(id),
            Endpoint::Batches => Ok(open(&self.batches).all()),
            Endpoint::Batch => open(&self.batches).one(id),
            Endpoint::CreateBatch => open(&self.batches).create(&self.ask(facts, body)?),
            Endpoint::CancelBatch => open(&self.batches).cancel(&self.ask(facts, body)?, id),
            Endpoint::Transcribe | Endpoint::Upload => {
                Err(Reply::bad_request("A form is needed", None))
            }
        }
    }

    /// Answers a call whose body is a form.
    pub fn take(&self, endpoint: Endpoint, facts: Facts, mut form: Form) -> Outcome {
        form.finish()?;
        let ask = self.ask(facts, Value::Null)?;
        if let Endpoint::Upload = endpoint {
            return open(&self.files).upload(&ask, &mut form);
        }
        self.models.choose(form.field("model"))?;
        media::transcript(&form)
    }

    fn ask(&self, facts: Facts, body: Value) -> Result<Ask, Reply> {
        let named = match body.get("model") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(name.as_str()),
            Some(_) => return Err(Reply::bad_request("model must be text", Some("model"))),
        };
        let model = self.models.choose(named)?;
        Ok(self.asked(model, facts, body))
    }

    /// A call to the model that its path names.
    fn ask_of(&self, model: &str, facts: Facts, body: Value) -> Result<Ask, Reply> {
        Ok(self.asked(self.models.choose(Some(model))?, facts, body))
    }

    fn asked(&self, model: String, facts: Facts, body: Value) -> Ask {
        let Facts { serial, now, events } = facts;
        Ask { body, model, words: self.words, serial, now, events }
    }
}

/// A table; one that a panic left behind is still whole, since every change to it is one step.
fn open<T>(table: &Mutex<T>) -> MutexGuard<'_, T> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::super::route;
    use super::*;

    fn call(method: &Method, path: &str, body: Value) -> Outcome {
        let options = Options { strict_models: true, ..Options::default() };
        let facts = Facts { serial: Serial { mock: 1, call: 1 }, now: 0, events: false };
        let (endpoint, id) = route::find(method, path)?;
        Desk::new(&options, 0).answer(endpoint, &id, facts, body)
    }

    #[test]
    fn every_json_endpoint_answers() {
        for (path, body) in [
            ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": "hi"}]})),
            ("/v1/completions", json!({"prompt": "hi"})),
            ("/v1/embeddings", json!({"input": "hi"})),
            ("/v1/responses", json!({"input": "hi"})),
            (
                "/v1/messages",
                json!({"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}),
            ),
            ("/v1/messages/count_tokens", json!({"messages": [{"role": "user", "content": "hi"}]})),
            ("/v1/responses/input_tokens", json!({"input": "hi"})),
            ("/v1beta/models/mock:generateContent", json!({"contents": [{"parts": []}]})),
            ("/v1beta/models/mock:streamGenerateContent", json!({"contents": [{"parts": []}]})),
            ("/v1beta/models/mock:countTokens", json!({"contents": [{"parts": []}]})),
            ("/v1beta/models/mock:embedContent", json!({"content": {"parts": []}})),
            ("/v1beta/models/mock:batchEmbedContents", json!({"requests": [{"content": {}}]})),
            ("/model/mock/converse", json!({"messages": [{"role": "user", "content": []}]})),
            ("/model/mock/converse-stream", json!({"messages": [{"role": "user"}]})),
            ("/model/mock/count-tokens", json!({"input": {"converse": {"messages": [{}]}}})),
            ("/model/mock/invoke", json!({"inputText": "hi"})),
            ("/rerank", json!({"query": "a", "documents": ["a"]})),
            ("/score", json!({"text_1": "a", "text_2": "a"})),
            ("/classify", json!({"input": "a"})),
            ("/tokenize", json!({"prompt": "a"})),
            ("/detokenize", json!({"tokens": [97]})),
            ("/v1/moderations", json!({"input": "a"})),
            ("/v1/images/generations", json!({"prompt": "a"})),
            ("/v1/audio/speech", json!({"input": "a"})),
            ("/v1/batches", json!({"input_file_id": "file-1", "endpoint": "/v1/embeddings"})),
        ] {
            assert_eq!(
                call(&Method::POST, path, body).map(|reply| reply.status).ok(),
                Some(200),
                "{path}"
            );
            assert_eq!(
                call(&Method::POST, path, json!({})).map_err(|refusal| refusal.status).err(),
                Some(400),
                "{path}"
            );
        }
    }

    #[test]
    fn an_unknown_model_is_refused_everywhere() {
        let body = json!({"model": "other", "input": "a"});
        let refusal = call(&Method::POST, "/v1/embeddings", body).unwrap_err();
        assert_eq!((refusal.status, &refusal.value()["error"]["param"]), (404, &json!("model")));
        assert_eq!(call(&Method::GET, "/v1/models/other", Value::Null).unwrap_err().status, 404);
        for path in ["/v1beta/models/other:generateContent", "/model/other/converse"] {
            assert_eq!(call(&Method::POST, path, json!({})).unwrap_err().status, 404, "{path}");
        }
    }
}
