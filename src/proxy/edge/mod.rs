//! The edge: what is ambiguous about a request's head is refused before anything reads it.

mod client;
mod connection;
mod framing;

use http::{HeaderMap, header};
use pingora::http::RequestHeader;
use pingora::protocols::http::v1::server::HttpSession;
use pingora::proxy::Session;

pub use self::client::client;
pub use self::connection::{CONNECTION, Connection, note_head};
use self::framing::Framing;
use super::refusal::Refusal;

/// The most fields a head may have; SDKs send about twenty.
const MOST_FIELDS: usize = 100;
/// The most names `Connection` may have; pingora's own limit.
const MOST_NOMINATED: usize = 9;
/// The longest `Host`: a name of 253 letters (RFC 1035 §3.1), and a port.
const LONGEST_HOST: usize = 260;

/// Refuses a head that two readers could read differently, or that is too long (`limit` in bytes).
pub fn check(session: &Session, limit: u64) -> Result<(), Refusal> {
    let request = session.req_header();
    let raw = session.as_http1().map(HttpSession::get_headers_raw_bytes);
    let length = raw.as_ref().map_or_else(|| length(request), |raw| raw.len() as u64);
    if length > limit {
        return Err(Refusal::headers_too_large(limit));
    }
    if request.headers.len() > MOST_FIELDS {
        return Err(Refusal::too_many_headers(MOST_FIELDS));
    }
    if let Some(raw) = raw {
        let framing = Framing::read(&raw).ok_or_else(|| Refusal::ambiguous("line ends"))?;
        framing.check(request.version)?;
    }
    host(request)?;
    nominated(&request.headers)?;
    // Which of two types a server takes decides what it reads in the body.
    if request.headers.get_all(header::CONTENT_TYPE).iter().nth(1).is_some() {
        return Err(Refusal::ambiguous("Content-Type"));
    }
    expectation(&request.headers)
}

/// HTTP/2 has no raw head; what its fields take, by HPACK's measure (RFC 7541 §4.1).
fn length(request: &RequestHeader) -> u64 {
    let fields = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
    fields.sum::<usize>() as u64
}

/// A name or an address, and perhaps a port. Nothing here goes by it, and what is sent to a provider
/// is its own; but a server that builds URLs of it could be led elsewhere.
fn host(request: &RequestHeader) -> Result<(), Refusal> {
    let given = request.headers.get(header::HOST).map(http::HeaderValue::as_bytes);
    let given = given.or_else(|| request.uri.authority().map(|host| host.as_str().as_bytes()));
    match given {
        Some(host) if !framing::is_host(host) => Err(Refusal::ambiguous("Host")),
        _ => Ok(()),
    }
}

/// `Connection` names headers that end here. Some end nowhere, or nobody would know any more where
/// the request ends, and whom it is for. Pingora takes the named ones out, and would fail late.
fn nominated(headers: &HeaderMap) -> Result<(), Refusal> {
    const NEVER: [&[u8]; 6] = [
        b"content-length",
        b"host",
        b"transfer-encoding",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
    ];
    let lines = headers.get_all(header::CONNECTION).iter();
    let names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let names = names.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty());
    let is_fine = |name: &[u8]| {
        let never = NEVER.iter().any(|never| never.eq_ignore_ascii_case(name));
        !never && http::HeaderName::from_bytes(name).is_ok()
    };
    let mut names = names.enumerate();
    if names.all(|(before, name)| before < MOST_NOMINATED && is_fine(name)) {
        return Ok(());
    }
    Err(Refusal::ambiguous("Connection"))
}

/// RFC 9110 §10.1.1 knows one expectation.
fn expectation(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut expected = headers.get_all(header::EXPECT).iter();
    let known = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if expected.all(known) { Ok(()) } else { Err(Refusal::unknown_expectation()) }
}
