//! `forebay key`: keys of the store, through the running server or directly.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Client, Where};
use super::complain;
use super::record::{Form, Grants, Noun, finish, print, print_one};

const KEYS: Noun = Noun {
    path: "/keys",
    word: "key",
    columns: &["id", "name", "hint", "user", "enabled", "expires_at", "allowed_models"],
};

/// What a new key has not.
const CLEARED: [&str; 10] = [
    "user",
    "allowed_models",
    "allowed_providers",
    "expires_at",
    "rate_limit",
    "limits",
    "priority",
    "weight",
    "tags",
    "privacy",
];

#[derive(clap::Args)]
#[group(skip)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make a key; this is the only time it is shown
    Create(Create),
    /// List keys
    List(List),
    /// Show a key, by its id or name
    Show(One),
    /// Change a key
    Update(Update),
    /// Disable a key for good
    Revoke(Revoke),
    /// Give a key another secret; the old one ends at once
    Rotate(Rotate),
}

#[derive(clap::Args)]
#[group(skip)]
struct Create {
    /// What the caller is called in logs and metrics
    name: String,
    /// Its id [default: made up]
    #[arg(long)]
    id: Option<String>,
    /// The id of the user it belongs to
    #[arg(long)]
    user: Option<String>,
    #[command(flatten)]
    grants: Grants,
    /// Print the key, and nothing else
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    place: Where,
}

#[derive(clap::Args)]
#[group(skip)]
struct List {
    /// Only those of this user, by id
    #[arg(long)]
    user: Option<String>,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    place: Where,
}

#[derive(clap::Args)]
#[group(skip)]
struct One {
    /// Its id, or its name when no other has it
    key: String,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    place: Where,
}

#[derive(clap::Args)]
#[group(skip)]
struct Update {
    /// Its id, or its name when no other has it
    key: String,
    #[arg(long)]
    name: Option<String>,
    #[arg(long)]
    user: Option<String>,
    /// true or false
    #[arg(long)]
    enabled: Option<bool>,
    #[command(flatten)]
    grants: Grants,
    /// What is to be as in a new key; may be given more than once
    #[arg(long, value_name = "MEMBER", value_parser = CLEARED)]
    clear: Vec<String>,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    place: Where,
}

#[derive(clap::Args)]
#[group(skip)]
struct Revoke {
    /// Its id, or its name when no other has it
    key: String,
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
struct Rotate {
    /// Its id, or its name when no other has it
    key: String,
    /// Print the key, and nothing else
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    place: Where,
}

pub fn key(arguments: &Arguments) -> ExitCode {
    let place = match &arguments.action {
        Action::Create(it) => &it.place,
        Action::List(it) => &it.place,
        Action::Show(it) => &it.place,
        Action::Update(it) => &it.place,
        Action::Revoke(it) => &it.place,
        Action::Rotate(it) => &it.place,
    };
    match Client::open(place) {
        Ok(client) => finish(act(&client, &arguments.action)),
        Err(code) => code,
    }
}

fn act(client: &Client, action: &Action) -> Result<(), String> {
    match action {
        Action::Create(it) => {
            let made = client.get("POST", KEYS.path, Some(&it.body()))?;
            print_secret(&made, it.quiet, it.form);
        }
        Action::List(it) => {
            let mut all = client.list(KEYS.path)?;
            if let Some(user) = &it.user {
                all.retain(|key| key.get("user").and_then(Value::as_str) == Some(user));
            }
            KEYS.print_list(&all, it.form);
        }
        Action::Show(it) => {
            let path = KEYS.find(client, &it.key)?;
            print_one(&client.get("GET", &path, None)?, it.form);
        }
        Action::Update(it) => {
            let path = KEYS.find(client, &it.key)?;
            print_one(&client.get("PATCH", &path, Some(&it.body()))?, it.form);
        }
        Action::Revoke(it) => {
            let path = KEYS.find(client, &it.key)?;
            let body = it.reason.as_ref().map(|reason| json!({ "reason": reason }));
            print_one(&client.get("POST", &format!("{path}/revoke"), body.as_ref())?, it.form);
        }
        Action::Rotate(it) => {
            let path = KEYS.find(client, &it.key)?;
            let made = client.get("POST", &format!("{path}/rotate"), None)?;
            print_secret(&made, it.quiet, it.form);
        }
    }
    Ok(())
}

/// Prints a key that was just made, this once.
fn print_secret(made: &Value, quiet: bool, form: Form) {
    let warning = made.get("warning").and_then(Value::as_str);
    if let Some(warning) = warning {
        complain(warning);
    }
    if quiet {
        let secret = made.get("key").and_then(Value::as_str).unwrap_or_default();
        return print(&format!("{secret}\n"));
    }
    print_one(made, form);
    if !form.json {
        complain("the key is shown this once: keep it");
    }
}

// === impl Create ===

impl Create {
    fn body(&self) -> Value {
        let mut body = self.grants.members();
        body.insert("name".to_owned(), json!(self.name));
        for (name, value) in [("id", &self.id), ("user", &self.user)] {
            if let Some(value) = value {
                body.insert(name.to_owned(), json!(value));
            }
        }
        Value::Object(body)
    }
}

// === impl Update ===

impl Update {
    fn body(&self) -> Value {
        let mut body = self.grants.members();
        for (name, value) in [("name", &self.name), ("user", &self.user)] {
            if let Some(value) = value {
                body.insert(name.to_owned(), json!(value));
            }
        }
        if let Some(enabled) = self.enabled {
            body.insert("enabled".to_owned(), json!(enabled));
        }
        for name in &self.clear {
            body.insert(name.clone(), Value::Null);
        }
        Value::Object(body)
    }
}
