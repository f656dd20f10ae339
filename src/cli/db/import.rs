//! `forebay db import`: users, keys, providers and models of a file into the store. All of it is tried
//! on a copy first, so that a mistake leaves the store as it was.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::super::client::{Client, Where, escaped};
use super::super::complain;
use super::super::record::print;
use super::export::bare;
use super::forms;
use crate::access::{KeyRecord, Registry, UserRecord};
use crate::config::{Content, Node, Problems, Source, expanded};
use crate::store::{Expected, Kind, Note, Record, Store, StoreError};

/// Who made a change, in the audit.
const BY: &str = "db import";
const SECTIONS: [&str; 4] = ["users", "keys", "providers", "models"];

#[derive(clap::Args)]
#[group(skip)]
pub struct Arguments {
    /// What `forebay db export` wrote, or a `forebay.yaml`
    file: PathBuf,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Where,
}

/// What is to be brought in: each with where it stands.
struct Plan {
    items: Vec<(&'static str, String, Value)>,
}

/// What became of each.
#[derive(Default)]
struct Report {
    lines: Vec<String>,
    counts: [usize; 3],
    mistakes: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Created,
    Updated,
    Unchanged,
}

/// Exit codes: 0 when all of it is in the store, or would be; 1 when something is wrong, and then
/// nothing was changed; 2 when the file cannot be read.
pub fn import(arguments: &Arguments) -> ExitCode {
    let plan = match Plan::read(&arguments.file) {
        Ok(plan) => plan,
        Err(why) => {
            complain(why);
            return ExitCode::from(2);
        }
    };
    let tried = Client::scratch(&arguments.place).map(|client| plan.run(&client));
    let report = match tried {
        Ok(report) if !report.mistakes.is_empty() || arguments.dry_run => report,
        Ok(_fine) => match Client::store(&arguments.place) {
            Ok(client) => plan.run(&client),
            Err(code) => return code,
        },
        Err(code) => return code,
    };
    report.print(&arguments.file, arguments.dry_run)
}

// === impl Plan ===

impl Plan {
    fn read(path: &Path) -> Result<Self, String> {
        let source =
            Source::read(path).map_err(|error| Problems::unreadable(path, &error).to_string())?;
        let tree = expanded(&source)
            .map_err(|mistakes| Problems::new(Some(path), mistakes).to_string())?;
        let Content::Map(entries) = &tree.content else {
            return Err(format!("{}: must be a map of sections", path.display()));
        };
        let mut items = Vec::new();
        for section in SECTIONS {
            let Some(entry) = entries.iter().find(|entry| entry.name.text == section) else {
                continue;
            };
            let Content::List(nodes) = &entry.value.content else { continue };
            for node in nodes {
                let place = format!("{}:{}", path.display(), node.location.line);
                items.push((section, place, value(node)));
            }
        }
        let others = entries.iter().filter(|entry| !SECTIONS.contains(&entry.name.text.as_str()));
        for other in others {
            complain(format_args!(
                "{}:{}: `{}` is not kept in the store",
                path.display(),
                other.location.line,
                other.name.text
            ));
        }
        if items.is_empty() {
            return Err(format!(
                "{}: none of `users`, `keys`, `providers` and `models`",
                path.display()
            ));
        }
        Ok(Self { items })
    }

    fn run(&self, client: &Client) -> Report {
        let mut report = Report::default();
        // A model may fall back on one further down: what fails is tried again after the others.
        let mut open: Vec<&(&'static str, String, Value)> = self.items.iter().collect();
        loop {
            let before = open.len();
            let mut failed = Vec::new();
            let mut mistakes = Vec::new();
            for item in open {
                let (section, place, value) = item;
                match bring(client, section, value.clone()) {
                    Ok((outcome, name)) => report.note(outcome, section, &name),
                    Err(why) => {
                        failed.push(item);
                        mistakes.push(format!("{place}: {}: {why}", word(section)));
                    }
                }
            }
            if failed.is_empty() || failed.len() == before {
                report.mistakes = mistakes;
                return report;
            }
            open = failed;
        }
    }
}

fn word(section: &str) -> &str {
    section.strip_suffix('s').unwrap_or(section)
}

fn bring(client: &Client, section: &str, item: Value) -> Result<(Outcome, String), String> {
    let store = client.opened().ok_or("the store is not open")?;
    let now = Timestamp::now().as_millisecond();
    match section {
        "users" => client.block_on(async {
            let id = text(&item, "id").or_else(|| text(&item, "name"));
            let known = find::<UserRecord>(
                store,
                Kind::Users,
                |user| {
                    Some(&user.id) == id.as_ref()
                        || Some(&user.name) == text(&item, "name").as_ref()
                },
                id.as_deref(),
            )
            .await?;
            let user = forms::user(item, known.as_ref().map(|(_, user)| user), now)?;
            let (id, name) = (user.id.clone(), user.name.clone());
            let outcome = put(store, Kind::Users, &id, &name, &user, known, shown_user).await?;
            Ok((outcome, name))
        }),
        "keys" => client.block_on(async {
            let (id, digest) = (text(&item, "id"), forms::digest_of(&item));
            let known = find::<KeyRecord>(
                store,
                Kind::Keys,
                |key| Some(&key.id) == id.as_ref() || Some(&key.digest) == digest.as_ref(),
                id.as_deref(),
            )
            .await?;
            let key = forms::key(item, known.as_ref().map(|(_, key)| key), now)?;
            if let Some(user) = &key.user
                && store.get(Kind::Users, user).await.map_err(|error| error.to_string())?.is_none()
            {
                return Err(format!("there is no user `{user}`"));
            }
            let (id, digest, name) = (key.id.clone(), key.digest.clone(), key.name.clone());
            let outcome =
                put(store, Kind::Keys, &id, &digest, &key, known, KeyRecord::shown).await?;
            // A server lets nobody in without a key from now on.
            Registry::remember_keys(store).await.map_err(|error| error.to_string())?;
            Ok((outcome, name))
        }),
        section => item_of(client, section, item),
    }
}

fn shown_user(user: &UserRecord) -> String {
    let shown = UserRecord { addresses: Vec::new(), ..user.clone() };
    serde_json::to_string(&shown).unwrap_or_default()
}

fn text(item: &Value, name: &str) -> Option<String> {
    item.get(name).and_then(Value::as_str).map(str::to_owned)
}

type Known<T> = Option<(i64, T)>;

/// The record by its id, or else the one that `is` it.
async fn find<T: DeserializeOwned>(
    store: &Store,
    kind: Kind,
    is: impl Fn(&T) -> bool,
    id: Option<&str>,
) -> Result<Known<T>, String> {
    let read = |record: &Record| {
        serde_json::from_str::<T>(&record.body).ok().map(|body| (record.version, body))
    };
    let said = |error: StoreError| error.to_string();
    if let Some(id) = id
        && let Some(record) = store.get(kind, id).await.map_err(said)?
    {
        return read(&record).map(Some).ok_or_else(|| format!("the record {id} cannot be read"));
    }
    let mut after: Option<String> = None;
    loop {
        let page = store.list(kind, after.as_deref(), 1000).await.map_err(said)?;
        if let Some(found) = page.iter().filter_map(read).find(|(_, body)| is(body)) {
            return Ok(Some(found));
        }
        if page.len() < 1000 {
            return Ok(None);
        }
        after = page.last().map(|record| record.id.clone());
    }
}

async fn put<T: Serialize + PartialEq>(
    store: &Store,
    kind: Kind,
    id: &str,
    handle: &str,
    new: &T,
    known: Known<T>,
    shown: impl Fn(&T) -> String,
) -> Result<Outcome, String> {
    let expected = match &known {
        Some((_, before)) if before == new => return Ok(Outcome::Unchanged),
        Some((version, _)) => Expected::Version(*version),
        None => Expected::Absent,
    };
    let body = serde_json::to_string(new).map_err(|error| error.to_string())?;
    let (before, after) = (known.as_ref().map(|(_, before)| shown(before)), shown(new));
    let note = Note { by: BY, before: before.as_deref(), after: Some(&after) };
    match store.put(kind, id, Some(handle), &body, expected, note).await {
        Ok(_) if known.is_some() => Ok(Outcome::Updated),
        Ok(_) => Ok(Outcome::Created),
        Err(StoreError::Taken) => Err("another one has the same key or name".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Providers and models go through the admin API, which checks them with the whole configuration.
fn item_of(client: &Client, section: &str, item: Value) -> Result<(Outcome, String), String> {
    let mut item = bare(item);
    let id = ["id", "name", "provider_key"].iter().find_map(|name| text(&item, name));
    let id = id.unwrap_or_else(|| {
        // A model with a `match` is known by that.
        let what = item.get("match").map(Value::to_string).unwrap_or_default();
        format!("match_{}", hex::encode(Sha256::digest(what)).get(..12).unwrap_or_default())
    });
    if let Some(members) = item.as_object_mut() {
        members.entry("id").or_insert_with(|| json!(id));
    }
    let path = format!("/{section}/{}", escaped(&id));
    let known = client.ask("GET", &path, None)?;
    let known = if known.status == 404 { None } else { Some(bare(known.good()?)) };
    let Some(before) = known else {
        let left_out = take_masked(&mut item);
        client.get("POST", &format!("/{section}"), Some(&item))?;
        if left_out {
            complain(format_args!(
                "{} {id}: its secrets are not in the file: give them again",
                word(section)
            ));
        }
        return Ok((Outcome::Created, id));
    };
    if before == item {
        return Ok((Outcome::Unchanged, id));
    }
    client.get("PUT", &path, Some(&item))?;
    Ok((Outcome::Updated, id))
}

/// Takes out secrets of which only the end is there; whether there were any.
fn take_masked(item: &mut Value) -> bool {
    let masked = |value: &Value| value.as_str().is_some_and(|text| text.starts_with('…'));
    let Some(members) = item.as_object_mut() else { return false };
    let before = members.len();
    let mut found = false;
    members.retain(|_, value| !masked(value));
    for value in members.values_mut() {
        match value {
            Value::Array(items) if items.iter().any(masked) => {
                items.retain(|item| !masked(item));
                found = true;
            }
            Value::Object(inner) if inner.values().any(masked) => {
                inner.retain(|_, value| !masked(value));
                found = true;
            }
            _ => {}
        }
    }
    found || members.len() < before
}

/// A part of the file as JSON.
fn value(node: &Node) -> Value {
    match &node.content {
        Content::Unknown => Value::Null,
        Content::Scalar(scalar) if scalar.is_null() => Value::Null,
        Content::Scalar(scalar) if scalar.plain => match scalar.text.as_str() {
            "true" => json!(true),
            "false" => json!(false),
            text => match serde_json::from_str::<Value>(text) {
                Ok(Value::Number(number)) => Value::Number(number),
                _ => json!(text),
            },
        },
        Content::Scalar(scalar) => json!(scalar.text),
        Content::List(nodes) => Value::Array(nodes.iter().map(value).collect()),
        Content::Map(entries) => {
            let member =
                |entry: &crate::config::Entry| (entry.name.text.clone(), value(&entry.value));
            Value::Object(entries.iter().map(member).collect())
        }
    }
}

// === impl Report ===

impl Report {
    fn note(&mut self, outcome: Outcome, section: &str, name: &str) {
        let (index, said) = match outcome {
            Outcome::Created => (0, "created"),
            Outcome::Updated => (1, "updated"),
            Outcome::Unchanged => (2, "unchanged"),
        };
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
        self.lines.push(format!("{said} {} {name}\n", word(section)));
    }

    fn print(&self, file: &Path, dry_run: bool) -> ExitCode {
        if !self.mistakes.is_empty() {
            self.mistakes.iter().for_each(complain);
            complain(format_args!("{}: nothing was changed", file.display()));
            return ExitCode::FAILURE;
        }
        let [created, updated, unchanged] = self.counts;
        let would = if dry_run { " (nothing was changed)" } else { "" };
        print(&self.lines.concat());
        print(&format!("{created} created, {updated} updated, {unchanged} unchanged{would}\n"));
        ExitCode::SUCCESS
    }
}
