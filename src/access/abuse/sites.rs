//! Which web page a browser calls from, by `Origin` or `Referer`.

use http::HeaderValue;

use crate::config::{Sites, glob_matches};

/// Hosts and origins that may call, and that may not.
#[derive(Debug, Default)]
pub(super) struct SiteSet {
    allow: Box<[Pattern]>,
    block: Box<[Pattern]>,
}

/// One of the configuration's: what it says nothing of may be anything.
#[derive(Debug)]
struct Pattern {
    scheme: Option<Box<str>>,
    host: Box<str>,
    port: Option<Box<str>>,
}

/// What a header says, in small letters.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    scheme: String,
    host: String,
    port: String,
}

impl SiteSet {
    pub(super) fn new(sites: &Sites) -> Self {
        let patterns = |list: &[String]| list.iter().map(|text| Pattern::new(text)).collect();
        Self { allow: patterns(&sites.allow), block: patterns(&sites.block) }
    }

    /// Whether a request may come from the pages that these headers name. Without any it comes from a
    /// program, which could name whatever it likes.
    pub(super) fn lets_in<'h>(&self, headers: impl IntoIterator<Item = &'h HeaderValue>) -> bool {
        if self.allow.is_empty() && self.block.is_empty() {
            return true;
        }
        headers.into_iter().all(|header| {
            let page = Page::read(header.to_str().unwrap_or_default());
            let among = |list: &[Pattern]| list.iter().any(|pattern| pattern.matches(&page));
            !among(&self.block) && (self.allow.is_empty() || among(&self.allow))
        })
    }
}

impl Pattern {
    fn new(text: &str) -> Self {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.into()), rest),
            None => (None, text),
        };
        let (host, port) = split_port(rest);
        Self { scheme, host: host.into(), port: port.map(Into::into) }
    }

    fn matches(&self, page: &Page) -> bool {
        let is = |wanted: &Option<Box<str>>, said: &str| {
            wanted.as_deref().is_none_or(|wanted| glob_matches(wanted, said))
        };
        // `https://example.org` is the origin at the scheme's own port, and at no other.
        let port = match (&self.port, &self.scheme) {
            (None, Some(_)) => page.port.is_empty() || page.port == own_port(&page.scheme),
            (port, _) => {
                is(port, if page.port.is_empty() { own_port(&page.scheme) } else { &page.port })
            }
        };
        port && is(&self.scheme, &page.scheme) && glob_matches(&self.host, &page.host)
    }
}

impl Page {
    /// Of an origin or a URL. What is none, such as `null`, has nothing but a host of that name.
    fn read(text: &str) -> Self {
        let text = text.trim().to_ascii_lowercase();
        let (scheme, rest) = text.split_once("://").unwrap_or(("", &text));
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let authority = rest.get(..end).unwrap_or_default();
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let (host, port) = split_port(authority);
        // A name's last dot changes nothing about where it leads.
        let host = host.strip_suffix('.').unwrap_or(host);
        Self {
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            port: port.unwrap_or_default().to_owned(),
        }
    }
}

/// The port behind a host, which may be an IPv6 address in brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let behind = authority.rfind(']').map_or(0, |at| at + 1);
    match authority.get(behind..).and_then(|rest| rest.rfind(':')) {
        Some(at) => {
            let (host, port) = authority.split_at(behind + at);
            (host, port.strip_prefix(':'))
        }
        None => (authority, None),
    }
}

fn own_port(scheme: &str) -> &'static str {
    match scheme {
        "https" | "wss" => "443",
        "http" | "ws" => "80",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lets_in(allow: &[&str], block: &[&str], said: &[&'static str]) -> bool {
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        let set = SiteSet::new(&Sites { allow: owned(allow), block: owned(block) });
        let headers: Vec<HeaderValue> =
            said.iter().map(|said| HeaderValue::from_static(said)).collect();
        set.lets_in(&headers)
    }

    #[test]
    fn a_blocked_host_is_kept_out_whatever_its_scheme_and_port() {
        for said in [
            "https://evil.example",
            "http://EVIL.example:8080",
            "https://evil.example./chat?x#y",
            "https://user:pass@evil.example/",
            "https://a.b.evil.example",
        ] {
            assert!(!lets_in(&[], &["evil.example", "*.evil.example"], &[said]), "{said}");
        }
        for said in ["https://evil.example.org", "https://good.example/?evil.example", "null"] {
            assert!(lets_in(&[], &["evil.example", "*.evil.example"], &[said]), "{said}");
        }
    }

    #[test]
    fn with_a_list_of_the_allowed_all_other_pages_are_kept_out() {
        let allow = ["https://chat.example.org", "*.intern.example", "http://localhost:3000"];
        for said in
            ["https://chat.example.org", "http://a.intern.example:81", "http://localhost:3000"]
        {
            assert!(lets_in(&allow, &[], &[said]), "{said}");
        }
        for said in [
            "http://chat.example.org",
            "https://chat.example.org:8443",
            "https://chat.example.org.evil.example",
            "https://intern.example",
            "http://localhost:3001",
            "null",
            "",
        ] {
            assert!(!lets_in(&allow, &[], &[said]), "{said}");
        }
        assert!(lets_in(&allow, &[], &[]), "a program comes from no page");
        let both = ["https://chat.example.org", "https://evil.example"];
        assert!(!lets_in(&allow, &[], &both), "each of two is looked at");
    }

    #[test]
    fn an_address_in_brackets_is_a_host() {
        assert!(!lets_in(&[], &["[::1]"], &["http://[::1]:8080"]));
        assert!(lets_in(&[], &["[::1]:80"], &["http://[::1]:8080"]));
        assert!(!lets_in(&[], &["[::1]:80"], &["http://[::1]/"]));
    }
}
