//! What `forebay key` and `forebay user` share: limits as arguments, records by id or name, and how
//! they are shown.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::client::{Client, escaped};
use super::complain;
use crate::config::Priority;

/// What a key or user may do, as arguments.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Grants {
    /// A name or glob of models it may use; may be given more than once [default: all]
    #[arg(long = "model", value_name = "GLOB")]
    models: Vec<String>,
    /// A name or glob of providers it may use; may be given more than once [default: all]
    #[arg(long = "provider", value_name = "GLOB")]
    providers: Vec<String>,
    /// When it ends: a date, or a moment such as 2030-01-31T18:00:00Z
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// Requests per second, and how many at once: 10 or 10/20; 0/0 blocks
    #[arg(long, value_name = "N[/BURST]", value_parser = rate)]
    rate: Option<Rate>,
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<u64>,
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<u64>,
    /// Requests at once
    #[arg(long, value_name = "N")]
    max_concurrent: Option<u32>,
    /// Tokens that one request may ask for
    #[arg(long, value_name = "N")]
    max_output_tokens: Option<u64>,
    /// Tokens of one request's prompt
    #[arg(long, value_name = "N")]
    max_prompt_tokens: Option<u64>,
    /// Images in one request
    #[arg(long, value_name = "N")]
    max_images: Option<u32>,
    /// US dollars per hour, day, week, month, or in all: 25.50/month, 100/total; 0 is unlimited
    #[arg(long, value_name = "USD/PERIOD", value_parser = budget)]
    budget: Option<Budget>,
    /// Who goes first when replicas are busy: low, normal, high, or a number from -100 to 100
    #[arg(long, value_name = "PRIORITY", allow_hyphen_values = true)]
    priority: Option<Priority>,
    /// Its part of what those of its priority are served, 1 to 1000
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
    /// A word to find it by; may be given more than once
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
}

#[derive(Debug, Clone)]
struct Rate {
    per_second: u32,
    burst: Option<u32>,
}

#[derive(Debug, Clone)]
struct Budget {
    usd: String,
    per: String,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
#[group(skip)]
pub struct Form {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Something that is in the store: `keys` or `users`.
#[derive(Debug, Clone, Copy)]
pub struct Noun {
    pub path: &'static str,
    pub word: &'static str,
    /// What a list shows of one.
    pub columns: &'static [&'static str],
}

// === impl Grants ===

impl Grants {
    /// What was said, as members of a record.
    pub fn members(&self) -> Map<String, Value> {
        let mut members = Map::new();
        for (name, texts) in [
            ("allowed_models", &self.models),
            ("allowed_providers", &self.providers),
            ("tags", &self.tags),
        ] {
            if !texts.is_empty() {
                members.insert(name.to_owned(), json!(texts));
            }
        }
        if let Some(expires) = &self.expires {
            members.insert("expires_at".to_owned(), json!(expires));
        }
        if let Some(Rate { per_second, burst }) = &self.rate {
            // Without a burst it is what one second allows.
            let burst = burst.unwrap_or(*per_second);
            let rate = json!({ "requests_per_second": per_second, "burst_size": burst });
            members.insert("rate_limit".to_owned(), rate);
        }
        let mut limits = Map::new();
        for (name, value) in [
            ("requests_per_minute", self.requests_per_minute),
            ("tokens_per_minute", self.tokens_per_minute),
            ("max_concurrent", self.max_concurrent.map(u64::from)),
            ("max_output_tokens", self.max_output_tokens),
            ("max_prompt_tokens", self.max_prompt_tokens),
            ("max_images", self.max_images.map(u64::from)),
        ] {
            if let Some(value) = value {
                limits.insert(name.to_owned(), json!(value));
            }
        }
        if let Some(Budget { usd, per }) = &self.budget {
            limits.insert("budget".to_owned(), json!({ "usd": usd, "per": per }));
        }
        if let Some(priority) = self.priority {
            members.insert("priority".to_owned(), json!(priority));
        }
        if let Some(weight) = self.weight {
            members.insert("weight".to_owned(), json!(weight));
        }
        if !limits.is_empty() {
            members.insert("limits".to_owned(), Value::Object(limits));
        }
        members
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    let (per_second, burst) = match text.split_once('/') {
        Some((rate, burst)) => (rate, Some(burst)),
        None => (text, None),
    };
    let number = |text: &str| text.parse::<u32>().map_err(|_| "as in 10 or 10/20".to_owned());
    Ok(Rate { per_second: number(per_second)?, burst: burst.map(number).transpose()? })
}

fn budget(text: &str) -> Result<Budget, String> {
    let (usd, per) = text.split_once('/').unwrap_or((text, "month"));
    let number = !usd.is_empty() && usd.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !number || per.is_empty() {
        return Err("as in 25.50/month".to_owned());
    }
    Ok(Budget { usd: usd.to_owned(), per: per.to_owned() })
}

// === impl Noun ===

impl Noun {
    /// The path of the one with this id, or else with this name.
    pub fn find(self, client: &Client, given: &str) -> Result<String, String> {
        let path = format!("{}/{}", self.path, escaped(given));
        if client.ask("GET", &path, None)?.status != 404 {
            return Ok(path);
        }
        let mut found = client.list(self.path)?;
        found.retain(|one| one.get("name").and_then(Value::as_str) == Some(given));
        let ids: Vec<&str> = found.iter().filter_map(|one| one.get("id")?.as_str()).collect();
        match ids.as_slice() {
            [] => Err(format!("there is no {} `{given}`", self.word)),
            [id] => Ok(format!("{}/{}", self.path, escaped(id))),
            ids => Err(format!("several are called `{given}`: {}", ids.join(", "))),
        }
    }

    /// Prints a list.
    pub fn print_list(self, all: &[Value], form: Form) {
        if form.json {
            return print(&pretty(&json!(all)));
        }
        let mut rows: Vec<Vec<String>> =
            vec![self.columns.iter().map(|name| name.to_uppercase()).collect()];
        for one in all {
            let cell = |name: &&str| short(one.get(*name).unwrap_or(&Value::Null));
            rows.push(self.columns.iter().map(cell).collect());
        }
        print(&table(&rows));
    }
}

/// Prints one record: members that say something, a line each.
pub fn print_one(one: &Value, form: Form) {
    if form.json {
        return print(&pretty(one));
    }
    let said = |value: &Value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => true,
    };
    let members = one.as_object().into_iter().flatten();
    let lines = members
        .filter(|(_, value)| said(value))
        .map(|(name, value)| format!("{name}: {}\n", short(value)));
    print(&lines.collect::<String>());
}

/// What came of a command, as an exit code.
pub fn finish(done: Result<(), String>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(why);
            ExitCode::FAILURE
        }
    }
}

/// Prints on standard output; one that is closed wants no more.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _closed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

pub fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Columns of equal width, with two spaces between.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            let room = (width + 2).saturating_sub(cell.chars().count());
            line.push_str(&" ".repeat(room));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn short(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let items: Vec<String> = items.iter().map(short).collect();
            items.join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_budgets_are_read_strictly() {
        assert_eq!(rate("10").map(|it| (it.per_second, it.burst)), Ok((10, None)));
        assert_eq!(rate("0/0").map(|it| (it.per_second, it.burst)), Ok((0, Some(0))));
        assert!(["", "x", "1/", "/1", "-1"].iter().all(|text| rate(text).is_err()));
        assert_eq!(
            budget("25.50/day").map(|it| (it.usd, it.per)),
            Ok(("25.50".to_owned(), "day".to_owned()))
        );
        assert_eq!(budget("5").map(|it| it.per), Ok("month".to_owned()));
        assert!(["", "/day", "x/day", "5/"].iter().all(|text| budget(text).is_err()));
    }

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [["a", "bb"], ["ccc", "d"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "a    bb\nccc  d\n");
    }
}
