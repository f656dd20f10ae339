//! The `health_check` and `ejection` of a provider: when a replica gets no requests.

use std::time::Duration;

use super::read::{Section, Value};
use super::{Kind, Percent};

/// How a replica is asked whether it is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthCheck {
    /// It is not asked.
    None,
    /// A connection is opened.
    Tcp(Probe),
    /// A `GET` is sent, and anything but 200 is ill.
    Http {
        /// When and how long.
        probe: Probe,
        /// What is asked for.
        path: String,
    },
}

/// When a replica is asked, and how many answers decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Time between two questions.
    pub interval: Duration,
    /// Time for an answer.
    pub timeout: Duration,
    /// Good answers in a row that bring a replica back.
    pub healthy_after: usize,
    /// Bad answers in a row that take it out.
    pub unhealthy_after: usize,
}

/// When a replica that fails real requests is left out for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row that take it out.
    pub after: u32,
    /// The first time out; each further one is longer.
    pub base: Duration,
    /// The longest time out.
    pub max: Duration,
    /// At most this share of a provider's replicas is out at once.
    pub share: Percent,
}

// === impl HealthCheck ===

impl HealthCheck {
    /// What a provider of this kind gets when nothing is said.
    pub fn by_kind(kind: Kind) -> Self {
        match kind {
            Kind::Vllm => Self::Http { probe: Probe::default(), path: "/health".to_owned() },
            Kind::OpenaiCompatible => Self::Tcp(Probe::default()),
            _ => Self::None,
        }
    }

    pub(super) fn read(value: Value, kind: Kind) -> Option<Self> {
        value.section(|s| {
            let check = s.read("type", Type::read).unwrap_or(Type::by_kind(kind));
            let path = s.read("path", request_path);
            let probe = Probe::read(s);
            match check {
                _ if !s.has("type") && check == Type::None => {
                    s.error("`type` is missing in `health_check`")?;
                }
                Type::Tcp | Type::None if s.has("path") => {
                    s.error("`path` is only asked for with `type: http`")?;
                }
                _ => {}
            }
            Some(match check {
                Type::None => Self::None,
                Type::Tcp => Self::Tcp(probe),
                Type::Http => Self::Http { probe, path: path.unwrap_or("/health".to_owned()) },
            })
        })?
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Type {
    None,
    Tcp,
    Http,
}

impl Type {
    fn by_kind(kind: Kind) -> Self {
        match HealthCheck::by_kind(kind) {
            HealthCheck::None => Self::None,
            HealthCheck::Tcp(_) => Self::Tcp,
            HealthCheck::Http { .. } => Self::Http,
        }
    }

    fn read(value: Value) -> Option<Self> {
        value.one_of(&[("none", Self::None), ("tcp", Self::Tcp), ("http", Self::Http)])
    }
}

fn request_path(value: Value) -> Option<String> {
    let path = value.text()?;
    let sendable = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if path.starts_with('/') && sendable {
        Some(path)
    } else {
        value.must_be("a path such as /health")
    }
}

// === impl Probe ===

impl Probe {
    fn read(s: &mut Section) -> Self {
        let default = Self::default();
        Self {
            interval: s.read("interval", Value::timeout).unwrap_or(default.interval),
            timeout: s.read("timeout", Value::timeout).unwrap_or(default.timeout),
            healthy_after: s.read("healthy_after", times).unwrap_or(default.healthy_after),
            unhealthy_after: s.read("unhealthy_after", times).unwrap_or(default.unhealthy_after),
        }
    }
}

fn times(value: Value) -> Option<usize> {
    value.number(1, 1_000)
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            healthy_after: 1,
            unhealthy_after: 3,
        }
    }
}

// === impl Ejection ===

impl Ejection {
    pub(super) fn read(value: Value) -> Option<Self> {
        let default = Self::default();
        let ejection = value.section(|s| Self {
            after: s.read("after", |v| v.number(1, 1_000_000)).unwrap_or(default.after),
            base: s.read("base", Value::timeout).unwrap_or(default.base),
            max: s.read("max", Value::timeout).unwrap_or(default.max),
            share: s.read("share", Value::percent).unwrap_or(default.share),
        })?;
        if ejection.base > ejection.max {
            return value.error("`base` must not be longer than `max`");
        }
        Some(ejection)
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            after: 5,
            base: Duration::from_secs(30),
            max: Duration::from_mins(5),
            share: Percent(50),
        }
    }
}
