//! YAML as a person would write it: block style, short things on one line, comments.

use std::fmt::Write;

use serde_json::Value as Json;

/// A value to be written.
#[derive(Debug, Clone)]
pub enum Yaml {
    /// Quoted where it has to be.
    Text(String),
    /// Written as it is: a number, a switch, a duration.
    Word(String),
    /// On one line.
    Json(Json),
    /// On one line.
    Row(Vec<Yaml>),
    List(Vec<Yaml>),
    Map(Map),
    /// A map on one line.
    Line(Map),
}

/// Keys and values in order, each with its comments before it.
#[derive(Debug, Clone, Default)]
pub struct Map {
    entries: Vec<(Vec<String>, String, Yaml)>,
    /// Comments behind the last one.
    end: Vec<String>,
}

// === impl Map ===

impl Map {
    pub fn put(&mut self, name: &str, value: Yaml) {
        let comments = std::mem::take(&mut self.end);
        self.entries.push((comments, name.to_owned(), value));
    }

    pub fn text(&mut self, name: &str, text: &str) {
        self.put(name, Yaml::Text(text.to_owned()));
    }

    pub fn word(&mut self, name: &str, word: impl std::fmt::Display) {
        self.put(name, Yaml::Word(word.to_string()));
    }

    /// Puts all of another behind it.
    pub fn append(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.end.extend(other.end);
    }

    /// A comment before what is put next.
    pub fn comment(&mut self, text: impl Into<String>) {
        self.end.push(text.into());
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The whole file, with an empty line between sections.
    pub fn document(&self) -> String {
        let mut out = String::new();
        for (index, (comments, name, value)) in self.entries.iter().enumerate() {
            if index > 0 {
                out.push('\n');
            }
            write_entry(&mut out, 0, comments, name, value);
        }
        write_comments(&mut out, 0, &self.end);
        out
    }
}

fn write_comments(out: &mut String, depth: usize, comments: &[String]) {
    for line in comments.iter().flat_map(|comment| comment.lines()) {
        let _ = writeln!(out, "{:depth$}# {line}", "");
    }
}

fn write_entry(out: &mut String, depth: usize, comments: &[String], name: &str, value: &Yaml) {
    write_comments(out, depth, comments);
    let _ = write!(out, "{:depth$}{}:", "", scalar(name));
    match value {
        Yaml::Map(map) if !map.is_empty() => {
            out.push('\n');
            write_map(out, depth + 2, map);
        }
        Yaml::List(items) if !items.is_empty() => {
            out.push('\n');
            for item in items {
                write_item(out, depth + 2, item);
            }
        }
        value => {
            let _ = writeln!(out, " {}", inline(value));
        }
    }
}

fn write_map(out: &mut String, depth: usize, map: &Map) {
    for (comments, name, value) in &map.entries {
        write_entry(out, depth, comments, name, value);
    }
    write_comments(out, depth, &map.end);
}

/// The first key of a map stands behind the dash, its comments before it.
fn write_item(out: &mut String, depth: usize, item: &Yaml) {
    let Yaml::Map(map) = item else {
        let _ = writeln!(out, "{:depth$}- {}", "", inline(item));
        return;
    };
    let mut body = String::new();
    let mut first = true;
    for (comments, name, value) in &map.entries {
        if first {
            write_comments(out, depth, comments);
            write_entry(&mut body, depth + 2, &[], name, value);
        } else {
            write_entry(&mut body, depth + 2, comments, name, value);
        }
        first = false;
    }
    write_comments(&mut body, depth + 2, &map.end);
    let _ = write!(out, "{:depth$}- {}", "", body.trim_start());
}

fn inline(value: &Yaml) -> String {
    match value {
        Yaml::Text(text) => scalar(text),
        Yaml::Word(word) => word.clone(),
        Yaml::Json(value) => json(value),
        Yaml::Row(items) | Yaml::List(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Yaml::Map(map) | Yaml::Line(map) if map.is_empty() => "{}".to_owned(),
        Yaml::Map(map) | Yaml::Line(map) => {
            let entry = |(_, name, value): &(Vec<String>, String, Yaml)| {
                format!("{}: {}", scalar(name), inline(value))
            };
            let entries: Vec<String> = map.entries.iter().map(entry).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

fn json(value: &Json) -> String {
    match value {
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(json).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(members) if members.is_empty() => "{}".to_owned(),
        Json::Object(members) => {
            let member =
                |(name, value): (&String, &Json)| format!("{}: {}", quoted(name), json(value));
            let members: Vec<String> = members.iter().map(member).collect();
            format!("{{ {} }}", members.join(", "))
        }
        Json::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// Words that some reader takes for something else.
const OTHER: [&str; 11] =
    ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "inf", "nan"];

fn scalar(text: &str) -> String {
    let first = text.chars().next().is_some_and(|first| first.is_ascii_alphabetic());
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./".contains(letter);
    let other = OTHER.contains(&text.to_ascii_lowercase().as_str());
    if first && text.chars().all(plain) && !other { text.to_owned() } else { quoted(text) }
}

/// JSON's quotes are YAML's double quotes, in which YAML escapes a few letters more.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for letter in Json::String(text.to_owned()).to_string().chars() {
        match letter {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_as_it_was_meant() {
        let texts = [
            "plain",
            "a b",
            "${A:-b}",
            "true",
            "5",
            "",
            "- x",
            "a: b",
            "# no",
            "\"",
            "é\n\t\u{7f}",
            "{",
            "off",
            "a#b",
        ];
        let mut map = Map::default();
        map.comment("first\nand second line");
        map.put("row", Yaml::Row(texts.map(|text| Yaml::Text(text.to_owned())).into()));
        map.put("list", Yaml::List(texts.map(|text| Yaml::Text(text.to_owned())).into()));
        let mut inner = Map::default();
        inner.comment("before the dash");
        inner.text("name", "x y");
        inner.word("weight", 5);
        inner.put("json", Yaml::Json(serde_json::json!({"a": [1, "2", null], "b": {}})));
        inner.put("line", Yaml::Line(inner.clone()));
        inner.comment("at the end");
        map.put("maps", Yaml::List(vec![Yaml::Map(inner.clone()), Yaml::Map(inner)]));
        let text = map.document();
        let read: Json = serde_yaml::from_str(&text).unwrap();
        let texts: Vec<Json> = texts.iter().map(|text| Json::from(*text)).collect();
        assert_eq!(read["row"], Json::Array(texts.clone()), "{text}");
        assert_eq!(read["list"], Json::Array(texts), "{text}");
        let item = serde_json::json!({
            "name": "x y", "weight": 5, "json": {"a": [1, "2", null], "b": {}},
            "line": {"name": "x y", "weight": 5, "json": {"a": [1, "2", null], "b": {}}}
        });
        assert_eq!(read["maps"], serde_json::json!([item, item]), "{text}");
        assert!(text.contains("# first\n# and second line\nrow: "), "{text}");
    }
}
