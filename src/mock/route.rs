//! Which endpoint a call is for, and who answers it.

use http::Method;

use super::ask::{Ask, Outcome};
use super::reply::Reply;
use super::{
    chat, completions, converse, embeddings, gemini, media, messages, moderations, rank, responses,
    tokens,
};

/// What a call can be for.
#[derive(Debug, Clone, Copy)]
pub enum Endpoint {
    /// Answered from the body alone.
    Asked(fn(&Ask) -> Outcome),
    /// The same, with refusals in Anthropic's shape.
    Anthropic(fn(&Ask) -> Outcome),
    /// … in Google's; the path names the model.
    Google(fn(&Ask) -> Outcome),
    /// … in Amazon's; the path names the model.
    Amazon(fn(&Ask) -> Outcome),
    /// A form with audio in it.
    Transcribe,
    /// A form with a file in it.
    Upload,
    /// Is the server up?
    Health,
    Models,
    Model,
    Files,
    File,
    FileContent,
    DeleteFile,
    Batches,
    Batch,
    CreateBatch,
    CancelBatch,
}

impl Endpoint {
    /// Says a refusal as this endpoint's callers expect it.
    pub fn phrase(self, refusal: Reply) -> Reply {
        match self {
            Self::Anthropic(_) => messages::phrase(&refusal),
            Self::Google(_) => gemini::phrase(&refusal),
            Self::Amazon(_) => converse::phrase(&refusal),
            _ => refusal,
        }
    }
}

/// Every path: `{}` stands for an id, `{*}` for an id with slashes in it.
const ROUTES: &[(Method, &str, Endpoint)] = &[
    (Method::GET, "/health", Endpoint::Health),
    (Method::GET, "/v1/models", Endpoint::Models),
    (Method::GET, "/v1/models/{*}", Endpoint::Model),
    (Method::POST, "/v1/chat/completions", Endpoint::Asked(chat::serve)),
    (Method::POST, "/v1/completions", Endpoint::Asked(completions::serve)),
    (Method::POST, "/v1/embeddings", Endpoint::Asked(embeddings::serve)),
    (Method::POST, "/v1/responses", Endpoint::Asked(responses::serve)),
    (Method::POST, "/v1/messages", Endpoint::Anthropic(messages::serve)),
    (Method::POST, "/v1/messages/count_tokens", Endpoint::Anthropic(messages::count)),
    (Method::POST, "/v1/responses/input_tokens", Endpoint::Asked(responses::count)),
    (Method::POST, "/v1beta/models/{}:generateContent", Endpoint::Google(gemini::serve)),
    (Method::POST, "/v1beta/models/{}:streamGenerateContent", Endpoint::Google(gemini::stream)),
    (Method::POST, "/v1beta/models/{}:countTokens", Endpoint::Google(gemini::count)),
    (Method::POST, "/v1beta/models/{}:embedContent", Endpoint::Google(gemini::embed)),
    (Method::POST, "/v1beta/models/{}:batchEmbedContents", Endpoint::Google(gemini::embed_all)),
    (Method::POST, "/model/{}/converse", Endpoint::Amazon(converse::serve)),
    (Method::POST, "/model/{}/converse-stream", Endpoint::Amazon(converse::stream)),
    (Method::POST, "/model/{}/count-tokens", Endpoint::Amazon(converse::count)),
    (Method::POST, "/model/{}/invoke", Endpoint::Amazon(converse::invoke)),
    (Method::POST, "/v1/rerank", Endpoint::Asked(rank::rerank)),
    (Method::POST, "/rerank", Endpoint::Asked(rank::rerank)),
    (Method::POST, "/v1/score", Endpoint::Asked(rank::score)),
    (Method::POST, "/score", Endpoint::Asked(rank::score)),
    (Method::POST, "/classify", Endpoint::Asked(rank::classify)),
    (Method::POST, "/tokenize", Endpoint::Asked(tokens::tokenize)),
    (Method::POST, "/detokenize", Endpoint::Asked(tokens::detokenize)),
    (Method::POST, "/v1/moderations", Endpoint::Asked(moderations::serve)),
    (Method::POST, "/v1/images/generations", Endpoint::Asked(media::images)),
    (Method::POST, "/v1/audio/speech", Endpoint::Asked(media::speech)),
    (Method::POST, "/v1/audio/transcriptions", Endpoint::Transcribe),
    (Method::POST, "/v1/audio/translations", Endpoint::Transcribe),
    (Method::POST, "/v1/files", Endpoint::Upload),
    (Method::GET, "/v1/files", Endpoint::Files),
    (Method::GET, "/v1/files/{}", Endpoint::File),
    (Method::GET, "/v1/files/{}/content", Endpoint::FileContent),
    (Method::DELETE, "/v1/files/{}", Endpoint::DeleteFile),
    (Method::POST, "/v1/batches", Endpoint::CreateBatch),
    (Method::GET, "/v1/batches", Endpoint::Batches),
    (Method::GET, "/v1/batches/{}", Endpoint::Batch),
    (Method::POST, "/v1/batches/{}/cancel", Endpoint::CancelBatch),
];

/// The endpoint for a path, and the id in it if it has one.
pub fn find(method: &Method, path: &str) -> Result<(Endpoint, String), Reply> {
    let mut allowed = Vec::new();
    for (allow, pattern, endpoint) in ROUTES {
        let Some(id) = matches(pattern, path) else { continue };
        if allow == method {
            return Ok((*endpoint, id));
        }
        allowed.push(allow.as_str());
    }
    if allowed.is_empty() {
        Err(Reply::no_such_path())
    } else {
        Err(Reply::wrong_method(allowed.join(", ")))
    }
}

/// Whether a path fits a pattern: its id then, decoded; empty when the pattern has none.
fn matches(pattern: &str, path: &str) -> Option<String> {
    if let Some(prefix) = pattern.strip_suffix("{*}") {
        return path.strip_prefix(prefix).filter(|id| !id.is_empty()).map(decode);
    }
    let Some((before, after)) = pattern.split_once("{}") else {
        return (pattern == path).then(String::new);
    };
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && !id.contains('/')).then(|| decode(id))
}

/// Resolves `%2F` and its like.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend(parts.next().unwrap_or_default().bytes());
    for part in parts {
        let digits = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (digits, part.get(2..)) {
            (Some(byte), Some(rest)) => {
                bytes.push(byte);
                bytes.extend(rest.bytes());
            }
            _ => bytes.extend(part.bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_in_its_place() {
        let id = |path: &str| find(&Method::GET, path).map(|(_, id)| id).unwrap();
        assert_eq!(id("/v1/models/meta-llama/Llama%2D3"), "meta-llama/Llama-3");
        assert_eq!(id("/v1/files/file-1/content"), "file-1");
        assert!(matches!(find(&Method::GET, "/v1/files/file-1"), Ok((Endpoint::File, _))));
        let id = |path: &str| find(&Method::POST, path).map(|(_, id)| id).unwrap();
        assert_eq!(id("/v1beta/models/a%2Fb:generateContent"), "a/b");
        assert_eq!(id("/model/us.amazon.nova-v1%3A0/converse-stream"), "us.amazon.nova-v1:0");
    }

    #[test]
    fn the_wrong_path_and_the_wrong_method_are_told_apart() {
        assert_eq!(find(&Method::GET, "/v1/nope").unwrap_err().status, 404);
        assert_eq!(find(&Method::GET, "/chat/completions").unwrap_err().status, 404);
        let refusal = find(&Method::PUT, "/v1/files/file-1").unwrap_err();
        assert_eq!(
            (refusal.status, refusal.headers),
            (405, vec![("allow", "GET, DELETE".to_owned())])
        );
    }
}
