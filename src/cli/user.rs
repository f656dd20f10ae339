//! `forebay user`: users of the store, through the running server or directly.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::client::{Client, Where};
use super::record::{Form, Grants, Noun, finish, print_one};

const USERS: Noun = Noun {
    path: "/users",
    word: "user",
    columns: &["id", "name", "role", "enabled", "expires_at", "allowed_models"],
};

/// What a new user has not.
const CLEARED: [&str; 12] = [
    "allowed_models",
    "allowed_providers",
    "expires_at",
    "max_ips",
    "on_max_ips",
    "rate_limit",
    "limits",
    "priority",
    "weight",
    "quotas",
    "tags",
    "note",
];

#[derive(clap::Args)]
#[group(skip)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make a user
    Create(Create),
    /// List users
    List(List),
    /// Show a user, by its id or name
    Show(One),
    /// Change a user
    Update(Update),
    /// Disable a user, and with it its keys
    Disable(Disable),
    /// Enable a user again
    Enable(One),
    /// Show a user's own quotas, or change them
    Quota(Quota),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    Normal,
    /// No limit and no quota holds
    Special,
    Temporary,
    /// May use the admin API
    Admin,
}

#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
struct Terms {
    #[arg(long, value_enum)]
    role: Option<Role>,
    /// Addresses it may call from; 0 is any number
    #[arg(long, value_name = "N")]
    max_ips: Option<u32>,
    /// Any text
    #[arg(long)]
    note: Option<String>,
    #[command(flatten)]
    grants: Grants,
}

#[derive(clap::Args)]
#[group(skip)]
struct Create {
    /// Unlike any other's
    name: String,
    /// Its id [default: made up]
    #[arg(long)]
    id: Option<String>,
    #[command(flatten)]
    terms: Terms,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    place: Where,
}

#[derive(clap::Args)]
#[group(skip)]
struct List {
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    place: Where,
}

#[derive(clap::Args)]
#[group(skip)]
struct One {
    /// Its id or name
    user: String,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    place: Where,
}

#[derive(clap::Args)]
#[group(skip)]
struct Update {
    /// Its id or name
    user: String,
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    terms: Terms,
    /// What is to be as in a new user; may be given more than once
    #[arg(long, value_name = "MEMBER", value_parser = CLEARED)]
    clear: Vec<String>,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    place: Where,
}

#[derive(clap::Args)]
#[group(skip)]
struct Disable {
    /// Its id or name
    user: String,
    /// Callers are told it
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    place: Where,
}

#[derive(clap::Args)]
#[group(skip)]
struct Quota {
    /// Its id or name
    user: String,
    /// Tokens of a group of models: GROUP=TOKENS, 0 for any number; may be given more than once
    #[arg(long, value_name = "GROUP=TOKENS", value_parser = quota)]
    set: Vec<(String, u64)>,
    /// A group in which it is to have what everybody has; may be given more than once
    #[arg(long, value_name = "GROUP")]
    unset: Vec<String>,
    /// Give its quotas anew: what was used counts no more
    #[arg(long)]
    refresh: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    place: Where,
}

pub fn user(arguments: &Arguments) -> ExitCode {
    let place = match &arguments.action {
        Action::Create(it) => &it.place,
        Action::List(it) => &it.place,
        Action::Show(it) | Action::Enable(it) => &it.place,
        Action::Update(it) => &it.place,
        Action::Disable(it) => &it.place,
        Action::Quota(it) => &it.place,
    };
    match Client::open(place) {
        Ok(client) => finish(act(&client, &arguments.action)),
        Err(code) => code,
    }
}

fn act(client: &Client, action: &Action) -> Result<(), String> {
    match action {
        Action::Create(it) => {
            let mut body = it.terms.members();
            body.insert("name".to_owned(), json!(it.name));
            if let Some(id) = &it.id {
                body.insert("id".to_owned(), json!(id));
            }
            print_one(&client.get("POST", USERS.path, Some(&Value::Object(body)))?, it.form);
        }
        Action::List(it) => USERS.print_list(&client.list(USERS.path)?, it.form),
        Action::Show(it) => {
            let path = USERS.find(client, &it.user)?;
            print_one(&client.get("GET", &path, None)?, it.form);
        }
        Action::Update(it) => {
            let path = USERS.find(client, &it.user)?;
            let mut body = it.terms.members();
            if let Some(name) = &it.name {
                body.insert("name".to_owned(), json!(name));
            }
            for name in &it.clear {
                body.insert(name.clone(), Value::Null);
            }
            print_one(&client.get("PATCH", &path, Some(&Value::Object(body)))?, it.form);
        }
        Action::Disable(it) => {
            let path = USERS.find(client, &it.user)?;
            let body = it.reason.as_ref().map(|reason| json!({ "reason": reason }));
            print_one(&client.get("POST", &format!("{path}/disable"), body.as_ref())?, it.form);
        }
        Action::Enable(it) => {
            let path = USERS.find(client, &it.user)?;
            print_one(&client.get("POST", &format!("{path}/enable"), None)?, it.form);
        }
        Action::Quota(it) => quotas(client, it)?,
    }
    Ok(())
}

fn quotas(client: &Client, it: &Quota) -> Result<(), String> {
    let path = USERS.find(client, &it.user)?;
    let set = it.set.iter().map(|(group, tokens)| (group.clone(), json!(tokens)));
    let unset = it.unset.iter().map(|group| (group.clone(), Value::Null));
    let changes: Map<String, Value> = set.chain(unset).collect();
    if it.refresh {
        client.get("POST", &format!("{path}/quota/refresh"), None)?;
    }
    let user = if changes.is_empty() {
        client.get("GET", &path, None)?
    } else {
        client.get("PATCH", &path, Some(&json!({ "quotas": changes })))?
    };
    print_one(user.get("quotas").unwrap_or(&Value::Null), it.form);
    Ok(())
}

fn quota(text: &str) -> Result<(String, u64), String> {
    let wrong = || "as in large=1000000".to_owned();
    let (group, tokens) =
        text.split_once('=').filter(|(group, _)| !group.is_empty()).ok_or_else(wrong)?;
    Ok((group.to_owned(), tokens.replace('_', "").parse().map_err(|_| wrong())?))
}

// === impl Terms ===

impl Terms {
    fn members(&self) -> Map<String, Value> {
        let mut members = self.grants.members();
        if let Some(role) = self.role.and_then(|role| role.to_possible_value()) {
            members.insert("role".to_owned(), json!(role.get_name()));
        }
        if let Some(max_ips) = self.max_ips {
            members.insert("max_ips".to_owned(), json!(max_ips));
        }
        if let Some(note) = &self.note {
            members.insert("note".to_owned(), json!(note));
        }
        members
    }
}
