//! What the gateway answers itself: health, metrics, the list of models.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use bytes::Bytes;
use http::header;
use jiff::Timestamp;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use serde_json::{Map, Value, json};

use super::context::{Context, mark};
use super::refusal::Refusal;
use super::{Gateway, cors, me, operators, temporary};
use crate::access::{Principal, percent_decoded};
use crate::balance::{Health, ModelCard};
use crate::provider::KeyStatus;
use crate::routing::{Local, Model};
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
            let data = models(&ctx.snapshot, ctx.principal.as_deref());
            json(200, &json!({ "object": "list", "data": data }))
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
            let id = percent_decoded(path.strip_prefix("/v1/models/").unwrap_or_default());
            let mut known = models(&ctx.snapshot, ctx.principal.as_deref()).into_iter();
            match known.find(|model| model.get("id").and_then(Value::as_str) == Some(&*id)) {
                Some(model) => json(200, &model),
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

fn status(status: u16, word: &str) -> Answer {
    json(status, &json!({ "status": word }))
}

fn json(status: u16, value: &Value) -> Answer {
    Answer { status, content_type: "application/json", body: value.to_string().into() }
}

/// Every model a caller may use: the configured names, then what rules let through of what the
/// providers have. Each name once, the first wins.
pub fn models(snapshot: &Snapshot, principal: Option<&Principal>) -> Vec<Value> {
    let mut listed = Vec::new();
    let mut seen = HashSet::new();
    let may = |name: &str| principal.is_none_or(|principal| principal.may_use(name));
    let reached =
        |provider: &str| principal.is_none_or(|principal| principal.may_use_provider(provider));
    let served = |model: &Model| {
        let mut upstreams = model.targets.iter().filter_map(|it| snapshot.upstream(it.provider));
        upstreams.any(|upstream| reached(&upstream.provider.name))
    };
    for model in snapshot.models.all().iter().filter(|model| served(model)) {
        for name in &model.names {
            if may(name) && seen.insert(name.clone()) {
                listed.push(card(snapshot, model, name));
            }
        }
    }
    let upstreams = snapshot.upstreams.iter();
    for upstream in upstreams.filter(|upstream| reached(&upstream.provider.name)) {
        for known in upstream.catalogue.cards().iter() {
            if may(&known.id) && serves(snapshot, upstream, known) && seen.insert(known.id.clone())
            {
                listed.push(object(&known.id, Some(known), upstream));
            }
        }
    }
    listed
}

/// Whether a request for a model of this provider would reach it under this name.
fn serves(snapshot: &Snapshot, upstream: &Arc<Upstream>, known: &ModelCard) -> bool {
    let Some((model, _)) = snapshot.models.find(&known.id) else { return false };
    model.targets.iter().any(|target| {
        let same =
            snapshot.upstream(target.provider).is_some_and(|other| Arc::ptr_eq(other, upstream));
        same && target.model(&known.id) == known.id
    })
}

/// A configured model, with what the first provider that knows it says of it.
fn card(snapshot: &Snapshot, model: &Model, name: &str) -> Value {
    let mut owner = None;
    for target in &model.targets {
        let Some(upstream) = snapshot.upstream(target.provider) else { continue };
        owner = owner.or(Some(upstream));
        let wanted = target.model(name);
        if let Some(known) = upstream.catalogue.cards().iter().find(|card| card.id == wanted) {
            return object(name, Some(known), upstream);
        }
    }
    owner.map_or(Value::Null, |upstream| object(name, None, upstream))
}

/// OpenAI's model object. Members that would tell of our insides are left out.
fn object(id: &str, known: Option<&ModelCard>, upstream: &Upstream) -> Value {
    let mut members: Map<String, Value> =
        known.map(|card| card.members.clone()).unwrap_or_default();
    // vLLM's path of the weights on its disk, and the name behind ours.
    members.remove("root");
    members.remove("parent");
    members.remove("permission");
    members.insert("id".to_owned(), json!(id));
    members.insert("object".to_owned(), json!("model"));
    members.entry("created").or_insert(json!(0));
    members.entry("owned_by").or_insert_with(|| json!(upstream.provider.name));
    Value::Object(members)
}

/// The configuration; and per provider and replica: health, in flight, last error, latency.
fn detailed(snapshot: &Snapshot, last: &LastReload) -> Value {
    let provider = |upstream: &Arc<Upstream>| {
        let replicas: Vec<Value> = upstream.pool.status().iter().map(replica).collect();
        let healthy = upstream.pool.status().iter().any(|one| one.health == Health::Healthy);
        json!({
            "name": upstream.provider.name,
            "status": if healthy { "healthy" } else { "unhealthy" },
            "replicas": replicas,
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
    })
}

fn replica(status: &crate::balance::ReplicaStatus) -> Value {
    let replica = &status.replica;
    json!({
        "address": replica.address.to_string(),
        "health": match status.health {
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
            Health::Ejected => "ejected",
        },
        "in_flight": replica.in_flight(),
        "latency_ms": replica.latency().as_secs_f64() * 1000.0,
        "last_error": replica.last_error(),
    })
}
