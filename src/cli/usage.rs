//! `forebay usage`: requests, tokens and money, as a table, CSV or JSON.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::client::{Client, Where, escaped};
use super::record::{Form, finish, pretty, print, table};
use crate::admin::csv_cell;
use crate::config::{format_usd, parse_usd};

/// What is counted, and what it is called in a table.
const COUNTS: [(&str, &str); 5] = [
    ("requests", "REQUESTS"),
    ("prompt_tokens", "PROMPT"),
    ("completion_tokens", "COMPLETION"),
    ("cached_tokens", "CACHED"),
    ("reasoning_tokens", "REASONING"),
];
const COST: &str = "cost_usd";
/// Rows that are asked for at once.
const AT_ONCE: u32 = 10_000;

#[derive(clap::Args)]
#[group(skip)]
pub struct Arguments {
    /// What rows are told apart by: any of hour, day, month, key, user, model, provider
    #[arg(long, value_name = "LIST", default_value = "key,model")]
    by: String,
    /// From the hour this date or moment is in [default: thirty days ago]
    #[arg(long, value_name = "WHEN")]
    from: Option<String>,
    /// Before the hour this date or moment is in [default: now]
    #[arg(long, value_name = "WHEN")]
    to: Option<String>,
    /// Only of this key, by id
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Only of this user, by id
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Only of this model
    #[arg(long)]
    model: Option<String>,
    /// Only at this provider
    #[arg(long)]
    provider: Option<String>,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    place: Where,
}

pub fn usage(arguments: &Arguments) -> ExitCode {
    match Client::open(&arguments.place) {
        Ok(client) => finish(arguments.gather(&client).map(|told| {
            if arguments.form.json {
                print(&pretty(&told.whole()));
            } else if arguments.csv {
                print(&told.csv());
            } else {
                print(&told.table());
            }
        })),
        Err(code) => code,
    }
}

/// What was answered, all pages of it.
struct Told {
    from: Value,
    to: Value,
    groups: Vec<String>,
    rows: Vec<Value>,
}

// === impl Arguments ===

impl Arguments {
    fn gather(&self, client: &Client) -> Result<Told, String> {
        let mut path = format!("/usage?limit={AT_ONCE}&group_by={}", escaped(&self.by));
        for (name, value) in [
            ("from", &self.from),
            ("to", &self.to),
            ("key", &self.key),
            ("user", &self.user),
            ("model", &self.model),
            ("provider", &self.provider),
        ] {
            if let Some(value) = value {
                // Writing to a text cannot fail.
                _ = write!(path, "&{name}={}", escaped(value));
            }
        }
        let mut page = client.get("GET", &path, None)?;
        let (from, to) = (member(&page, "from").clone(), member(&page, "to").clone());
        let groups = self.by.split(',').map(|word| word.trim().to_owned());
        let mut told = Told { from, to, groups: Vec::new(), rows: Vec::new() };
        for group in groups.filter(|word| !word.is_empty()) {
            if !told.groups.contains(&group) {
                told.groups.push(group);
            }
        }
        loop {
            told.rows.extend(member(&page, "data").as_array().into_iter().flatten().cloned());
            let Some(offset) = member(&page, "next_offset").as_u64() else { return Ok(told) };
            page = client.get("GET", &format!("{path}&offset={offset}"), None)?;
        }
    }
}

// === impl Told ===

impl Told {
    fn whole(&self) -> Value {
        let Self { from, to, rows, .. } = self;
        json!({ "from": from, "to": to, "data": rows, "total": self.total() })
    }

    /// The sum of all rows.
    fn total(&self) -> Value {
        let mut total = Map::new();
        for (name, _) in COUNTS {
            let counts = self.rows.iter().filter_map(|row| member(row, name).as_u64());
            total.insert(name.to_owned(), json!(counts.fold(0, u64::saturating_add)));
        }
        let costs = self.rows.iter().filter_map(|row| parse_usd(member(row, COST).as_str()?));
        let cost = format_usd(costs.fold(0, u64::saturating_add));
        total.insert(COST.to_owned(), json!(cost));
        Value::Object(total)
    }

    fn table(&self) -> String {
        let upper = self.groups.iter().map(|group| group.to_uppercase());
        let counted = COUNTS.iter().map(|(_, word)| (*word).to_owned());
        let head: Vec<String> = upper.chain(counted).chain(["USD".to_owned()]).collect();
        let mut rows = vec![head];
        rows.extend(self.rows.iter().map(|row| self.line(row)));
        if !self.groups.is_empty() {
            let mut total = self.line(&self.total());
            if let Some(first) = total.first_mut() {
                "TOTAL".clone_into(first);
            }
            rows.push(total);
        }
        table(&rows)
    }

    fn csv(&self) -> String {
        let counted = COUNTS.iter().map(|(name, _)| (*name).to_owned());
        let head = self.groups.iter().cloned().chain(counted).chain([COST.to_owned()]);
        let mut lines = vec![head.collect::<Vec<_>>()];
        for row in &self.rows {
            let groups = self.groups.iter().map(|name| csv_cell(&text(member(row, name))));
            let counts = COUNTS.iter().map(|(name, _)| text(member(row, name)));
            lines.push(groups.chain(counts).chain([text(member(row, COST))]).collect());
        }
        let lines = lines.iter().map(|cells| cells.join(","));
        lines.flat_map(|line| [line, "\r\n".to_owned()]).collect()
    }

    /// A row of the table; a group that has no name is a dash.
    fn line(&self, row: &Value) -> Vec<String> {
        let named = |name: &str| match text(member(row, name)) {
            none if none.is_empty() => "-".to_owned(),
            name => name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        };
        let groups = self.groups.iter().map(|name| named(name));
        let counts = COUNTS.iter().map(|(name, _)| named(name));
        groups.chain(counts).chain([named(COST)]).collect()
    }
}

fn member<'v>(value: &'v Value, name: &str) -> &'v Value {
    value.get(name).unwrap_or(&Value::Null)
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Told {
        let row = |key: &str, prompt: u64, cost: &str| {
            json!({
                "key": key, "requests": 1, "prompt_tokens": prompt, "completion_tokens": 2,
                "cached_tokens": 0, "reasoning_tokens": 0, "cost_usd": cost,
            })
        };
        Told {
            from: json!("a"),
            to: json!("b"),
            groups: vec!["key".to_owned()],
            rows: vec![row("=x", 3, "0.1"), row("", 4, "0.000000001")],
        }
    }

    #[test]
    fn the_last_line_is_the_sum_of_the_others() {
        let table = told().table();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<_> = table.lines().map(words).collect();
        assert_eq!(lines[0].join(" "), "KEY REQUESTS PROMPT COMPLETION CACHED REASONING USD");
        assert_eq!(lines[2].join(" "), "- 1 4 2 0 0 0.000000001");
        assert_eq!(lines[3].join(" "), "TOTAL 2 7 4 0 0 0.100000001");
    }

    #[test]
    fn a_table_for_a_spreadsheet_has_no_formulas() {
        let csv = told().csv();
        let lines: Vec<&str> = csv.split("\r\n").collect();
        assert_eq!(lines[1], "'=x,1,3,2,0,0,0.1");
        assert_eq!(lines[2], ",1,4,2,0,0,0.000000001");
    }
}
