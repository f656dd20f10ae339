//! The `endpoints` and `tls` of a provider: where its replicas are, and how they prove who they are.

use std::collections::HashSet;
use std::path::PathBuf;

use super::read::{Section, Value};
use super::tree::Entry;
use super::{Kind, Problem, Url};

/// One replica of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub url: Url,
    /// Its share of the requests, at least 1.
    pub weight: u32,
}

/// How an upstream proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Whether its certificate is checked.
    pub verify: bool,
    /// Certificate authorities trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The name to expect, when it is not the host of the URL.
    pub server_name: Option<String>,
}

// === impl Endpoint ===

impl Endpoint {
    /// A replica of weight 1.
    pub fn new(url: Url) -> Self {
        Self { url, weight: 1 }
    }

    /// Reads the endpoints of a provider from its `base_url` or `endpoints`.
    pub(super) fn read_all(section: &mut Section, kind: Option<Kind>) -> Vec<Self> {
        let base = section.read("base_url", Value::url);
        let listed = section.read("endpoints", |value| value.some_list(Self::read));
        if section.has("base_url") && section.has("endpoints") {
            section.error::<()>("`base_url` is short for one endpoint: give it or `endpoints`");
        }
        if section.has("base_url") || section.has("endpoints") {
            let endpoints = listed.unwrap_or_else(|| base.into_iter().map(Self::new).collect());
            report_twins(section, &endpoints);
            return endpoints;
        }
        let default = kind.and_then(Kind::default_url);
        if default.is_none() && kind.is_some_and(Kind::needs_endpoint) && !found_elsewhere(section)
        {
            section.error::<()>("`base_url` or `endpoints` is missing in `providers`");
        }
        default.into_iter().map(Self::new).collect()
    }

    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let weight = s.read("weight", weight).unwrap_or(1);
            s.require("url", Value::url).map(|url| Self { url, weight })
        })?
    }
}

/// Whether replicas are found in another way than by what the file lists.
fn found_elsewhere(section: &Section) -> bool {
    section.has("discovery") && !section.value.node.entry("discovery").is_some_and(is_dns)
}

fn is_dns(discovery: &Entry) -> bool {
    discovery.value.entry("type").is_some_and(|entry| entry.value.as_text() == Some("dns"))
}

fn weight(value: Value) -> Option<u32> {
    if value.scalar("a whole number")?.text == "0" {
        let problem = Problem::error(value.location(), "an endpoint's `weight` must be at least 1");
        return value.report(problem.hint("to drain a replica, take it off the list"));
    }
    value.number(1, 1_000)
}

/// Replicas are told apart by their address, so two with the same would count as one.
fn report_twins(section: &Section, endpoints: &[Endpoint]) {
    let mut seen = HashSet::new();
    if !endpoints.iter().all(|endpoint| seen.insert((&endpoint.url.host, endpoint.url.port))) {
        let problem =
            Problem::error(section.location_of("endpoints"), "two endpoints have one address");
        section.value.findings.report(problem.hint("give it once, with a larger `weight`"));
    }
}

// === impl UpstreamTls ===

impl UpstreamTls {
    pub(super) fn read(value: Value) -> Option<Self> {
        let default = value.findings.overrides.upstream_tls();
        value.section(|s| Self {
            verify: s.read("verify", Value::boolean).unwrap_or(default.verify),
            ca_file: s.read("ca_file", Value::path),
            server_name: s.read("server_name", Value::name),
        })
    }
}

impl Default for UpstreamTls {
    fn default() -> Self {
        Self { verify: true, ca_file: None, server_name: None }
    }
}
