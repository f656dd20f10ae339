//! The address of an upstream: scheme, host, port and path, and nothing else.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Where an upstream is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    /// `https`, not `http`.
    pub https: bool,
    /// A name or an address, in lower case; an IPv6 address without its brackets.
    pub host: String,
    /// The port, the scheme's own when none was written.
    pub port: u16,
    /// `""` or `/v1`: never with a slash at its end.
    pub path: String,
}

/// Why a text is not the address of an upstream. It never repeats the text, which may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Neither `http://` nor `https://`.
    #[error("must begin with http:// or https://")]
    Scheme,
    /// A user name or password.
    #[error("must not hold a user name or password")]
    UserInfo,
    /// A query or fragment.
    #[error("must not hold a query or fragment")]
    Query,
    /// No host, or not one.
    #[error("has no valid host")]
    Host,
    /// Not a port.
    #[error("has no valid port")]
    Port,
    /// A path that could not be sent.
    #[error("has no valid path")]
    Path,
}

// === impl Url ===

impl Url {
    /// Host and port as the `Host` header has them: the port only when it is not the scheme's own.
    pub fn authority(&self) -> String {
        let address = self.host.contains(':');
        let host = if address { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default_port(self.https) { host } else { format!("{host}:{}", self.port) }
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.path)
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(UrlError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(UrlError::Query);
        }
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let (host, port) = split_authority(authority)?;
        let port = port.map_or(Ok(default_port(https)), read_port)?;
        Ok(Self { https, host, port, path: read_path(path)? })
    }
}

fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

fn split_authority(authority: &str) -> Result<(String, Option<&str>), UrlError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(UrlError::Host)?;
        let address: Ipv6Addr = host.parse().map_err(|_| UrlError::Host)?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((address.to_string(), Some(port))),
            None if after.is_empty() => Ok((address.to_string(), None)),
            None => Err(UrlError::Host),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if host.is_empty() || host.len() > 253 || !host.chars().all(allowed) {
        return Err(UrlError::Host);
    }
    Ok((host.to_ascii_lowercase(), port))
}

fn read_port(text: &str) -> Result<u16, UrlError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UrlError::Port);
    }
    text.parse().ok().filter(|&port| port > 0).ok_or(UrlError::Port)
}

fn read_path(path: &str) -> Result<String, UrlError> {
    let path = path.trim_end_matches('/');
    let climbs = path.split('/').any(|segment| matches!(segment, "." | ".."));
    let sendable = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if sendable && !climbs { Ok(path.to_owned()) } else { Err(UrlError::Path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_scheme_host_port_and_path() {
        let cases = [
            ("http://a", "http://a", 80),
            ("HTTPS://API.Example.org/v1/", "https://api.example.org/v1", 443),
            ("https://a:443//", "https://a", 443),
            ("http://a:8000/v1/x", "http://a:8000/v1/x", 8000),
            ("http://10.0.0.1:443", "http://10.0.0.1:443", 443),
            ("http://[::1]:8000", "http://[::1]:8000", 8000),
            ("https://[2001:DB8:0::1]/", "https://[2001:db8::1]", 443),
        ];
        for (text, shown, port) in cases {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.port), (shown, port), "{text}");
        }
        let url: Url = "http://[::1]:8000/v1".parse().unwrap();
        assert_eq!((url.host.as_str(), url.authority().as_str()), ("::1", "[::1]:8000"));
    }

    #[test]
    fn anything_else_is_refused() {
        let cases = [
            ("", UrlError::Scheme),
            ("a.example", UrlError::Scheme),
            ("unix:///a", UrlError::Scheme),
            ("http://", UrlError::Host),
            ("http:///v1", UrlError::Host),
            ("http://a b", UrlError::Host),
            ("http://\u{e9}.example", UrlError::Host),
            ("http://[::1", UrlError::Host),
            ("http://[::1]x", UrlError::Host),
            ("http://::1", UrlError::Host),
            ("http://a:", UrlError::Port),
            ("http://a:0", UrlError::Port),
            ("http://a:65536", UrlError::Port),
            ("http://a:+80", UrlError::Port),
            ("http://u:p@a", UrlError::UserInfo),
            ("http://a?b", UrlError::Query),
            ("http://a/#b", UrlError::Query),
            ("http://a/b c", UrlError::Path),
            ("http://a/../b", UrlError::Path),
            ("http://a/b\r\nX: y", UrlError::Path),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Url>(), Err(error), "{text}");
        }
    }
}
