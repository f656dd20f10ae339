//! Waiting for a place at a provider whose replicas have all they may: in the line, with an eye on the
//! caller, who may leave, and on the clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::affinity::Asking;
use super::attempt::{Search, choose, explain, note_failover, take_place};
use super::body::Part;
use super::clock::Patience;
use super::context::{Body, Context, Hop};
use super::cut::{SHUTTING_DOWN, until_told};
use super::hold::Prepared;
use super::refusal::Refusal;
use super::{Gateway, forward};
use crate::balance::{Ask, Entry, Place, Request as _, Shed, Ticket};
use crate::config::Priority;
use crate::protocol::Task;
use crate::routing::Endpoint;

static PRIORITY: HeaderName = HeaderName::from_static("x-forebay-priority");

/// The error that ends a request which got no place.
const NO_PLACE: ErrorType = ErrorType::Custom("NoPlace");
/// Longer than any wait: the line's own clock says when it is over.
const EVER: Duration = Duration::from_hours(24);

/// A request that waits at a target.
pub struct Queued {
    ticket: Ticket,
    since: Instant,
    /// When it looks for another target, and when it gives up.
    spill: Option<Instant>,
    late: Instant,
    search: Search,
}

/// How a wait ended.
enum Woken {
    Place(Place),
    Shed(Shed),
    /// It is time to look for another target.
    Spill,
    /// The caller is gone, or has to go.
    Left(Box<Error>),
}

/// Notes how a request stands among others, if one of its targets makes requests wait: as its key
/// does, or lower when it says so itself.
pub fn note_rank(ctx: &mut Context, headers: &HeaderMap) -> Result<(), Refusal> {
    if !ctx.course.hops.iter().any(|hop| hop.upstream.admission().is_some()) {
        return Ok(());
    }
    let mut rank = ctx.principal.as_ref().map(|principal| principal.rank()).unwrap_or_default();
    if let Some(wish) = headers.get(&PRIORITY) {
        let wish = wish.to_str().ok().and_then(|wish| wish.parse::<Priority>().ok());
        let wanted = "low, normal, high or a whole number from -100 to 100";
        let wish = wish.ok_or_else(|| Refusal::wrong_type("x-forebay-priority", wanted))?;
        rank.priority = rank.priority.min(wish);
    }
    if let Body::Json { bytes, members } = &ctx.body
        && let Some(raw) = members.raw(bytes, "priority")
        && let Some(wish) = std::str::from_utf8(raw).ok().and_then(|raw| raw.parse::<i64>().ok())
    {
        // As vLLM has it, the lower comes first.
        rank.priority = rank.priority.min(Priority::nearest(wish.saturating_neg()));
    }
    ctx.course.rank = Some(rank);
    Ok(())
}

/// Asks for a place at a target.
pub fn enter(ctx: &Context, hop: &Hop) -> Entry {
    let gate = hop.upstream.pool.gate();
    if !gate.is_bounded() {
        return Entry::Free(None);
    }
    match ask(ctx, hop) {
        Some(ask) => gate.enter(&ask),
        None => Entry::Free(None),
    }
}

/// Stands in line at the current target; false when that takes nobody more.
pub fn join(ctx: &mut Context, search: Search) -> bool {
    let Some(hop) = ctx.course.hops.get(ctx.course.position) else { return false };
    let (Some(ask), Some(rule)) = (ask(ctx, hop), hop.upstream.admission()) else { return false };
    match hop.upstream.pool.gate().join(&ask, ctx.course.begun) {
        Ok(ticket) => {
            let since = Instant::now();
            let spill = rule.spill_after.map(|after| since + after);
            let late = since + rule.wait;
            let queued = Queued { ticket, since, spill, late, search };
            ctx.course.queued = Some(Box::new(queued));
            true
        }
        Err(shed) => {
            note_shed(ctx, hop, shed);
            ctx.course.shed = Some(shed);
            false
        }
    }
}

/// What it asks for at a target; `None` for what takes no place: what is no call of a model, what only
/// counts, and what lasts as long as its caller likes.
fn ask(ctx: &Context, hop: &Hop) -> Option<Ask> {
    hop.leg.as_ref()?;
    let takes_place =
        ctx.endpoint != Some(Endpoint::Realtime) && ctx.asked.operation.task() != Some(Task::Count);
    let rank = ctx.course.rank.filter(|_| takes_place)?;
    let caller = Arc::clone(&ctx.principal.as_ref()?.id);
    Some(Ask { caller, rank, tokens: Asking::new(ctx, hop).tokens() })
}

/// What a target's servers are told of a request's priority, as vLLM has it: the lower comes first.
pub fn told_priority(ctx: &Context, hop: &Hop) -> Option<i64> {
    let told = hop.upstream.admission().is_some_and(|admission| admission.priority);
    let rank = ctx.course.rank.filter(|_| told && hop.leg.is_some())?;
    Some(-i64::from(rank.priority.level()))
}

/// Waits until there is an attempt; an error when there will be none.
pub async fn wait(session: &mut Session, ctx: &mut Context, gateway: &Gateway) -> Result<()> {
    while let Some(mut queued) = ctx.course.queued.take() {
        if let Some(current) = &mut ctx.course.current {
            // Else it could be its own place that it waits for.
            current.pick.in_flight.end();
        }
        watch_for_silence(session, ctx);
        let woken = queued.woken(session, ctx, gateway).await;
        if !matches!(woken, Woken::Spill) {
            note_wait(ctx, queued.since);
        }
        match woken {
            Woken::Place(place) => {
                // Its place in the line is gone already.
                let search = queued.search;
                drop(queued);
                take_place(ctx, search, place);
            }
            Woken::Shed(shed) => {
                if let Some(hop) = ctx.course.hops.get(ctx.course.position) {
                    note_shed(ctx, hop, shed);
                }
                ctx.course.shed = Some(shed);
                ctx.course.go_on();
                choose(ctx, queued.search);
            }
            Woken::Spill => spill(ctx, queued),
            Woken::Left(error) => return Err(error),
        }
        note_failover(ctx, &gateway.metrics);
    }
    if ctx.course.next.is_some() {
        return Ok(());
    }
    if ctx.course.failure.is_none() {
        ctx.refusal = Some(explain(ctx));
    }
    Error::e_explain(NO_PLACE, "no replica has room")
}

/// Takes another target that is free, if there is one; goes on waiting, if there is none.
fn spill(ctx: &mut Context, mut queued: Box<Queued>) {
    queued.spill = None;
    let from = ctx.course.position;
    if let Some(hop) = ctx.course.hops.get(from).cloned()
        && super::attempt::choose_free(ctx, queued.search)
    {
        note_wait_at(ctx, &hop, queued.since);
        if let Some(next) = ctx.course.hops.get(ctx.course.position) {
            note_spill(ctx, &hop, next);
        }
        return;
    }
    ctx.course.queued = Some(queued);
}

/// Lets the session that stands in for the client's send heartbeats while its request waits.
fn watch_for_silence(session: &mut Session, ctx: &Context) {
    let Some(hold) = ctx.hold.as_ref().filter(|_| !is_live(ctx)) else { return };
    let heartbeat = forward::heartbeat(ctx);
    let patience = Patience { first_byte: EVER, between_chunks: EVER, heartbeat };
    let patience = heartbeat.map(|_| patience);
    hold.prepare(Prepared { patience, ..Prepared::default() });
    session.downstream_session.enable_retry_buffering();
}

/// Whether some of the body is still to come: then nobody can see whether the client is there without
/// reading of it.
fn is_live(ctx: &Context) -> bool {
    matches!(&ctx.body, Body::Parts { parts, .. } if matches!(parts.last(), Some(Part::Live)))
}

impl Queued {
    async fn woken(
        &mut self,
        session: &mut Session,
        ctx: &mut Context,
        gateway: &Gateway,
    ) -> Woken {
        let live = is_live(ctx);
        let due = self.spill.unwrap_or(self.late).min(self.late);
        let left = async {
            if live {
                std::future::pending::<()>().await;
            }
            loop {
                if let Err(error) = session.downstream_session.read_body_or_idle(true).await {
                    return error;
                }
            }
        };
        let left = tokio::select! {
            biased;
            told = self.ticket.called() => {
                return told.map_or_else(Woken::Shed, Woken::Place);
            }
            error = left => error,
            () = tokio::time::sleep_until(due.into()) => {
                return if due < self.late { Woken::Spill } else { Woken::Shed(self.ticket.late()) };
            }
            () = until_told(gateway.cut.clone()) => {
                Error::explain(SHUTTING_DOWN, "the gateway is shutting down")
            }
        };
        if left.etype == SHUTTING_DOWN {
            ctx.refusal = Some(Refusal::shutting_down());
        } else {
            ctx.outcome.client_gone = true;
        }
        Woken::Left(left)
    }
}

fn note_wait(ctx: &Context, since: Instant) {
    if let Some(hop) = ctx.course.hops.get(ctx.course.position) {
        note_wait_at(ctx, hop, since);
    }
}

fn note_wait_at(ctx: &Context, hop: &Hop, since: Instant) {
    let Some(metrics) = ctx.metrics() else { return };
    let provider = hop.upstream.provider.name.as_str();
    metrics.queue_wait.with_label_values(&[provider]).observe(since.elapsed().as_secs_f64());
}

fn note_shed(ctx: &Context, hop: &Hop, shed: Shed) {
    let Some(metrics) = ctx.metrics() else { return };
    let labels = [hop.upstream.provider.name.as_str(), shed.why.label()];
    metrics.queue_shed.with_label_values(&labels).inc();
}

/// Counts that a request goes to another target, as there was no place at the first.
pub fn note_spill(ctx: &Context, from: &Hop, to: &Hop) {
    let Some(metrics) = ctx.metrics() else { return };
    let labels = [from, to].map(|hop| hop.upstream.provider.name.as_str());
    metrics.spillovers.with_label_values(&labels).inc();
}
