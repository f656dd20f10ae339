//! Lists in pages, and versions of what is read and changed.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::refusal::{Answer, Refusal};
use crate::store::Expected;

/// Entries of a page when nothing is said, and at most.
const USUAL: u32 = 100;
const MOST: u32 = 1000;

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// The id of the last entry of the page before.
    pub after: Option<String>,
    /// Entries; 100 when absent, at most 1000.
    pub limit: Option<u32>,
}

impl Page {
    pub fn limit(&self) -> Answer<u32> {
        match self.limit.unwrap_or(USUAL) {
            limit @ 1..=MOST => Ok(limit),
            _ => Err(Refusal::invalid(Some("limit"), format!("`limit` is from 1 to {MOST}."))),
        }
    }
}

/// A page: `{"object": "list", "data": [...], "has_more": …, "last_id": …}`.
pub fn list(data: &[Value], has_more: bool) -> Response {
    let last = data.last().and_then(|last| last.get("id")).cloned().unwrap_or_default();
    Json(json!({ "object": "list", "data": data, "has_more": has_more, "last_id": last }))
        .into_response()
}

/// One thing, with its version where it has one.
pub fn one(status: StatusCode, version: Option<i64>, value: &Value) -> Response {
    let mut response = (status, Json(value)).into_response();
    let tag = version.and_then(|version| HeaderValue::from_str(&format!("\"{version}\"")).ok());
    if let Some(tag) = tag {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// What a change expects to find, by its `If-Match`.
pub fn expected(headers: &HeaderMap) -> Answer<Expected> {
    if headers.contains_key(IF_NONE_MATCH) {
        let message = "`If-None-Match` is not understood; `POST` makes what is not there.";
        return Err(Refusal::invalid(Some("If-None-Match"), message));
    }
    let mut given = headers.get_all(IF_MATCH).iter();
    let (Some(tag), None) = (given.next(), given.next()) else {
        if headers.contains_key(IF_MATCH) {
            return Err(Refusal::invalid(Some("If-Match"), "Give one `If-Match`."));
        }
        return Ok(Expected::Any);
    };
    let tag = tag.to_str().unwrap_or_default().trim();
    if tag == "*" {
        return Ok(Expected::Any);
    }
    let version = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    match version.and_then(|version| version.parse().ok()) {
        Some(version) => Ok(Expected::Version(version)),
        // A weak tag, a list, or one that was never ours: none of them can be the version there is.
        None => Err(Refusal::no_version()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: http::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_version_is_what_if_match_says() {
        assert_eq!(expected(&HeaderMap::new()).unwrap(), Expected::Any);
        assert_eq!(expected(&with(IF_MATCH, "*")).unwrap(), Expected::Any);
        assert_eq!(expected(&with(IF_MATCH, "\"7\"")).unwrap(), Expected::Version(7));
        for wrong in ["7", "W/\"7\"", "\"x\"", "\"7\", \"8\"", ""] {
            assert!(expected(&with(IF_MATCH, wrong)).is_err(), "{wrong}");
        }
        assert!(expected(&with(IF_NONE_MATCH, "*")).is_err());
    }
}
