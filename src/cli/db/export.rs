//! `forebay db export`: what the store holds, as YAML that `forebay db import` reads. Of keys their
//! digests, of providers' secrets nothing but their ends: no secret is in it.

use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::super::client::{Client, Where};
use super::super::record::finish;
use super::super::{complain, import};
use crate::store::{Kind, Store};

/// Records that are asked for at once.
const AT_ONCE: u32 = 1000;
/// Members that are moments: text outside, Unix milliseconds within.
pub const MOMENTS: [&str; 3] = ["created_at", "expires_at", "purge_at"];
/// What the admin API shows of an item and nobody sets.
pub const READ_ONLY: [&str; 6] = ["source", "version", "updated_at", "state", "warning", "object"];

#[derive(clap::Args)]
#[group(skip)]
pub struct Arguments {
    /// Where it goes [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    place: Where,
}

pub fn export(arguments: &Arguments) -> ExitCode {
    let client = match Client::store(&arguments.place) {
        Ok(client) => client,
        Err(code) => return code,
    };
    finish(gather(&client).and_then(|document| {
        let mut yaml = "# What the store of Forebay holds, for `forebay db import`.\n".to_owned();
        yaml.push_str(&serde_yaml::to_string(&document).map_err(|error| error.to_string())?);
        import::write(arguments.output.as_deref(), &yaml)
    }))
}

fn gather(client: &Client) -> Result<Value, String> {
    let store = client.opened().ok_or("the store is not open")?;
    let mut document = Map::new();
    for kind in [Kind::Users, Kind::Keys] {
        document.insert(kind.as_str().to_owned(), json!(client.block_on(records(store, kind))?));
    }
    for (name, path) in [("providers", "/providers"), ("models", "/models")] {
        let mut items = client.list(path)?;
        items.retain(|item| item.get("source") == Some(&json!("store")));
        let items: Vec<Value> = items.into_iter().map(bare).collect();
        let secret = |item: &&Value| {
            ["api_key", "api_keys", "headers"].iter().any(|name| item.get(*name).is_some())
        };
        let secrets = items.iter().filter(secret).count();
        if secrets > 0 {
            complain(format_args!(
                "{secrets} {name} have secrets, of which only the ends are in the export: an import into \
                 this store keeps them, into another they have to be given again"
            ));
        }
        document.insert(name.to_owned(), Value::Array(items));
    }
    Ok(escaped(Value::Object(document)))
}

/// An item as it can be given back.
pub fn bare(mut item: Value) -> Value {
    if let Some(members) = item.as_object_mut() {
        members.retain(|name, _| !READ_ONLY.contains(&name.as_str()));
        members.retain(|_, value| !value.is_null());
    }
    item
}

async fn records(store: &Store, kind: Kind) -> Result<Vec<Value>, String> {
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page =
            store.list(kind, after.as_deref(), AT_ONCE).await.map_err(|error| error.to_string())?;
        let end = page.len() < AT_ONCE as usize;
        after = page.last().map(|record| record.id.clone());
        for record in page {
            let unreadable = |error| format!("{} {}: {error}", kind.as_str(), record.id);
            let mut body: Value = serde_json::from_str(&record.body).map_err(unreadable)?;
            if let Some(members) = body.as_object_mut() {
                members.retain(|_, value| !value.is_null());
                in_words(members);
            }
            all.push(body);
        }
        if end {
            return Ok(all);
        }
    }
}

fn in_words(members: &mut Map<String, Value>) {
    for name in MOMENTS {
        let moment = members.get(name).and_then(Value::as_i64);
        if let Some(moment) = moment.and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
            members.insert(name.to_owned(), json!(moment.to_string()));
        }
    }
}

/// Texts that mean themselves where variables are expanded.
fn escaped(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace('$', "$$")),
        Value::Array(items) => Value::Array(items.into_iter().map(escaped).collect()),
        Value::Object(members) => {
            let member = |(name, value): (String, Value)| (name.replace('$', "$$"), escaped(value));
            Value::Object(members.into_iter().map(member).collect())
        }
        other => other,
    }
}
