//! What one request carries through pingora's phases.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use pingora::http::ResponseHeader;

use super::account::Account;
use super::attempt::Attempt;
use super::body::Part;
use super::heads;
use super::history::Past;
use super::hold::Hold;
use super::note::Note;
use super::queue::Queued;
use super::refusal::Refusal;
use super::standing;
use super::stream::Stage;
use super::trace::Trace;
use crate::access::{Credential, Principal};
use crate::balance::{Replica, Shed};
use crate::config::{Dialect, Privacy, Rank};
use crate::protocol::Operation;
use crate::protocol::json::Members;
use crate::provider::ApiKey;
use crate::routing::{Endpoint, Failure, Leg};
use crate::snapshot::{Snapshot, Upstream};
use crate::telemetry::{AccessLog, Counted, Metrics};

static PROVIDER: HeaderName = HeaderName::from_static("x-forebay-provider");
static MODEL: HeaderName = HeaderName::from_static("x-forebay-model");
/// What of the request was left out in translation.
pub static DROPPED: HeaderName = HeaderName::from_static("x-forebay-dropped");
static ATTEMPTS: HeaderName = HeaderName::from_static("x-forebay-attempts");

/// One request, from its head to its log line.
pub struct Context {
    /// The configuration it began with, and ends with.
    pub snapshot: Arc<Snapshot>,
    pub started: Instant,
    pub method: Method,
    pub request_id: HeaderValue,
    /// Whose dialect refusals are written in.
    pub caller: Dialect,
    pub endpoint: Option<Endpoint>,
    /// What may be kept of who asks, and told on.
    pub privacy: Privacy,
    /// Absent when privacy says so.
    pub client: Option<IpAddr>,
    pub principal: Option<Arc<Principal>>,
    pub account: Account,
    /// The origin a browser is told it may call from.
    pub origin: Option<String>,
    /// A key that is none of ours: the caller's own with a provider.
    pub own_key: Option<Credential>,
    pub body: Body,
    pub asked: Asked,
    pub hold: Option<Arc<Hold>>,
    /// Without a held session a head goes out as soon as it is there, and has gone.
    pub head_sent: bool,
    pub course: Course,
    pub stage: Stage,
    pub timing: Timing,
    /// A call that makes something: a `POST`.
    pub makes: bool,
    /// The object it deletes.
    pub deletes: Option<String>,
    /// What it goes on from, and whether others may go on from its answer.
    pub past: Option<Box<Past>>,
    /// What an answer tells of objects, until that is remembered.
    pub told: Option<Bytes>,
    /// Its spans, when it is recorded.
    pub trace: Option<Box<Trace>>,
    /// What to tell the client when there is nothing else to tell.
    pub refusal: Option<Refusal>,
    pub outcome: Outcome,
    /// For its record.
    pub note: Note,
    /// Where it counts as under way; none before it does, and once it is settled.
    pub(super) unsettled: Option<UnderWay>,
}

/// What of the body matters later.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub operation: Operation,
    pub stream: bool,
    /// The client itself wants usage in its stream.
    pub usage: bool,
    /// How the client reads a stream.
    pub framing: Framing,
}

/// How the events of a stream follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events.
    #[default]
    Events,
    /// The elements of a JSON array (Gemini without `alt=sse`).
    Array,
    /// AWS's event stream.
    Frames,
}

impl Default for Asked {
    fn default() -> Self {
        let framing = Framing::default();
        Self { operation: Operation::Other, stream: false, usage: false, framing }
    }
}

/// The request's body, in the form it is kept.
#[derive(Default)]
pub enum Body {
    /// There is none, or pingora passes it on as it comes (an upgraded connection).
    #[default]
    None,
    /// JSON, whole and scanned.
    Json { bytes: Bytes, members: Members },
    /// A form or a file, as parts; `model` is where its name stands in the whole.
    Parts { parts: Vec<Part>, length: Option<u64>, model: Option<std::ops::Range<u64>> },
}

/// The targets of a request, and how far it has come among them.
#[derive(Default)]
pub struct Course {
    pub hops: Vec<Hop>,
    pub position: usize,
    /// What stands for the request's session at each hop; empty when none chooses by it.
    pub sessions: Vec<Option<u64>>,
    /// Who it stands for where replicas have only so many places; `None`: at none of its targets.
    pub rank: Option<Rank>,
    pub tried_replicas: Vec<Arc<Replica>>,
    pub tried_keys: Vec<Arc<ApiKey>>,
    /// The key in whose account the object lies that the request is about.
    pub pinned: Option<Arc<ApiKey>>,
    /// The request is about an object of the caller's.
    pub owned: bool,
    /// Attempts made, the current one included.
    pub attempts: u32,
    /// The current position has had one.
    pub begun: bool,
    /// Providers that have had one.
    pub asked: Vec<Arc<Upstream>>,
    pub current: Option<Attempt>,
    /// Chosen already, for when the current one has failed.
    pub next: Option<Attempt>,
    /// Where it waits, when there is no place for it.
    pub queued: Option<Box<Queued>>,
    /// Why it got no place, where it was last refused one.
    pub shed: Option<Shed>,
    pub failure: Option<Failure>,
}

/// One target.
#[derive(Clone)]
pub struct Hop {
    pub upstream: Arc<Upstream>,
    /// `None` for requests that carry no model.
    pub leg: Option<Leg>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    pub first_event: Option<Instant>,
    pub last_event: Option<Instant>,
}

/// How it ended, for the log and the metrics.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub status: u16,
    /// The client went away.
    pub client_gone: bool,
    /// What the client was told, or would have been.
    pub code: Option<&'static str>,
    pub failure: Option<String>,
}

/// Counts a request as under way for as long as it lives.
pub struct UnderWay {
    pub(super) metrics: Arc<Metrics>,
    /// Where its line goes.
    pub(super) access_log: Arc<AccessLog>,
}

impl Context {
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        let privacy = snapshot.config.privacy;
        Self {
            snapshot,
            started: Instant::now(),
            method: Method::default(),
            request_id: HeaderValue::from_static(""),
            caller: Dialect::OpenaiChat,
            endpoint: None,
            privacy,
            client: None,
            principal: None,
            account: Account::default(),
            origin: None,
            own_key: None,
            body: Body::None,
            asked: Asked::default(),
            hold: None,
            head_sent: false,
            course: Course::default(),
            stage: Stage::Pass,
            timing: Timing::default(),
            makes: false,
            deletes: None,
            past: None,
            told: None,
            trace: None,
            refusal: None,
            outcome: Outcome::default(),
            note: Note::default(),
            unsettled: None,
        }
    }

    /// Counts the request as under way from here on.
    pub fn activate(&mut self, metrics: &Arc<Metrics>, access_log: &Arc<AccessLog>) {
        metrics.active.inc();
        let (metrics, access_log) = (Arc::clone(metrics), Arc::clone(access_log));
        self.unsettled = Some(UnderWay { metrics, access_log });
    }

    /// The gateway's metrics; none before it counts, and once it is settled.
    pub fn metrics(&self) -> Option<&Arc<Metrics>> {
        self.unsettled.as_ref().map(|under_way| &under_way.metrics)
    }

    pub fn request_id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }

    /// The model's label, for metrics: of the target that serves, or was tried last.
    pub fn model_label(&self) -> &str {
        let current = self.course.current.as_ref().map(|attempt| attempt.leg.as_ref());
        let leg = current.unwrap_or_else(|| self.course.hops.first()?.leg.as_ref());
        leg.map_or("", |leg| leg.model.label.as_str())
    }

    /// The provider that serves, or was tried last.
    pub fn provider_label(&self) -> &str {
        self.course.current.as_ref().map_or("", |attempt| attempt.upstream.provider.name.as_str())
    }

    /// Whose numbers it adds to.
    pub fn counted(&self) -> Counted<'_> {
        let leg = self.course.current.as_ref().and_then(|attempt| attempt.leg.as_ref());
        Counted {
            model: self.model_label(),
            provider: self.provider_label(),
            series: leg.and_then(|leg| self.snapshot.series(leg)),
        }
    }

    pub fn first_token(&self) -> Option<Duration> {
        Some(self.timing.first_event?.duration_since(self.started))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.metrics.active.dec();
    }
}

/// Headers every answer carries.
pub fn mark(ctx: &Context, head: &mut ResponseHeader) -> pingora::Result<()> {
    heads::edit(head, |headers| {
        headers.insert(&super::REQUEST_ID, ctx.request_id.clone());
        standing::write(ctx, headers);
        let Some(attempt) = &ctx.course.current else { return };
        headers.insert(&PROVIDER, attempt.upstream.provider.label.clone());
        if let Some(leg) = &attempt.leg {
            // Letters beyond ASCII may stand in a header, and some names have them.
            let model = HeaderValue::from_bytes(leg.upstream_model().as_bytes());
            model.map(|model| headers.insert(&MODEL, model)).ok();
        }
        let crossing = attempt.crossing.as_deref();
        if let Some(dropped) = crossing.and_then(|crossing| crossing.dropped.clone()) {
            headers.insert(&DROPPED, dropped);
        }
        let attempts = match ctx.course.attempts {
            1 => HeaderValue::from_static("1"),
            more => more.into(),
        };
        headers.insert(&ATTEMPTS, attempts);
    })
}
