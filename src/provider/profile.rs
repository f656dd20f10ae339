//! What the kinds of provider differ in, as data.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::Kind;
use crate::protocol::openai_chat::ChatCap;

/// How a provider wants its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthStyle {
    /// `Authorization: Bearer KEY`
    Bearer,
    /// `api-key: KEY` (Azure OpenAI)
    ApiKey,
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
}

/// One kind of provider.
#[derive(Debug)]
pub struct Profile {
    pub kind: Kind,
    pub auth: AuthStyle,
    paths: Paths,
    /// What a chat's output is capped by when the client set no cap.
    pub chat_cap: ChatCap,
}

/// Every kind this version can call.
pub const PROFILES: &[Profile] = &[
    Profile {
        kind: Kind::Openai,
        auth: AuthStyle::Bearer,
        paths: Paths::Sdk,
        chat_cap: ChatCap::MaxCompletionTokens,
    },
    Profile {
        kind: Kind::OpenaiCompatible,
        auth: AuthStyle::Bearer,
        paths: Paths::Sdk,
        chat_cap: ChatCap::MaxTokens,
    },
    Profile {
        kind: Kind::Vllm,
        auth: AuthStyle::Bearer,
        paths: Paths::Root,
        chat_cap: ChatCap::MaxTokens,
    },
    Profile {
        kind: Kind::Mock,
        auth: AuthStyle::Bearer,
        paths: Paths::Root,
        chat_cap: ChatCap::MaxTokens,
    },
    // https://learn.microsoft.com/azure/ai-foundry/openai/reference: keys go in `api-key`.
    Profile {
        kind: Kind::Azure,
        auth: AuthStyle::ApiKey,
        paths: Paths::Azure,
        chat_cap: ChatCap::MaxCompletionTokens,
    },
];

/// What stands in for a kind without a row: the plainest one.
const FALLBACK: &Profile = &Profile {
    kind: Kind::OpenaiCompatible,
    auth: AuthStyle::Bearer,
    paths: Paths::Sdk,
    chat_cap: ChatCap::MaxTokens,
};

impl Profile {
    /// The row of `kind`. Kinds without one are refused when the configuration is read.
    pub fn of(kind: Kind) -> &'static Self {
        PROFILES.iter().find(|profile| profile.kind == kind).unwrap_or(FALLBACK)
    }

    /// The request target for the client's `path` on a provider whose URL has the path `base`.
    pub fn target(
        &self,
        base: &str,
        path: &str,
        query: Option<&str>,
        model: &str,
        api_version: Option<&str>,
    ) -> String {
        let below_v1 = path.strip_prefix("/v1").unwrap_or(path);
        let (target, version) = match self.paths {
            Paths::Sdk if base.is_empty() => (path.to_owned(), None),
            Paths::Sdk => (format!("{base}{below_v1}"), None),
            Paths::Root => (format!("{}{path}", base.trim_end_matches("/v1")), None),
            Paths::Azure => azure(base, below_v1, model, api_version.unwrap_or("v1")),
        };
        let version = version.map(|version| format!("api-version={version}"));
        let query: Vec<&str> = query.into_iter().chain(version.as_deref()).collect();
        if query.is_empty() { target } else { format!("{target}?{}", query.join("&")) }
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

    fn target(kind: Kind, base: &str, path: &str, version: Option<&str>) -> String {
        Profile::of(kind).target(base, path, None, "m", version)
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
        let target = azure.target("", "/v1/files", Some("limit=2"), "m", Some("2024-10-21"));
        assert_eq!(target, "/openai/files?limit=2&api-version=2024-10-21");
    }
}
