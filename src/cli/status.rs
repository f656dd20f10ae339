//! `forebay status`: the running server on one screen.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::client::{Client, Where};
use super::record::{Form, finish, pretty, print, table};

#[derive(clap::Args)]
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    form: Form,
}

pub fn status(arguments: &Arguments) -> ExitCode {
    let client = match Client::server(&arguments.place) {
        Ok(client) => client,
        Err(code) => return code,
    };
    finish(gather(&client).map(|status| {
        if arguments.form.json {
            print(&pretty(&status));
        } else {
            print(&screen(&status));
        }
    }))
}

/// All of it, as `--json` prints it.
fn gather(client: &Client) -> Result<Value, String> {
    let version = client.get("GET", "/config/version", None)?;
    let config = client.get("GET", "/config", None)?;
    let document = client.get("GET", "/openapi.json", None)?;
    let providers = client.list("/providers")?;
    let models = client.list("/models")?;
    let has_store = version.get("store").is_some_and(|store| !store.is_null());
    let file_keys = config.get("keys").and_then(Value::as_array).map_or(0, Vec::len);
    let (keys, users, store) = if has_store {
        match (client.list("/keys"), client.list("/users")) {
            (Ok(keys), Ok(users)) => (keys, users, "connected"),
            // It went away just now.
            _ => (Vec::new(), Vec::new(), "away"),
        }
    } else {
        let configured = client.ask("GET", "/keys?limit=1", None)?;
        let none = configured.body.pointer("/error/message").and_then(Value::as_str);
        let away = none.is_none_or(|said| !said.contains("No store"));
        (Vec::new(), Vec::new(), if away { "away" } else { "none" })
    };
    let disabled =
        |all: &[Value]| all.iter().filter(|one| one.get("enabled") == Some(&json!(false))).count();
    let metrics = client.page("/metrics").unwrap_or_default();
    Ok(json!({
        "version": document.pointer("/info/version"),
        "configuration": version,
        "in_flight": sum(&metrics, "forebay_active_requests"),
        "connections": sum(&metrics, "forebay_connections"),
        "providers": providers,
        "models": models.iter().map(model).collect::<Vec<_>>(),
        "keys": { "file": file_keys, "store": keys.len(), "disabled": disabled(&keys) },
        "users": { "store": users.len(), "disabled": disabled(&users) },
        "store": store,
        "redis": redis(&config, &metrics),
    }))
}

fn model(model: &Value) -> Value {
    let targets = model.get("targets").and_then(Value::as_array).into_iter().flatten();
    let providers: Vec<&str> =
        targets.filter_map(|target| target.get("provider")?.as_str()).collect();
    json!({ "id": model.get("id"), "enabled": model.get("enabled"), "providers": providers })
}

fn redis(config: &Value, metrics: &str) -> &'static str {
    if config.get("redis").is_none_or(Value::is_null) {
        return "none";
    }
    match sum(metrics, "forebay_redis_up") {
        Some(up) if up > 0.0 => "connected",
        Some(_) => "away",
        None => "configured",
    }
}

/// The sum of a metric over its labels; `None` when there is no such metric.
fn sum(metrics: &str, name: &str) -> Option<f64> {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let rest = if rest.starts_with('{') { rest.rsplit_once('}')?.1 } else { rest };
        rest.strip_prefix(' ')?.trim().parse::<f64>().ok()
    };
    metrics.lines().filter_map(value).reduce(|a, b| a + b)
}

fn screen(status: &Value) -> String {
    let text = |pointer: &str| match status.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        // Metrics are counted in fractions.
        Some(other) => other.to_string().trim_end_matches(".0").to_owned(),
    };
    let mut lines = vec![
        format!("forebay {}", text("/version")),
        format!(
            "configuration {} in force since {}",
            text("/configuration/version"),
            text("/configuration/loaded_at")
        ),
    ];
    if text("/configuration/last_reload/outcome") == "failed" {
        lines
            .push(format!("  the last reload failed at {}", text("/configuration/last_reload/at")));
    }
    lines.push(format!("in flight {}, connections {}", text("/in_flight"), text("/connections")));
    lines.push(format!(
        "keys {} in the file, {} in the store ({} disabled); users {} ({} disabled)",
        text("/keys/file"),
        text("/keys/store"),
        text("/keys/disabled"),
        text("/users/store"),
        text("/users/disabled"),
    ));
    lines.push(format!("store {}, redis {}", text("/store"), text("/redis")));
    let mut out = lines.join("\n");
    out.push_str("\n\n");
    out.push_str(&table(&providers(status)));
    out.push('\n');
    out.push_str(&chosen(status));
    out.push_str(&table(&models(status)));
    out
}

fn providers(status: &Value) -> Vec<Vec<String>> {
    let mut rows = vec![
        [
            "PROVIDER",
            "REPLICA",
            "HEALTH",
            "SHARE",
            "IN FLIGHT",
            "WAITING",
            "KV",
            "PREFIX HITS",
            "MODELS",
            "LATENCY",
            "LAST ERROR",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for provider in status.get("providers").and_then(Value::as_array).into_iter().flatten() {
        let word = |value: &Value, name: &str| match value.get(name) {
            None | Some(Value::Null) => "-".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let state = provider.get("state").unwrap_or(provider);
        let replicas = state.get("replicas").and_then(Value::as_array).cloned().unwrap_or_default();
        if replicas.is_empty() {
            rows.push(vec![word(provider, "id"), "-".to_owned(), word(state, "health")]);
        }
        // They wait for whichever of its replicas has a place first.
        let queue = state.get("queue").unwrap_or(&Value::Null);
        for replica in &replicas {
            let latency = replica.get("latency_ms").and_then(Value::as_f64);
            let percent = |name: &str| {
                let share = replica.get(name).and_then(Value::as_f64);
                share.map_or("-".to_owned(), |share| format!("{:.0}%", share * 100.0))
            };
            let models = replica.get("models").and_then(Value::as_array);
            rows.push(vec![
                word(provider, "id"),
                word(replica, "address"),
                word(replica, "health"),
                percent("share"),
                word(replica, "in_flight"),
                word(queue, "waiting"),
                percent("kv_use"),
                percent("expected_hit_share"),
                models.map_or("-".to_owned(), |models| models.len().to_string()),
                latency.map_or("-".to_owned(), |ms| format!("{ms:.0} ms")),
                word(replica, "last_error"),
            ]);
        }
    }
    rows
}

/// Why replicas were chosen, a line for each provider that had a choice.
fn chosen(status: &Value) -> String {
    let mut lines = String::new();
    for provider in status.get("providers").and_then(Value::as_array).into_iter().flatten() {
        let state = provider.get("state").unwrap_or(provider);
        let choices = state.get("choices").and_then(Value::as_object);
        let reasons: Vec<String> =
            choices.into_iter().flatten().map(|(why, count)| format!("{why} {count}")).collect();
        if let (Some(id), false) = (provider.get("id").and_then(Value::as_str), reasons.is_empty())
        {
            lines.extend(["chosen at ", id, ": ", &reasons.join(", "), "\n"]);
        }
    }
    if lines.is_empty() { lines } else { lines + "\n" }
}

fn models(status: &Value) -> Vec<Vec<String>> {
    let mut rows = vec![vec!["MODEL".to_owned(), "PROVIDERS".to_owned()]];
    for model in status.get("models").and_then(Value::as_array).into_iter().flatten() {
        let providers = model.get("providers").and_then(Value::as_array).into_iter().flatten();
        let providers: Vec<&str> = providers.filter_map(Value::as_str).collect();
        let id = model.get("id").and_then(Value::as_str).unwrap_or("-");
        rows.push(vec![id.to_owned(), providers.join(", ")]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let text = "# HELP a_b x\na_b{x=\"1\"} 2\na_b{x=\"}\"} 3\na_b_c 9\nd 4\n";
        assert_eq!(sum(text, "a_b"), Some(5.0));
        assert_eq!(sum(text, "d"), Some(4.0));
        assert_eq!(sum(text, "e"), None);
    }
}
