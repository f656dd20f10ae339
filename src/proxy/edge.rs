//! The edge: what is ambiguous about a request's framing is refused before anything reads it.
//!
//! Pingora settles ambiguity in ways of its own, before any filter sees the parsed head: with both a
//! length and chunks, it drops the length. Two servers that settle it differently read different
//! requests from the same bytes (request smuggling), so the raw head is looked at.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use http::{HeaderMap, Version};
use ipnet::IpNet;
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::refusal::Refusal;

tokio::task_local! {
    /// The connection that this task serves. Streams of HTTP/2 have tasks of their own, without it.
    pub static CONNECTION: Arc<Connection>;
}

/// How far a client's connection has come.
#[derive(Debug, Default)]
pub struct Connection {
    /// Its protocol is known.
    pub begun: AtomicBool,
    /// Heads of requests that were read.
    pub heads: AtomicU32,
}

/// Notes that a head is read.
pub fn note_head() {
    let _alone = CONNECTION.try_with(|connection| connection.heads.fetch_add(1, Relaxed));
}

/// Refuses a head that two readers could read differently, or that is too long (`limit` in bytes).
pub fn check(session: &Session, limit: u64) -> Result<(), Refusal> {
    let request = session.req_header();
    expectation(request)?;
    let Some(connection) = session.as_http1() else {
        return if length(request) > limit {
            Err(Refusal::headers_too_large(limit))
        } else {
            Ok(())
        };
    };
    let raw = connection.get_headers_raw_bytes();
    if raw.len() as u64 > limit {
        return Err(Refusal::headers_too_large(limit));
    }
    let framing = Framing::read(&raw).ok_or_else(|| Refusal::ambiguous("line ends"))?;
    framing.check(request.version)
}

/// HTTP/2 has no raw head; what its fields take, by HPACK's measure (RFC 7541 §4.1).
fn length(request: &RequestHeader) -> u64 {
    let fields = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
    fields.sum::<usize>() as u64
}

/// RFC 9110 §10.1.1 knows one expectation.
fn expectation(request: &RequestHeader) -> Result<(), Refusal> {
    let mut expected = request.headers.get_all(http::header::EXPECT).iter();
    let known = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if expected.all(known) { Ok(()) } else { Err(Refusal::unknown_expectation()) }
}

/// Whose address a request comes from. Only proxies that are trusted may say that they speak for
/// somebody: going back through `X-Forwarded-For`, the first one that is none of them.
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer.to_canonical();
    if !is_trusted(&peer) {
        return peer;
    }
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    let said = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.rsplit(','));
    let mut last = peer;
    for said in said {
        let Ok(address) = said.trim().parse::<IpAddr>() else { break };
        last = address.to_canonical();
        if !is_trusted(&last) {
            break;
        }
    }
    last
}

/// What a raw head says about where its request ends.
#[derive(Debug, Default, PartialEq)]
struct Framing<'h> {
    fragment: bool,
    hosts: usize,
    lengths: Vec<&'h [u8]>,
    codings: Vec<&'h [u8]>,
}

impl<'h> Framing<'h> {
    /// `None` when a line does not end with CR LF.
    fn read(head: &'h [u8]) -> Option<Self> {
        let mut framing = Self::default();
        let mut lines = head.split_inclusive(|byte| *byte == b'\n');
        framing.fragment = lines.next()?.strip_suffix(b"\r\n")?.contains(&b'#');
        for line in lines {
            let line = line.strip_suffix(b"\r\n")?;
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?.trim_ascii());
            match name.len() {
                4 if name.eq_ignore_ascii_case(b"host") => framing.hosts += 1,
                14 if name.eq_ignore_ascii_case(b"content-length") => framing.lengths.push(value),
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    framing.codings.push(value);
                }
                _ => {}
            }
        }
        Some(framing)
    }

    fn check(&self, version: Version) -> Result<(), Refusal> {
        if self.fragment {
            return Err(Refusal::ambiguous("request target"));
        }
        if version == Version::HTTP_11 && self.hosts != 1 {
            return Err(Refusal::ambiguous("Host"));
        }
        match (self.lengths.as_slice(), self.codings.as_slice()) {
            ([], []) => Ok(()),
            ([length], []) if is_plain_number(length) => Ok(()),
            ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(()),
            ([], [coding]) if names_another_coding(coding) => Err(Refusal::unknown_coding()),
            _ => Err(Refusal::ambiguous("length")),
        }
    }
}

/// Digits, and no leading zero: `02` is 2 to some and 2 octal to others.
fn is_plain_number(value: &[u8]) -> bool {
    let leading_zero = value.len() > 1 && value.starts_with(b"0");
    !value.is_empty() && !leading_zero && value.iter().all(u8::is_ascii_digit)
}

/// A well-formed list with a coding besides `chunked`: understood, and not supported.
fn names_another_coding(value: &[u8]) -> bool {
    let mut codings = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let token = |coding: &[u8]| {
        !coding.is_empty()
            && coding.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    codings.clone().all(token) && codings.any(|coding| !coding.eq_ignore_ascii_case(b"chunked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(fields: &str) -> Option<u16> {
        let head = format!("POST /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        let Some(framing) = Framing::read(head.as_bytes()) else { return Some(400) };
        framing.check(Version::HTTP_11).err().map(|refusal| refusal.status)
    }

    #[test]
    fn one_way_to_say_the_length_passes() {
        for fields in
            ["Content-Length: 5", "content-length:0", "Transfer-Encoding: Chunked", "X-Y: z"]
        {
            assert_eq!(verdict(fields), None, "{fields}");
        }
    }

    #[test]
    fn two_ways_to_say_it_do_not() {
        for (fields, status) in [
            ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
            ("Content-Length: 5\r\nContent-Length: 5", 400),
            ("Content-Length: 5, 5", 400),
            ("Content-Length: 05", 400),
            ("Content-Length: +5", 400),
            ("Transfer-Encoding: gzip, chunked", 501),
            ("Transfer-Encoding: identity", 501),
            ("Transfer-Encoding: ,chunked", 400),
            ("Transfer-Encoding: chunked, chunked", 400),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
            ("Host: b", 400),
            ("X-Y: z\nContent-Length: 5", 400),
        ] {
            assert_eq!(verdict(fields), Some(status), "{fields:?}");
        }
    }

    #[test]
    fn only_trusted_proxies_speak_for_others() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let from = |peer: &str, said: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in said {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            client(peer.parse().unwrap(), &headers, &trusted).to_string()
        };
        assert_eq!(from("192.0.2.1", &["198.51.100.1"]), "192.0.2.1");
        assert_eq!(from("10.0.0.1", &["203.0.113.9, 198.51.100.1"]), "198.51.100.1");
        assert_eq!(from("10.0.0.1", &["203.0.113.9", "198.51.100.1, 10.0.0.2"]), "198.51.100.1");
        assert_eq!(from("::ffff:10.0.0.1", &["nonsense"]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn a_host_is_needed_since_http_1_1() {
        let framing = Framing::default();
        assert!(framing.check(Version::HTTP_11).is_err());
        assert!(framing.check(Version::HTTP_10).is_ok());
    }
}
