//! What the kinds of provider differ in, as data.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::{Dialect, Kind};
use crate::protocol::edit::ChatCap;

/// How a provider wants its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthStyle {
    /// `Authorization: Bearer KEY`
    Bearer,
    /// `api-key: KEY` (Azure OpenAI)
    ApiKey,
    /// `x-api-key: KEY` (Anthropic)
    XApiKey,
    /// `x-goog-api-key: KEY` (Google)
    XGoogApiKey,
}

/// How a base URL and a client's path make an upstream path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paths {
    /// The base is what an SDK takes as `base_url` and stands for `/v1`; an empty one is `/v1`.
    Sdk,
    /// The base is the server's root, where `/tokenize` lies beside `/v1/…`; a trailing `/v1` is
    /// taken as said out of habit.
    Root,
    /// `/openai/v1/…`, or `/openai/deployments/{model}/…?api-version=` for a dated version.
    Azure,
    /// `/v1beta/models/…`; a base that ends with another version says that one.
    Gemini,
    /// `/v1/projects/{project}/locations/{location}/publishers/{publisher}/models/…`
    Vertex,
}

/// One kind of provider.
#[derive(Debug)]
pub struct Profile {
    pub kind: Kind,
    pub auth: AuthStyle,
    paths: Paths,
    /// What a chat's output is capped by when the client set no cap.
    pub chat_cap: ChatCap,
    /// What it speaks.
    pub dialect: Dialect,
    /// What else it speaks.
    pub also: &'static [Dialect],
    /// What some of its servers speak, too.
    pub perhaps: &'static [Dialect],
}

/// What a target is made of beside the path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'a> {
    /// The path of the provider's URL.
    pub base: &'a str,
    /// The provider's name of the model.
    pub model: &'a str,
    pub api_version: Option<&'a str>,
    pub project: Option<&'a str>,
    pub location: Option<&'a str>,
}

/// Every kind this version can call.
pub const PROFILES: &[Profile] = &[
    Profile {
        kind: Kind::Openai,
        chat_cap: ChatCap::MaxCompletionTokens,
        also: &[Dialect::OpenaiResponses],
        perhaps: &[],
        ..PLAIN
    },
    PLAIN,
    Profile {
        kind: Kind::Vllm,
        paths: Paths::Root,
        perhaps: &[Dialect::OpenaiResponses, Dialect::Anthropic],
        ..PLAIN
    },
    Profile {
        kind: Kind::Mock,
        paths: Paths::Root,
        also: &[Dialect::OpenaiResponses, Dialect::Anthropic, Dialect::Gemini, Dialect::Bedrock],
        perhaps: &[],
        ..PLAIN
    },
    // https://learn.microsoft.com/azure/ai-foundry/openai/reference: keys go in `api-key`.
    Profile {
        kind: Kind::Azure,
        auth: AuthStyle::ApiKey,
        paths: Paths::Azure,
        chat_cap: ChatCap::MaxCompletionTokens,
        also: &[Dialect::OpenaiResponses],
        perhaps: &[],
        ..PLAIN
    },
    Profile {
        kind: Kind::Anthropic,
        auth: AuthStyle::XApiKey,
        paths: Paths::Root,
        dialect: Dialect::Anthropic,
        perhaps: &[],
        ..PLAIN
    },
    Profile {
        kind: Kind::Gemini,
        auth: AuthStyle::XGoogApiKey,
        paths: Paths::Gemini,
        dialect: Dialect::Gemini,
        perhaps: &[],
        ..PLAIN
    },
    // A login, or an API key of Google's ("express mode").
    Profile {
        kind: Kind::Vertex,
        auth: AuthStyle::XGoogApiKey,
        paths: Paths::Vertex,
        dialect: Dialect::Gemini,
        perhaps: &[],
        ..PLAIN
    },
    Profile {
        kind: Kind::Bedrock,
        paths: Paths::Root,
        dialect: Dialect::Bedrock,
        perhaps: &[],
        ..PLAIN
    },
];

/// Anything that speaks `OpenAI`'s dialect, and what the others differ from.
const PLAIN: Profile = Profile {
    kind: Kind::OpenaiCompatible,
    auth: AuthStyle::Bearer,
    paths: Paths::Sdk,
    chat_cap: ChatCap::MaxTokens,
    dialect: Dialect::OpenaiChat,
    also: &[],
    perhaps: &[Dialect::OpenaiResponses],
};

impl Profile {
    /// The row of `kind`.
    pub fn of(kind: Kind) -> &'static Self {
        PROFILES.iter().find(|profile| profile.kind == kind).unwrap_or(&PLAIN)
    }

    /// The request target for a `path` as clients of its dialect send it.
    pub fn target(&self, path: &str, query: Option<&str>, place: &Place) -> String {
        let below_v1 = path.strip_prefix("/v1").unwrap_or(path);
        let base = place.base;
        let (target, version) = match self.paths {
            Paths::Sdk if base.is_empty() => (path.to_owned(), None),
            Paths::Sdk => (format!("{base}{below_v1}"), None),
            Paths::Root => (format!("{}{path}", base.trim_end_matches("/v1")), None),
            Paths::Azure => azure(base, below_v1, place.model, place.api_version.unwrap_or("v1")),
            Paths::Gemini => (gemini(base, path), None),
            Paths::Vertex => (vertex(path, place), None),
        };
        let version = version.map(|version| format!("api-version={version}"));
        let query: Vec<&str> = query.into_iter().chain(version.as_deref()).collect();
        if query.is_empty() { target } else { format!("{target}?{}", query.join("&")) }
    }
}

fn gemini(base: &str, path: &str) -> String {
    let versioned = ["/v1", "/v1beta", "/v1alpha"].iter().any(|version| base.ends_with(version));
    match path.strip_prefix("/v1beta").filter(|_| versioned) {
        Some(below) => format!("{base}{below}"),
        None => format!("{base}{path}"),
    }
}

/// <https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference>; with an API
/// key there is no project in the path.
fn vertex(path: &str, place: &Place) -> String {
    let base = place.base.trim_end_matches("/v1");
    let Some(model) = path.strip_prefix("/v1beta/models/") else { return format!("{base}{path}") };
    let publisher = if model.ends_with("awPredict") { "anthropic" } else { "google" };
    match (place.project, place.location) {
        (Some(project), Some(location)) => format!(
            "{base}/v1/projects/{project}/locations/{location}/publishers/{publisher}/models/{model}"
        ),
        _ => format!("{base}/v1/publishers/{publisher}/models/{model}"),
    }
}

/// Dated versions put the deployment into the path of the calls that have one.
fn azure<'v>(base: &str, below: &str, model: &str, version: &'v str) -> (String, Option<&'v str>) {
    const BY_DEPLOYMENT: [&str; 5] =
        ["/chat/completions", "/completions", "/embeddings", "/images/", "/audio/"];
    let base = base.trim_end_matches("/v1").trim_end_matches("/openai");
    if matches!(version, "v1" | "preview" | "latest") {
        return (format!("{base}/openai/v1{below}"), (version != "v1").then_some(version));
    }
    if BY_DEPLOYMENT.iter().any(|path| below.starts_with(path)) {
        let deployment = utf8_percent_encode(model, NON_ALPHANUMERIC).to_string();
        // What Azure allows in a name needs no escape.
        let deployment = deployment.replace("%2D", "-").replace("%5F", "_").replace("%2E", ".");
        return (format!("{base}/openai/deployments/{deployment}{below}"), Some(version));
    }
    (format!("{base}/openai{below}"), Some(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(kind: Kind, base: &str, path: &str, api_version: Option<&str>) -> String {
        let place = Place { base, model: "m", api_version, ..Place::default() };
        Profile::of(kind).target(path, None, &place)
    }

    #[test]
    fn an_sdk_base_stands_for_v1_and_an_empty_one_is_v1() {
        let chat = "/v1/chat/completions";
        assert_eq!(target(Kind::Openai, "/v1", chat, None), chat);
        assert_eq!(target(Kind::OpenaiCompatible, "", chat, None), chat);
        let groq = target(Kind::OpenaiCompatible, "/openai/v1", chat, None);
        assert_eq!(groq, "/openai/v1/chat/completions");
        assert_eq!(target(Kind::OpenaiCompatible, "/v1", "/rerank", None), "/v1/rerank");
    }

    #[test]
    fn a_vllm_base_is_the_servers_root() {
        assert_eq!(target(Kind::Vllm, "", "/tokenize", None), "/tokenize");
        assert_eq!(target(Kind::Vllm, "/v1", "/tokenize", None), "/tokenize");
        assert_eq!(target(Kind::Vllm, "/pool/v1", "/v1/models", None), "/pool/v1/models");
    }

    #[test]
    fn azure_has_a_v1_path_and_a_dated_one_with_the_deployment() {
        let chat = "/v1/chat/completions";
        assert_eq!(target(Kind::Azure, "", chat, Some("v1")), "/openai/v1/chat/completions");
        let dated = target(Kind::Azure, "", chat, Some("2024-10-21"));
        assert_eq!(dated, "/openai/deployments/m/chat/completions?api-version=2024-10-21");
        let files = target(Kind::Azure, "", "/v1/files", Some("2024-10-21"));
        assert_eq!(files, "/openai/files?api-version=2024-10-21");
    }

    #[test]
    fn the_clients_query_comes_before_ours() {
        let azure = Profile::of(Kind::Azure);
        let place = Place { model: "m", api_version: Some("2024-10-21"), ..Place::default() };
        let target = azure.target("/v1/files", Some("limit=2"), &place);
        assert_eq!(target, "/openai/files?limit=2&api-version=2024-10-21");
    }

    #[test]
    fn google_has_a_version_in_its_paths() {
        let generate = "/v1beta/models/g:generateContent";
        assert_eq!(target(Kind::Gemini, "", generate, None), generate);
        assert_eq!(target(Kind::Gemini, "/v1", generate, None), "/v1/models/g:generateContent");
        let place =
            Place { project: Some("p"), location: Some("eu"), model: "g", ..Place::default() };
        let vertex = |path| Profile::of(Kind::Vertex).target(path, None, &place);
        assert_eq!(
            vertex(generate),
            "/v1/projects/p/locations/eu/publishers/google/models/g:generateContent"
        );
        assert_eq!(
            vertex("/v1beta/models/claude:streamRawPredict"),
            "/v1/projects/p/locations/eu/publishers/anthropic/models/claude:streamRawPredict"
        );
    }
}
