//! The surface: which paths exist, and what each of them needs.

use http::Method;

use crate::protocol::Operation;

/// What a method and path ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Answered here.
    Local(Local),
    /// The body, or the multipart form, names the model.
    ByModel(Call),
    /// The path names the model, and says whether a stream is asked for.
    ByPath { call: Call, stream: bool },
    /// No model: goes to `default_provider`.
    ByDefault(Call),
    /// A WebSocket whose query names the model.
    Realtime,
}

/// What this process answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    Models,
    /// One model, by the id after `/v1/models/`.
    Model,
    /// What the caller's own key may do, and how much of it is left.
    Me,
    /// The operators' own: answered by door 2, which asks for its own key.
    Operators,
    /// Makes a temporary key.
    MakeKey,
    /// What has to be worked on for one.
    Challenge,
    Live,
    Ready,
    HealthDetailed,
    Metrics,
}

/// A call that is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub operation: Operation,
    /// The path as a metric label: one of a fixed set.
    pub label: &'static str,
}

/// Calls routed by the `model` in their JSON body or form.
const BY_MODEL: &[(&str, Operation)] = &[
    ("/v1/chat/completions", Operation::ChatCompletions),
    ("/v1/completions", Operation::Completions),
    ("/v1/embeddings", Operation::Embeddings),
    ("/v1/responses", Operation::Responses),
    ("/v1/responses/input_tokens", Operation::InputTokens),
    ("/v1/responses/compact", Operation::Other),
    ("/v1/messages", Operation::Messages),
    ("/v1/messages/count_tokens", Operation::MessagesCount),
    ("/v1/rerank", Operation::Other),
    ("/rerank", Operation::Other),
    ("/v1/score", Operation::Other),
    ("/score", Operation::Other),
    ("/classify", Operation::Other),
    ("/tokenize", Operation::Other),
    ("/detokenize", Operation::Other),
    ("/v1/moderations", Operation::Other),
    ("/v1/videos", Operation::Other),
];

/// Google's calls: what stands behind the model in `/v1beta/models/{model}:…`, also below `/v1`, as
/// Google's own SDKs send it.
const BY_VERB: &[(&str, Operation, bool)] = &[
    (":generateContent", Operation::GenerateContent, false),
    (":streamGenerateContent", Operation::GenerateContent, true),
    (":countTokens", Operation::GeminiCount, false),
    (":embedContent", Operation::EmbedContent, false),
    (":batchEmbedContents", Operation::EmbedContents, false),
    (":predict", Operation::Predict, false),
];
const GOOGLES: [&str; 2] = ["/v1beta/models/", "/v1/models/"];

/// Amazon's calls: what stands behind the model in `/model/{model}/…`.
const BY_ACTION: &[(&str, Operation, bool)] = &[
    ("/converse", Operation::Converse, false),
    ("/converse-stream", Operation::Converse, true),
    ("/invoke", Operation::Invoke, false),
    ("/invoke-with-response-stream", Operation::Invoke, true),
    ("/count-tokens", Operation::BedrockCount, false),
];
const AMAZONS: &str = "/model/";

/// Families of calls routed by model, any path below.
const BY_MODEL_BELOW: &[&str] = &["/v1/images/", "/v1/audio/"];

/// Families that carry no model: `/v1/files` itself and everything below it.
const BY_DEFAULT: &[&str] = &[
    "/v1/files",
    "/v1/uploads",
    "/v1/batches",
    "/v1/assistants",
    "/v1/threads",
    "/v1/vector_stores",
    "/v1/conversations",
    "/v1/fine_tuning",
    "/v1/containers",
    "/v1/evals",
];

/// Objects made by calls that are routed by model, and asked for by id.
const BY_ID: &[&str] = &["/v1/responses", "/v1/videos"];

const LOCAL: &[(&str, Local)] = &[
    ("/v1/models", Local::Models),
    ("/v1beta/models", Local::Models),
    ("/v1/me", Local::Me),
    ("/health", Local::Live),
    ("/health/live", Local::Live),
    ("/health/ready", Local::Ready),
    ("/health/detailed", Local::HealthDetailed),
    ("/metrics", Local::Metrics),
];

/// What is answered here and changes something.
const LOCAL_POST: &[(&str, Local)] =
    &[("/v1/temporary-keys", Local::MakeKey), ("/v1/temporary-keys/challenge", Local::Challenge)];

/// Every method that means something somewhere.
const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

impl Endpoint {
    /// What may be done at `path`: nothing where there is no endpoint. `*` is the server as a whole
    /// (RFC 9110 §7.1).
    pub fn methods(path: &str) -> Vec<Method> {
        if path == "*" {
            return METHODS.to_vec();
        }
        let possible = |method: &Method| Self::find(method, path).is_some();
        METHODS.into_iter().filter(possible).collect()
    }

    /// The endpoint at `path`; `None` for everything else, which is never passed on.
    pub fn find(method: &Method, path: &str) -> Option<Self> {
        if is_for_operators(path) {
            // Never passed on, so its spelling is the business of whoever answers it.
            return METHODS.contains(method).then_some(Self::Local(Local::Operators));
        }
        if !is_canonical(path) {
            return None;
        }
        if matches!(*method, Method::GET | Method::HEAD)
            && let Some(found) = find_local(path)
        {
            return Some(found);
        }
        if *method == Method::POST
            && let Some((_, local)) = LOCAL_POST.iter().find(|(known, _)| *known == path)
        {
            return Some(Self::Local(*local));
        }
        if *method == Method::POST
            && let Some((_, call, stream)) = split_path(path)
        {
            return Some(Self::ByPath { call, stream });
        }
        if *method == Method::POST
            && let Some(call) = find_by_model(path)
        {
            return Some(Self::ByModel(call));
        }
        if *method == Method::GET && path == "/v1/realtime" {
            return Some(Self::Realtime);
        }
        find_by_default(method, path).map(Self::ByDefault)
    }

    /// The call that is routed by its model.
    pub fn routed(&self) -> Option<Call> {
        match self {
            Self::ByModel(call) | Self::ByPath { call, .. } => Some(*call),
            _ => None,
        }
    }

    /// The model that a path of [`Self::ByPath`] names, percent-encoded.
    pub fn model_in(path: &str) -> Option<&str> {
        split_path(path).map(|(model, ..)| model)
    }

    /// The path as a metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Local(Local::Models | Local::Model) => "/v1/models",
            Self::Local(Local::Me) => "/v1/me",
            Self::Local(Local::MakeKey | Local::Challenge) => "/v1/temporary-keys",
            Self::Local(Local::Metrics) => "/metrics",
            Self::Local(Local::Operators) => "/admin/v1",
            Self::Local(_) => "/health",
            Self::ByModel(call) | Self::ByDefault(call) | Self::ByPath { call, .. } => call.label,
            Self::Realtime => "/v1/realtime",
        }
    }
}

impl Local {
    /// Whether anybody may ask.
    pub fn needs_no_key(self) -> bool {
        matches!(
            self,
            Self::Live
                | Self::Ready
                | Self::Metrics
                | Self::Operators
                | Self::MakeKey
                | Self::Challenge
        )
    }
}

fn is_for_operators(path: &str) -> bool {
    ["/admin/v1/", "/swagger-ui/"].iter().any(|below| path.starts_with(below))
        || path == "/swagger-ui"
}

/// One spelling per resource: what is authorised here must be what the upstream resolves. So what
/// some server resolves, cuts off or decodes is in no path: dots, empty segments, parameters behind
/// a `;`, backslashes, and escapes of anything but the few marks that an id may hold.
fn is_canonical(path: &str) -> bool {
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/');
    if segments.any(|segment| matches!(segment, "" | "." | "..")) {
        return false;
    }
    // The id of a model is looked up here, and may hold anything.
    let model = GOOGLES.iter().any(|models| path.starts_with(models)) || path.starts_with(AMAZONS);
    let mut escapes = escaped(path);
    if model {
        return escapes.all(|byte| byte.is_some_and(|byte| byte > b' '));
    }
    let mut plain = path.bytes().filter(|byte| *byte != b'%');
    plain.all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) || is_mark(byte))
        && escapes.all(|byte| byte.is_some_and(is_mark))
}

/// Marks that mean the same to every server, escaped or not (RFC 3986 §3.3).
fn is_mark(byte: u8) -> bool {
    b"!$&'()*+,:=@".contains(&byte)
}

/// The bytes that stand percent-encoded in a path; `None` for an escape that is none.
fn escaped(path: &str) -> impl Iterator<Item = Option<u8>> {
    let hex = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits).ok()?;
        digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
        u8::from_str_radix(digits, 16).ok()
    };
    path.as_bytes().split(|byte| *byte == b'%').skip(1).map(move |rest| hex(rest.get(..2)?))
}

fn find_local(path: &str) -> Option<Endpoint> {
    if let Some((_, local)) = LOCAL.iter().find(|(known, _)| *known == path) {
        return Some(Endpoint::Local(*local));
    }
    let models = ["/v1/models", "/v1beta/models"];
    models.iter().find_map(|models| below(path, models)).map(|_| Endpoint::Local(Local::Model))
}

/// The model that a path names, percent-encoded, what is asked of it, and whether as a stream.
fn split_path(path: &str) -> Option<(&str, Call, bool)> {
    let split = |below: &'static str, ends: &'static [(&str, Operation, bool)]| {
        let rest = path.strip_prefix(below)?;
        ends.iter().find_map(|(end, operation, stream)| {
            let model = rest.strip_suffix(end).filter(|model| !model.is_empty())?;
            Some((model, Call { operation: *operation, label: label_of(*operation) }, *stream))
        })
    };
    let google = GOOGLES.iter().find_map(|below| split(below, BY_VERB));
    google.or_else(|| split(AMAZONS, BY_ACTION))
}

/// The path without its model, as a metric label.
fn label_of(operation: Operation) -> &'static str {
    match operation {
        Operation::GenerateContent => "/v1beta/models:generateContent",
        Operation::GeminiCount => "/v1beta/models:countTokens",
        Operation::EmbedContent | Operation::EmbedContents | Operation::Predict => {
            "/v1beta/models:embedContent"
        }
        Operation::Converse => "/model/converse",
        Operation::BedrockCount => "/model/count-tokens",
        _ => "/model/invoke",
    }
}

fn find_by_model(path: &str) -> Option<Call> {
    if let Some((label, operation)) = BY_MODEL.iter().find(|(known, _)| *known == path) {
        return Some(Call { operation: *operation, label });
    }
    let label = BY_MODEL_BELOW
        .iter()
        .find(|family| path.len() > family.len() && path.starts_with(**family))?;
    Some(Call { operation: Operation::Other, label })
}

fn find_by_default(method: &Method, path: &str) -> Option<Call> {
    let known = [Method::GET, Method::POST, Method::DELETE, Method::PUT, Method::PATCH];
    if !known.contains(method) {
        return None;
    }
    let in_family = |family: &&&str| path == **family || below(path, family).is_some();
    let family = BY_DEFAULT.iter().find(in_family);
    let family = family.or_else(|| BY_ID.iter().find(|family| below(path, family).is_some()));
    // `GET /v1/videos` lists what `POST /v1/videos` made.
    let family =
        family.or_else(|| BY_ID.iter().find(|known| **known == path && path == "/v1/videos"));
    Some(Call { operation: Operation::Other, label: family? })
}

/// What of `path` lies below `family`, when anything does.
fn below<'p>(path: &'p str, family: &str) -> Option<&'p str> {
    path.strip_prefix(family)?.strip_prefix('/').filter(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(method: &Method, path: &str) -> Option<Endpoint> {
        Endpoint::find(method, path)
    }

    #[test]
    fn calls_are_found_by_method_and_path() {
        let chat = find(&Method::POST, "/v1/chat/completions").unwrap();
        assert!(
            matches!(chat, Endpoint::ByModel(call) if call.operation == Operation::ChatCompletions)
        );
        assert_eq!(find(&Method::GET, "/v1/chat/completions"), None);
        assert_eq!(find(&Method::GET, "/v1/realtime"), Some(Endpoint::Realtime));
        let image = find(&Method::POST, "/v1/images/edits").unwrap();
        assert!(matches!(image, Endpoint::ByModel(_)));
    }

    #[test]
    fn a_response_is_made_by_model_and_fetched_by_id() {
        assert!(matches!(find(&Method::POST, "/v1/responses"), Some(Endpoint::ByModel(_))));
        assert!(matches!(find(&Method::GET, "/v1/responses/resp_1"), Some(Endpoint::ByDefault(_))));
        assert_eq!(find(&Method::GET, "/v1/responses"), None);
    }

    #[test]
    fn a_path_may_name_the_model_and_what_is_asked_of_it() {
        for (path, model, operation, streams) in [
            ("/v1beta/models/a:generateContent", "a", Operation::GenerateContent, false),
            ("/v1/models/a%2Fb:streamGenerateContent", "a%2Fb", Operation::GenerateContent, true),
            ("/v1beta/models/x:y:countTokens", "x:y", Operation::GeminiCount, false),
            (
                "/model/us.amazon.nova-v1%3A0/converse-stream",
                "us.amazon.nova-v1%3A0",
                Operation::Converse,
                true,
            ),
            ("/model/m/invoke", "m", Operation::Invoke, false),
        ] {
            let found = find(&Method::POST, path).unwrap();
            let Endpoint::ByPath { call, stream } = found else { panic!("{path}: {found:?}") };
            assert_eq!((call.operation, stream), (operation, streams), "{path}");
            assert_eq!(Endpoint::model_in(path), Some(model), "{path}");
        }
        assert_eq!(find(&Method::POST, "/v1beta/models/:generateContent"), None);
        assert_eq!(find(&Method::POST, "/model/m/explode"), None);
        assert_eq!(find(&Method::GET, "/model/m/converse"), None);
    }

    #[test]
    fn model_ids_may_hold_slashes() {
        for path in ["/v1/models/a/b", "/v1/models/a%2Fb"] {
            assert_eq!(find(&Method::GET, path), Some(Endpoint::Local(Local::Model)), "{path}");
        }
    }

    #[test]
    fn everything_else_is_unknown() {
        for path in [
            "/",
            "/v1",
            "/v1/",
            "/v1/filesystem",
            "/admin",
            "/v1/images/",
            "/pause",
            "/invocations",
        ] {
            assert_eq!(find(&Method::POST, path), None, "{path}");
        }
    }

    #[test]
    fn a_path_with_a_second_spelling_is_unknown() {
        for path in [
            "/v1/files/%66ile-1",
            "/v1/files/a%zz",
            "/v1/files/a%+5",
            "/v1/files/a%2",
            "/v1/files/../models",
            "/v1//files",
            "/v1/files/",
            "/v1/files/a/",
            "/v1/files/%2e%2e/x",
            "/v1/files/%252e%252e/x",
            "/v1/files/%c0%ae%c0%ae/x",
            "/v1/files/..;/x",
            "/v1/files/a;x=y",
            "/v1/files/a%3bx=y",
            "/v1/files/a%2Fb",
            "/v1/files/a%5Cb",
            "/v1/files/a\\b",
            "/v1/files/a%00",
            "/v1/files/a%0d%0ax",
            "/v1/files/a%20b",
            "/v1/files/a%3fb",
            "/v1/files/a%23b",
            "/v1/files/é",
        ] {
            assert_eq!(find(&Method::GET, path), None, "{path}");
        }
        assert!(find(&Method::GET, "/v1/fine_tuning/checkpoints/ft%3Agpt:org::1").is_some());
    }

    #[test]
    fn a_path_knows_what_may_be_done_there() {
        let methods =
            |path| Endpoint::methods(path).iter().map(Method::to_string).collect::<Vec<_>>();
        assert_eq!(methods("/v1/chat/completions"), ["POST"]);
        assert_eq!(methods("/v1/models"), ["GET", "HEAD"]);
        assert_eq!(methods("/v1/files"), ["GET", "POST", "PUT", "PATCH", "DELETE"]);
        assert_eq!(methods("/v1/realtime"), ["GET"]);
        assert_eq!(methods("*").len(), METHODS.len());
        assert!(methods("/nowhere").is_empty());
    }
}
