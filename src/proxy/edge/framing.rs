//! Where a request ends, by its raw head.
//!
//! Pingora settles ambiguity in ways of its own, before any filter sees the parsed head: with both a
//! length and chunks, it drops the length. Two servers that settle it differently read different
//! requests from the same bytes (request smuggling), so the raw head is looked at.

use http::Version;

use super::LONGEST_HOST;
use crate::proxy::refusal::Refusal;

/// What a raw head says about where its request ends.
#[derive(Debug, Default, PartialEq)]
pub struct Framing<'h> {
    fragment: bool,
    hosts: usize,
    length: Option<&'h [u8]>,
    coding: Option<&'h [u8]>,
    /// One of them is said twice.
    twice: bool,
}

impl<'h> Framing<'h> {
    /// `None` when a line does not end with CR LF.
    pub fn read(head: &'h [u8]) -> Option<Self> {
        let mut framing = Self::default();
        // Empty lines may stand before a request (RFC 9112 §2.2).
        let mut head = head;
        while let Some(rest) = head.strip_prefix(b"\r\n") {
            head = rest;
        }
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', head) {
            let line = head.get(begin..end)?.strip_suffix(b"\r")?;
            if begin == 0 {
                framing.fragment = line.contains(&b'#');
            }
            begin = end + 1;
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?.trim_ascii());
            match name.len() {
                4 if name.eq_ignore_ascii_case(b"host") => framing.hosts += 1,
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    framing.twice |= framing.length.replace(value).is_some();
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    framing.twice |= framing.coding.replace(value).is_some();
                }
                _ => {}
            }
        }
        Some(framing)
    }

    pub fn check(&self, version: Version) -> Result<(), Refusal> {
        if self.fragment {
            return Err(Refusal::ambiguous("request target"));
        }
        if version == Version::HTTP_11 && self.hosts != 1 {
            return Err(Refusal::ambiguous("Host"));
        }
        match (self.length, self.coding) {
            _ if self.twice => Err(Refusal::ambiguous("length")),
            (None, None) => Ok(()),
            (Some(length), None) if is_plain_number(length) => Ok(()),
            (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(()),
            (None, Some(coding)) if names_another_coding(coding) => Err(Refusal::unknown_coding()),
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

/// Whether `Host` names a server, and nothing that another reader might take for a path, a user or
/// a network interface.
pub fn is_host(value: &[u8]) -> bool {
    if value.is_empty() || value.len() > LONGEST_HOST {
        return false;
    }
    let (name, port) = match value.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
            let Some((address, port)) = rest.split_at_checked(end) else { return false };
            let address = std::str::from_utf8(address).ok();
            if address.is_none_or(|address| address.parse::<std::net::Ipv6Addr>().is_err()) {
                return false;
            }
            (&b"address"[..], port.get(1..).unwrap_or_default())
        }
        None => value.split_at(value.iter().position(|byte| *byte == b':').unwrap_or(value.len())),
    };
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let port = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    !name.is_empty() && name.iter().all(is_name) && port
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
    fn the_request_line_may_follow_empty_lines() {
        let read = |head: &[u8]| Framing::read(head).map(|framing| framing.fragment);
        assert_eq!(read(b"\r\n\r\nGET /x#y HTTP/1.1\r\nHost: a\r\n\r\n"), Some(true));
        assert_eq!(read(b"\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"), None);
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for host in
            ["a", "a:80", "api.example.com", "127.0.0.1:8080", "[::1]", "[::1]:80", "a_b", "a:"]
        {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            "a?",
            "a/x",
            "a#",
            "u@a",
            "a b",
            "a:x",
            "a:123456",
            "[fe80::1%25eth0]",
            "[::1",
            "[::1]x",
            "::1",
            ":80",
            "é",
            "a,b",
            "a\\b",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
        assert!(!is_host(&[b'a'; 10_000]));
    }

    #[test]
    fn a_host_is_needed_since_http_1_1() {
        let framing = Framing::default();
        assert!(framing.check(Version::HTTP_11).is_err());
        assert!(framing.check(Version::HTTP_10).is_ok());
    }
}
