//! The one place that reads a caller's key, wherever its dialect puts it.

use std::borrow::Cow;
use std::fmt;

use http::HeaderMap;

/// A key as the caller sent it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(String);

/// One request carried two different keys: which of them counts must not be a matter of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request carries more than one credential")]
pub struct Ambiguous;

/// Headers that carry a key as they are. `Authorization` and `?key=` are read apart.
const KEY_HEADERS: [&str; 3] = ["x-api-key", "api-key", "x-goog-api-key"];

/// How `OpenAI`'s browser clients send a key over a WebSocket
/// (<https://platform.openai.com/docs/guides/realtime-websocket>).
const KEY_SUBPROTOCOL: &str = "openai-insecure-api-key.";

impl Credential {
    /// The caller's key: `Authorization: Bearer`, `x-api-key`, `api-key`, `x-goog-api-key`, `?key=`,
    /// or, from a browser's WebSocket, which can set no other header, a subprotocol.
    /// The same key in two places is one key.
    pub fn find(headers: &HeaderMap, query: Option<&str>) -> Result<Option<Self>, Ambiguous> {
        let bearer = headers.get_all(http::header::AUTHORIZATION).into_iter().filter_map(bearer);
        let plain = headers.iter().filter(|(name, _)| KEY_HEADERS.contains(&name.as_str()));
        let plain = plain.filter_map(|(_, value)| Some(Cow::Borrowed(value.to_str().ok()?.trim())));
        let query = query.into_iter().flat_map(keys_in_query);
        let offered = subprotocols(headers);
        let offered =
            offered.filter_map(|one| one.strip_prefix(KEY_SUBPROTOCOL)).map(Cow::Borrowed);
        let mut found: Option<Cow<'_, str>> = None;
        for key in bearer.map(Cow::Borrowed).chain(plain).chain(query).chain(offered) {
            match &found {
                _ if key.is_empty() => {}
                None => found = Some(key),
                Some(first) if *first == key => {}
                Some(_) => return Err(Ambiguous),
            }
        }
        Ok(found.map(|key| Self(key.into_owned())))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `query` without its `key=` members; `None` when nothing is left.
pub fn without_keys(query: &str) -> Option<String> {
    let rest: Vec<&str> = query.split('&').filter(|member| !is_key(member)).collect();
    Some(rest.join("&")).filter(|rest| !rest.is_empty())
}

/// The subprotocols a WebSocket offers, but for the one that is a key; `None` when none is.
pub fn subprotocols_without_key(headers: &HeaderMap) -> Option<String> {
    let is_key = |one: &&str| one.starts_with(KEY_SUBPROTOCOL);
    subprotocols(headers).any(|one| is_key(&one)).then(|| {
        let others: Vec<&str> = subprotocols(headers).filter(|one| !is_key(one)).collect();
        others.join(", ")
    })
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(http::header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim)
}

/// The token of a `Bearer` header; the scheme's name is case-insensitive (RFC 9110 §11.1).
fn bearer(value: &http::HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn keys_in_query(query: &str) -> impl Iterator<Item = Cow<'_, str>> {
    query.split('&').filter(|member| is_key(member)).filter_map(|member| {
        let (_, value) = member.split_once('=')?;
        Some(percent_decoded(value))
    })
}

/// Whether a member of a query is a key, however its name is spelled.
fn is_key(member: &str) -> bool {
    let name = percent_decoded(member.split_once('=').map_or(member, |(name, _)| name));
    matches!(&*name, "key" | "api-key" | "api_key")
}

/// `%41` is `A`; what is not valid stays as it is.
pub fn percent_decoded(text: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(headers: &[(&str, &str)], query: Option<&str>) -> Result<Option<String>, Ambiguous> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, value.parse().unwrap());
        }
        Ok(Credential::find(&map, query)?.map(|key| key.0))
    }

    #[test]
    fn every_place_is_read() {
        for header in [
            ("authorization", "Bearer k"),
            ("authorization", "bearer  k"),
            ("x-api-key", "k"),
            ("api-key", "k"),
            ("x-goog-api-key", "k"),
        ] {
            assert_eq!(find(&[header], None), Ok(Some("k".to_owned())), "{header:?}");
        }
        assert_eq!(find(&[], Some("a=b&key=k%2d1")), Ok(Some("k-1".to_owned())));
    }

    #[test]
    fn two_different_keys_are_refused_and_the_same_twice_is_one() {
        assert_eq!(
            find(&[("authorization", "Bearer a"), ("x-api-key", "b")], None),
            Err(Ambiguous)
        );
        assert_eq!(find(&[("authorization", "Bearer a")], Some("key=b")), Err(Ambiguous));
        assert_eq!(
            find(&[("authorization", "Bearer a"), ("authorization", "Bearer b")], None),
            Err(Ambiguous)
        );
        let same = find(&[("authorization", "Bearer a"), ("x-api-key", "a")], None);
        assert_eq!(same, Ok(Some("a".to_owned())));
    }

    #[test]
    fn a_browsers_websocket_sends_its_key_as_a_subprotocol() {
        let offer = ("sec-websocket-protocol", "realtime, openai-insecure-api-key.k, beta");
        assert_eq!(find(&[offer], None), Ok(Some("k".to_owned())));
        let mut headers = HeaderMap::new();
        headers.insert(offer.0, offer.1.parse().unwrap());
        assert_eq!(subprotocols_without_key(&headers).as_deref(), Some("realtime, beta"));
    }

    #[test]
    fn an_empty_key_is_none() {
        assert_eq!(find(&[("authorization", "Bearer ")], Some("key=")), Ok(None));
        assert_eq!(find(&[("authorization", "Basic abc")], None), Ok(None));
    }

    #[test]
    fn a_key_in_the_query_is_not_passed_on() {
        assert_eq!(without_keys("key=k"), None);
        assert_eq!(without_keys("a=1&key=k&b=2").as_deref(), Some("a=1&b=2"));
        assert_eq!(without_keys("monkey=1").as_deref(), Some("monkey=1"));
    }
}
