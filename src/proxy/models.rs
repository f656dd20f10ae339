//! The list of models, in the caller's dialect.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::access::Principal;
use crate::balance::ModelCard;
use crate::config::Dialect;
use crate::routing::Model;
use crate::snapshot::{Snapshot, Upstream};

/// A list of models, each as [`models`] gives it.
pub fn list(caller: Dialect, known: Vec<Value>) -> Value {
    let shown: Vec<Value> = known.into_iter().map(|model| show(caller, model)).collect();
    match caller {
        Dialect::Anthropic => {
            let id = |model: Option<&Value>| model.and_then(|model| model.get("id").cloned());
            let (first, last) = (id(shown.first()), id(shown.last()));
            json!({ "data": shown, "has_more": false, "first_id": first, "last_id": last })
        }
        Dialect::Gemini => json!({ "models": shown }),
        _ => json!({ "object": "list", "data": shown }),
    }
}

/// One model: OpenAI's object of it, or what Anthropic's and Google's lists have of it.
pub fn show(caller: Dialect, model: Value) -> Value {
    let id = model.get("id").and_then(Value::as_str).unwrap_or_default();
    match caller {
        // https://docs.anthropic.com/en/api/models-list
        Dialect::Anthropic => {
            let created = model.get("created").and_then(Value::as_i64).unwrap_or(0);
            let created = Timestamp::from_second(created).unwrap_or_default();
            json!({
                "type": "model",
                "id": id,
                "display_name": id,
                "created_at": created.to_string(),
            })
        }
        // https://ai.google.dev/api/models
        Dialect::Gemini => json!({
            "name": format!("models/{id}"),
            "displayName": id,
            "supportedGenerationMethods":
                ["generateContent", "streamGenerateContent", "countTokens", "embedContent"],
        }),
        _ => model,
    }
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
