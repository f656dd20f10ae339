//! The configuration as operators are shown it: no secret in it, only the ends of some.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::moment::in_words;
use crate::balance::Health;
use crate::config::{
    self, Admission, ClientAuth, Config, Dialect, EventPort, HealthCheck, Kind, LoadBalancing,
    Location, LogFormat, Matcher, Model, Provider, Rotate, Secret,
};
use crate::snapshot::Upstream;

/// Whether something in force stands in the file. What the store adds has no place in it.
pub fn is_of_file(config: &Config, location: Location) -> bool {
    location.is_known() || !config.store.as_ref().is_some_and(|store| store.dynamic)
}

/// All of it, in the words of the file.
pub fn configuration(config: &Config) -> Value {
    let listener = |listen: &config::Listen| json!({ "address": listen.address.to_string(), "tls": listen.tls.is_some() });
    let admin = |admin: &config::Admin| {
        json!({
            "listen": admin.listen.to_string(),
            "key": mask(&admin.key),
            "on_data_listener": admin.on_data_listener,
        })
    };
    let store = |store: &config::Store| {
        json!({
            // A password may stand anywhere in it.
            "url": store.url.as_ref().map(|url| scheme(url.expose())),
            "dynamic": store.dynamic,
            "encryption_key": store.encryption_key.as_ref().map(|_| "…"),
        })
    };
    let models: Vec<Value> = config.models.iter().map(|it| Value::Object(model(it))).collect();
    let providers = config.providers.iter().map(|it| Value::Object(provider(it)));
    json!({
        "listen": config.listen.iter().map(listener).collect::<Vec<_>>(),
        "admin": config.admin.as_ref().map(admin),
        "providers": providers.collect::<Vec<_>>(),
        "models": models,
        "model_prefix": config.model_prefix,
        "default_provider": config.default_provider,
        "keys": config.keys.iter().map(key).collect::<Vec<_>>(),
        "anonymous": config.anonymous,
        "store": config.store.as_ref().map(store),
        "redis": config.redis.as_ref().map(|url| scheme(url.expose())),
        "quotas": {
            "refresh": config.quotas.refresh.to_string(),
            "groups": config.quotas.groups.iter().map(|group| json!({
                "name": group.name, "models": group.models, "tokens": group.tokens,
            })).collect::<Vec<_>>(),
        },
        "metrics": { "on_data_listener": config.metrics.on_data_listener },
        "access_log": config.access_log.as_ref().map(access_log),
        "tracing": config.tracing.as_ref().map(tracing),
        "privacy": {
            "log_client_ip": config.privacy.log_client_ip,
            "log_user_agent": config.privacy.log_user_agent,
            "forward_device_headers": config.privacy.forward_device_headers,
            "strict": config.privacy.strict,
        },
        "cors": config.cors.as_ref().map(|cors| json!({ "allow_origins": cors.allow_origins })),
        "trusted_proxies":
            config.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "limits": {
            "body": config.limits.body, "upload": config.limits.upload,
            "headers": config.limits.headers, "connections": config.limits.connections,
            "connections_per_ip": config.limits.connections_per_ip,
        },
        "timeouts": {
            "request_header": duration(config.timeouts.request_header),
            "client_write": duration(config.timeouts.client_write),
            "client_idle": duration(config.timeouts.client_idle),
            "drain": duration(config.timeouts.drain),
            "upgrade_drain": duration(config.timeouts.upgrade_drain),
        },
        "retry": { "attempts": config.retry.attempts, "budget": config.retry.budget.to_string() },
        "heartbeat": config.heartbeat.map(duration),
    })
}

fn access_log(log: &config::AccessLog) -> Value {
    let to = log.to.as_ref().map(|file| file.display().to_string());
    json!({
        "format": match log.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        },
        "to": to.unwrap_or_else(|| "stdout".to_owned()),
        "rotate": match log.rotate {
            Rotate::Never => json!("off"),
            Rotate::Daily => json!("daily"),
            Rotate::Size(bytes) => json!(bytes),
        },
        "keep": log.keep,
    })
}

fn tracing(tracing: &config::Tracing) -> Value {
    let header = |(name, value): &(String, Secret)| (name.clone(), json!(mask(value)));
    json!({
        "endpoint": tracing.endpoint.to_string(),
        "headers": tracing.headers.iter().map(header).collect::<Map<_, _>>(),
        "sample": tracing.sample.to_string(),
        "service_name": tracing.service_name,
        "timeout": duration(tracing.timeout),
    })
}

/// A provider in the words of the file.
pub fn provider(provider: &Provider) -> Map<String, Value> {
    let endpoint = |endpoint: &config::Endpoint| json!({ "url": endpoint.url.to_string(), "weight": endpoint.weight });
    let header = |(name, value): &(String, Secret)| (name.clone(), json!(mask(value)));
    let timeouts = &provider.timeouts;
    object(json!({
        "id": provider.name,
        "name": provider.name,
        "kind": provider.kind.word(),
        "endpoints": provider.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "discovery": provider.discovery.word(),
        "slow_start": duration(provider.slow_start),
        "operations": provider.operations.iter().map(|it| it.name).collect::<Vec<_>>(),
        "api_keys": provider.api_keys.iter().map(mask).collect::<Vec<_>>(),
        "client_auth": match provider.client_auth {
            ClientAuth::Replace => "replace",
            ClientAuth::PreferClient => "prefer_client",
            ClientAuth::Forward => "forward",
        },
        "load_balancing": match &provider.load_balancing {
            policy @ LoadBalancing::ConsistentHash { header: Some(header) } => {
                json!({ "policy": policy.word(), "header": header })
            }
            policy => json!(policy.word()),
        },
        "kv_events": provider.kv_events.as_ref().map(|events| {
            let (member, port) = match events.port {
                EventPort::Same(port) => ("port", port),
                EventPort::Above(offset) => ("port_offset", offset),
            };
            json!({ member: port, "topic": events.topic })
        }),
        "admission": provider.admission.as_ref().map(admission),
        "health_check": match &provider.health_check {
            HealthCheck::None => json!({ "type": "none" }),
            HealthCheck::Tcp(_) => json!({ "type": "tcp" }),
            HealthCheck::Http { path, .. } => json!({ "type": "http", "path": path }),
        },
        "timeouts": {
            "connect": duration(timeouts.connect), "first_byte": duration(timeouts.first_byte),
            "between_chunks": duration(timeouts.between_chunks),
            "idle_pool": duration(timeouts.idle_pool),
        },
        "api_version": provider.api_version,
        "headers": provider.headers.iter().map(header).collect::<Map<_, _>>(),
        "dialect": provider.dialect.map(Dialect::word),
        "project": provider.cloud.project,
        "location": provider.cloud.location.as_ref().filter(|_| provider.kind != Kind::Bedrock),
        "region": provider.cloud.location.as_ref().filter(|_| provider.kind == Kind::Bedrock),
        "source": "file",
    }))
}

fn admission(admission: &Admission) -> Value {
    json!({
        "max_concurrent": admission.max_concurrent,
        "queue": admission.queue,
        "wait": duration(admission.wait),
        "spill_after": admission.spill_after.map(duration),
        "kv_limit": format!("{}%", admission.kv_limit.0),
        "priority": admission.priority,
    })
}

/// A model in the words of the file.
pub fn model(model: &Model) -> Map<String, Value> {
    let target = |target: &config::Target| json!({ "provider": target.provider, "model": target.model, "weight": target.weight });
    object(json!({
        "id": model_id(model),
        "name": model.name,
        "aliases": model.aliases,
        "match": model.matcher.as_ref().map(matcher),
        "targets": model.targets.iter().map(target).collect::<Vec<_>>(),
        "fallback": model.fallback,
        "rate_limit": model.rate_limit,
        "limits": model.limits,
        "source": "file",
    }))
}

/// What a model is called here: its name, or what it matches.
pub fn model_id(model: &Model) -> String {
    if let Some(name) = &model.name {
        return name.clone();
    }
    let names = |way: &str, names: &[String]| format!("{way}:{}", names.join(","));
    match &model.matcher {
        Some(Matcher::Exact(all)) => names("exact", all),
        Some(Matcher::Prefix(all)) => names("prefix", all),
        Some(Matcher::Suffix(all)) => names("suffix", all),
        Some(Matcher::Keyword(all)) => names("keyword", all),
        Some(Matcher::Regex(regex)) => format!("regex:{}", regex.as_str()),
        None => String::new(),
    }
}

fn matcher(matcher: &Matcher) -> Value {
    match matcher {
        Matcher::Exact(names) => json!({ "exact": names }),
        Matcher::Prefix(names) => json!({ "prefix": names }),
        Matcher::Suffix(names) => json!({ "suffix": names }),
        Matcher::Keyword(names) => json!({ "keyword": names }),
        Matcher::Regex(regex) => json!({ "regex": regex.as_str() }),
    }
}

fn key(key: &config::Key) -> Value {
    json!({
        "name": key.name,
        "user": key.user,
        "allowed_models": key.allowed_models,
        "allowed_providers": key.allowed_providers,
        "expires_at": key.expires_at.and_then(in_words),
        "enabled": key.enabled,
        "rate_limit": key.rate_limit,
        "limits": key.limits,
        "priority": key.rank.priority,
        "weight": key.rank.weight,
        "tags": key.tags,
        "privacy": key.strict.then_some("strict"),
    })
}

/// How a provider is now, on this node: each replica, and each of our keys with it.
pub fn state(upstream: &Upstream) -> Value {
    let replica = |status: &crate::balance::ReplicaStatus| {
        json!({
            "address": status.replica.address.to_string(),
            "health": status.health.word(),
            "in_flight": status.replica.in_flight(),
            "in_flight_tokens": status.replica.load.prompt_tokens(),
            "share": status.replica.serving.share(),
            "models": status.replica.serving.models().as_deref(),
            "waiting": status.replica.load.reported().map(|told| told.report.waiting),
            "kv_use": status.replica.load.reported().map(|told| told.report.kv_use),
            "expected_hit_share": status.replica.expected_share(),
            "latency_ms": status.replica.latency().as_secs_f64() * 1000.0,
            "last_error": status.replica.last_error(),
        })
    };
    let statuses = upstream.pool.status();
    let healthy = statuses.iter().any(|status| status.health == Health::Healthy);
    json!({
        "health": if healthy { "healthy" } else { "unhealthy" },
        "choices": upstream.pool.choices().all().filter(|(_, count)| *count > 0)
            .map(|(reason, count)| (reason.label().to_owned(), json!(count)))
            .collect::<Map<_, _>>(),
        "replicas": statuses.iter().map(replica).collect::<Vec<_>>(),
        "queue": upstream.pool.gate().queue().map(|queue| {
            json!({ "waiting": queue.waiting, "most": queue.most })
        }),
        "api_keys": api_keys(upstream),
    })
}

/// How each of our keys with a provider is, in the order of the configuration.
pub fn api_keys(upstream: &Upstream) -> Vec<Value> {
    let states = upstream.provider.keys.states().into_iter().enumerate();
    let key = |(number, key): (usize, crate::provider::KeyStatus)| {
        json!({
            "number": number,
            "hint": key.hint,
            "state": key.state.as_str(),
            "reason": key.reason,
            "until": key.until.and_then(at),
            "resting_models": key.resting_models,
            "expires": key.expires.and_then(at),
        })
    };
    states.map(key).collect()
}

/// A moment as RFC 3339 has it.
pub fn at(time: SystemTime) -> Option<String> {
    Some(format!("{:.3}", Timestamp::try_from(time).ok()?))
}

/// Its members.
pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn mask(secret: &Secret) -> String {
    secret.hint()
}

/// Of an address that may hold a password, what it begins with.
fn scheme(url: &str) -> String {
    format!("{}:…", url.split(':').next().unwrap_or_default())
}

fn duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, load};

    #[test]
    fn no_secret_is_shown() {
        let text = r#"
admin: { listen: "127.0.0.1:1", key: fake-admin-key-0001 }
store: { url: "postgres://someone:fake-password@db/x", encryption_key: fake-encryption-key-0002 }
redis: { url: "redis://:fake-password@cache" }
providers:
  - { name: p, kind: vllm, base_url: "http://x", api_keys: [fake-upstream-key-0003], headers: { X-A: fake-header-0004 } }
models: [{ name: m, targets: [{ provider: p }] }]
keys: [{ name: k, key: fake-caller-key-0005 }]
tracing: { endpoint: "http://collector", headers: { Authorization: fake-collector-key-0006 } }
access_log: { to: access.log }
"#;
        let source = Source { text: text.to_owned(), ..Source::default() };
        let (config, _) = load(&source).unwrap();
        let shown = configuration(&config).to_string();
        assert!(!shown.contains("fake"), "{shown}");
        for end in ["…0003", "postgres:…", "redis:…", "…0006", "access.log"] {
            assert!(shown.contains(end), "{end}: {shown}");
        }
    }
}
