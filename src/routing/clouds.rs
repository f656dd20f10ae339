//! The calls of clients that believe to speak to a cloud, as the calls everybody else makes.
//!
//! Azure's clients put the deployment into the path, Google's and Anthropic's for Vertex the project and
//! the location (<https://learn.microsoft.com/azure/ai-foundry/openai/reference>,
//! <https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference>). The
//! deployment is the model that is asked for; project and location are not the caller's to choose.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Where Azure's API begins.
const AZURE: &str = "/openai/";
/// Versions of Vertex's API.
const VERTEX: [&str; 2] = ["/v1/", "/v1beta1/"];
const ANTHROPIC: &str = "publishers/anthropic/models/";
const GOOGLE: &str = "publishers/google/models/";
/// What Claude's tokens are counted by at Vertex, in the place of a model.
const COUNT: &str = "count-tokens:rawPredict";

/// A call as it would have come from a client without a cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    pub path: String,
    pub query: Option<String>,
    /// The model, where the path names it and the body need not.
    pub model: Option<String>,
    /// The body is one of Vertex's for Claude; whether the path asks for a stream.
    pub wrapped: Option<bool>,
}

impl Plain {
    fn at(path: String) -> Self {
        Self { path, query: None, model: None, wrapped: None }
    }
}

/// A path of a cloud's clients as others send it; `None` for all other paths.
pub fn plain(path: &str, query: Option<&str>) -> Option<Plain> {
    match path.strip_prefix(AZURE) {
        Some(below) => {
            let query = query.and_then(of_azure);
            azure(below).map(|plain| Plain { query, ..plain })
        }
        None => vertex(path).map(|plain| Plain { query: query.map(str::to_owned), ..plain }),
    }
}

/// Which of Vertex's two publishers a path is about: true for Anthropic, false for Google.
pub fn is_anthropics(path: &str) -> Option<bool> {
    let below = below_version(path)?;
    let is = below.starts_with(ANTHROPIC);
    (is || below.starts_with(GOOGLE)).then_some(is)
}

/// A query without Azure's version, which the configuration says to Azure; its deployment is the model.
fn of_azure(query: &str) -> Option<String> {
    let members = query.split('&').filter_map(|member| {
        let (name, value) = member.split_once('=').unwrap_or((member, ""));
        match name {
            "" | "api-version" => None,
            "deployment" => Some(format!("model={value}")),
            _ => Some(member.to_owned()),
        }
    });
    let rest = members.collect::<Vec<_>>().join("&");
    (!rest.is_empty()).then_some(rest)
}

fn azure(below: &str) -> Option<Plain> {
    let plain = |path: &str, model| Plain { model, ..Plain::at(format!("/v1/{path}")) };
    if let Some(rest) = below.strip_prefix("deployments/") {
        let (deployment, call) = rest.split_once('/')?;
        return Some(plain(call, Some(name(deployment)?)));
    }
    let below = below.strip_prefix("v1/").unwrap_or(below);
    // `/v1/v1/…` is no path, and must not become one.
    (!below.starts_with("v1/")).then(|| plain(below, None))
}

fn vertex(path: &str) -> Option<Plain> {
    let below = below_version(path)?;
    if let Some(call) = below.strip_prefix(GOOGLE) {
        return Some(Plain::at(format!("/v1beta/models/{call}")));
    }
    let call = below.strip_prefix(ANTHROPIC)?;
    if call == COUNT {
        let path = "/v1/messages/count_tokens".to_owned();
        return Some(Plain { wrapped: Some(false), ..Plain::at(path) });
    }
    let (model, verb) = call.rsplit_once(':')?;
    let stream = match verb {
        "rawPredict" => false,
        "streamRawPredict" => true,
        _ => return None,
    };
    let path = "/v1/messages".to_owned();
    Some(Plain { model: Some(name(model)?), wrapped: Some(stream), ..Plain::at(path) })
}

/// What stands behind the version, the project and the location; the latter two may be absent.
fn below_version(path: &str) -> Option<&str> {
    let below = VERTEX.iter().find_map(|version| path.strip_prefix(version))?;
    let Some(rest) = below.strip_prefix("projects/") else { return Some(below) };
    let (project, rest) = rest.split_once('/')?;
    let (location, rest) = rest.strip_prefix("locations/")?.split_once('/')?;
    let plain = |text: &str| {
        let mut bytes = text.bytes();
        !matches!(text, "" | "." | "..")
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte))
    };
    (plain(project) && plain(location)).then_some(rest)
}

/// A name as it stands in a path.
fn name(escaped: &str) -> Option<String> {
    let name: Cow<str> = percent_decode_str(escaped).decode_utf8().ok()?;
    (!name.is_empty()).then(|| name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azures_paths_name_the_deployment_or_none() {
        for (path, becomes, model) in [
            ("/openai/deployments/g/chat/completions", "/v1/chat/completions", Some("g")),
            ("/openai/deployments/a%2Fb/audio/speech", "/v1/audio/speech", Some("a/b")),
            ("/openai/v1/responses", "/v1/responses", None),
            ("/openai/files/file-1", "/v1/files/file-1", None),
        ] {
            let found = plain(path, None).unwrap();
            assert_eq!((found.path.as_str(), found.model.as_deref()), (becomes, model), "{path}");
            assert_eq!(found.wrapped, None);
        }
        for path in ["/openai", "/openai/v1/v1/files", "/openai/deployments/g", "/v1/files"] {
            assert_eq!(plain(path, None), None, "{path}");
        }
    }

    #[test]
    fn vertexes_paths_name_the_model_of_a_publisher() {
        for (path, becomes, model, wrapped) in [
            (
                "/v1/projects/p/locations/eu/publishers/google/models/g:streamGenerateContent",
                "/v1beta/models/g:streamGenerateContent",
                None,
                None,
            ),
            ("/v1beta1/publishers/google/models/e:predict", "/v1beta/models/e:predict", None, None),
            (
                "/v1/projects/p/locations/eu/publishers/anthropic/models/c@1:rawPredict",
                "/v1/messages",
                Some("c@1"),
                Some(false),
            ),
            (
                "/v1/projects/p/locations/eu/publishers/anthropic/models/c:streamRawPredict",
                "/v1/messages",
                Some("c"),
                Some(true),
            ),
            (
                "/v1/projects/p/locations/eu/publishers/anthropic/models/count-tokens:rawPredict",
                "/v1/messages/count_tokens",
                None,
                Some(false),
            ),
        ] {
            let found = plain(path, None).unwrap();
            assert_eq!((found.path.as_str(), found.model.as_deref()), (becomes, model), "{path}");
            assert_eq!(found.wrapped, wrapped, "{path}");
        }
        for path in [
            "/v1/projects/p/locations/eu/publishers/meta/models/l:rawPredict",
            "/v1/projects/../locations/eu/publishers/google/models/g:predict",
            "/v1/projects/p/publishers/google/models/g:predict",
            "/v1/models/g:generateContent",
            "/v1/publishers/anthropic/models/c:predict",
        ] {
            assert_eq!(plain(path, None), None, "{path}");
        }
    }

    #[test]
    fn azures_version_stays_behind_and_its_deployment_is_the_model() {
        let query = |query| plain("/openai/realtime", Some(query)).unwrap().query;
        assert_eq!(query("api-version=2024-10-21"), None);
        assert_eq!(query("a=1&api-version=v&b=2").as_deref(), Some("a=1&b=2"));
        assert_eq!(query("api-version=v&deployment=m").as_deref(), Some("model=m"));
        let vertex = plain("/v1/publishers/google/models/g:x", Some("alt=sse")).unwrap();
        assert_eq!(vertex.query.as_deref(), Some("alt=sse"));
    }
}
