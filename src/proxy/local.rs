//! What the gateway answers itself: health, metrics, the list of models.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use bytes::Bytes;
use http::header;
use jiff::Timestamp;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use serde_json::{Value, json};

use super::context::{Context, mark};
use super::models::{self, models};
use super::refusal::Refusal;
use super::{Gateway, cors, me, operators, temporary};
use crate::access::percent_decoded;
use crate::balance::{Choice, Exact, Health, Queue, ReplicaStatus, Reported};
use crate::provider::KeyStatus;
use crate::routing::Local;
use crate::snapshot::{LastReload, Reload, Snapshot, Upstream};

/// A finished answer.
struct Answer {
    status: u16,
    content_type: &'static str,
    body: Bytes,
}

/// Answers a local endpoint, or says why not.
pub async fn answer(
    session: &mut Session,
    ctx: &mut Context,
    local: Local,
    gateway: &Gateway,
) -> Result<Option<Refusal>> {
    let path = session.req_header().uri.path().to_owned();
    let answer = match local {
        Local::Live => status(200, "ok"),
        Local::Ready if gateway.ready.load(Relaxed) => status(200, "ok"),
        Local::Ready => status(503, "draining"),
        Local::HealthDetailed => json(200, &detailed(&ctx.snapshot, &gateway.last_reload)),
        Local::Metrics => {
            ctx.snapshot.note_health(&gateway.metrics);
            let content_type = "text/plain; version=0.0.4; charset=utf-8";
            Answer { status: 200, content_type, body: gateway.metrics.render().into() }
        }
        Local::Operators => return operators::answer(session, ctx, gateway).await,
        Local::Models => {
            let known = models(&ctx.snapshot, ctx.principal.as_deref());
            json(200, &models::list(ctx.caller, known))
        }
        Local::Me => match me::tell(ctx, gateway) {
            Ok(told) => json(200, &told),
            Err(refusal) => return Ok(Some(refusal)),
        },
        Local::MakeKey => match temporary::make(session, ctx, gateway).await {
            Ok(made) => json(201, &made),
            Err(refusal) => return Ok(Some(refusal)),
        },
        Local::Challenge => match temporary::challenge(session, ctx, gateway).await {
            Ok(made) => json(200, &made),
            Err(refusal) => return Ok(Some(refusal)),
        },
        Local::Model => {
            let below = ["/v1/models/", "/v1beta/models/"];
            let id = below.iter().find_map(|below| path.strip_prefix(below)).unwrap_or_default();
            let id = percent_decoded(id);
            let mut known = models(&ctx.snapshot, ctx.principal.as_deref()).into_iter();
            match known.find(|model| model.get("id").and_then(Value::as_str) == Some(&*id)) {
                Some(model) => json(200, &models::show(ctx.caller, model)),
                None => return Ok(Some(Refusal::model_not_found(&id))),
            }
        }
    };
    let mut head = ResponseHeader::build(answer.status, Some(8))?;
    head.insert_header(header::CONTENT_TYPE, answer.content_type)?;
    if matches!(local, Local::Me | Local::MakeKey | Local::Challenge) {
        head.insert_header(header::CACHE_CONTROL, "no-store")?;
    }
    write(session, ctx, head, answer.body).await?;
    Ok(None)
}

/// Writes a finished answer with the headers every answer has.
pub async fn write(
    session: &mut Session,
    ctx: &mut Context,
    mut head: ResponseHeader,
    body: Bytes,
) -> Result<()> {
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    mark(ctx, &mut head)?;
    cors::allow(ctx, &mut head)?;
    ctx.outcome.status = head.status.as_u16();
    let empty = body.is_empty() || session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(head), empty).await?;
    if !empty {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

/// Writes a whole answer of ours.
pub async fn write_json(session: &mut Session, ctx: &mut Context, body: Bytes) -> Result<()> {
    let mut head = ResponseHeader::build(200, Some(8))?;
    head.insert_header(header::CONTENT_TYPE, "application/json")?;
    write(session, ctx, head, body).await
}

fn status(status: u16, word: &str) -> Answer {
    json(status, &json!({ "status": word }))
}

fn json(status: u16, value: &Value) -> Answer {
    Answer { status, content_type: "application/json", body: value.to_string().into() }
}

/// The configuration; and per provider and replica: health, in flight, last error, latency.
fn detailed(snapshot: &Snapshot, last: &LastReload) -> Value {
    let provider = |upstream: &Arc<Upstream>| {
        let exact = upstream.pool.exact();
        let replica = |status: &ReplicaStatus| replica(status, exact);
        let replicas: Vec<Value> = upstream.pool.status().iter().map(replica).collect();
        let healthy = upstream.pool.status().iter().any(|one| one.health == Health::Healthy);
        json!({
            "name": upstream.provider.name,
            "status": if healthy { "healthy" } else { "unhealthy" },
            "replicas": replicas,
            "choices": choices(upstream),
            "queue": upstream.pool.gate().queue().map(|queue| waiting(&queue)),
            "last_choices": upstream.pool.last_choices().iter().map(choice).collect::<Vec<_>>(),
            "expected_hit_share": upstream.pool.choices().expected_share(),
            "learned_blocks": exact.map(|exact| exact.learned()),
            "keys": upstream.provider.keys.states().iter().map(key).collect::<Vec<_>>(),
        })
    };
    let providers: Vec<Value> = snapshot.upstreams.iter().map(provider).collect();
    json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "configuration": configuration(snapshot, last),
        "providers": providers,
    })
}

/// How many wait for its replicas.
fn waiting(queue: &Queue) -> Value {
    json!({
        "waiting": queue.waiting,
        "most": queue.most,
        "expected_ms": queue.expected.map(|expected| expected.as_secs_f64() * 1000.0),
    })
}

fn configuration(snapshot: &Snapshot, last: &LastReload) -> Value {
    let origin = &snapshot.origin;
    let reload = |reload: &Reload| {
        json!({
            "outcome": if reload.mistakes.is_empty() { "ok" } else { "failed" },
            "at": moment(reload.at),
            "mistakes": reload.mistakes,
        })
    };
    json!({
        "version": origin.version,
        "loaded_at": moment(origin.loaded_at),
        "waiting_for_upgrade": origin.waiting,
        "last_reload": last.load().as_deref().map(reload),
    })
}

/// A moment as RFC 3339 has it, to the millisecond.
fn moment(time: SystemTime) -> Option<String> {
    Some(format!("{:.3}", Timestamp::try_from(time).ok()?))
}

/// How one of our keys with a provider is. Of the key itself only its end is told.
fn key(status: &KeyStatus) -> Value {
    json!({
        "hint": status.hint,
        "state": status.state.as_str(),
        "reason": status.reason,
        "until": status.until.and_then(moment),
        "resting_models": status.resting_models,
        "expires": status.expires.and_then(moment),
    })
}

fn replica(status: &ReplicaStatus, exact: Option<&Arc<Exact>>) -> Value {
    let replica = &status.replica;
    let told = exact.filter(|_| replica.is_heard());
    json!({
        "address": replica.address.to_string(),
        "health": status.health.word(),
        "in_flight": replica.in_flight(),
        "in_flight_tokens": replica.load.prompt_tokens(),
        "told_blocks": told.map(|exact| exact.told(replica)),
        "matched_blocks": told.map(|exact| exact.matched(replica)),
        "reported": replica.load.reported().map(|reported| reported_load(&reported)),
        "share": replica.serving.share(),
        "models": replica.serving.models().as_deref(),
        "expected_hit_share": replica.expected_share(),
        "latency_ms": replica.latency().as_secs_f64() * 1000.0,
        "last_error": replica.last_error(),
    })
}

/// What a replica's server said of itself, and how long ago.
fn reported_load(reported: &Reported) -> Value {
    let report = &reported.report;
    let looked_up = report.looked_up > 0.0;
    json!({
        "running": report.running,
        "waiting": report.waiting,
        "kv_use": report.kv_use,
        "hit_share": looked_up.then(|| report.found / report.looked_up),
        "age_ms": reported.at.elapsed().as_secs_f64() * 1000.0,
    })
}

/// One of the last choices: which replica, why, and what was known of the prompt.
fn choice(choice: &Choice) -> Value {
    json!({
        "replica": choice.replica.to_string(),
        "reason": choice.reason.label(),
        "age_ms": choice.at.elapsed().as_secs_f64() * 1000.0,
        "in_flight": choice.in_flight,
        "prompt_tokens": choice.prompt_tokens,
        "expected_cached_tokens": choice.cached_tokens,
    })
}

/// Why replicas were chosen, as often as that was so.
fn choices(upstream: &Upstream) -> Value {
    let all = upstream.pool.choices().all().filter(|(_, count)| *count > 0);
    all.map(|(reason, count)| (reason.label().to_owned(), json!(count))).collect()
}
