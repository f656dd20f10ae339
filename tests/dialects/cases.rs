//! What providers answered: recorded, and written where no recording shows it.

use std::path::Path;

use bytes::Bytes;
use forebay::config::Dialect;
use forebay::protocol::framing::eventstream::{write_event, write_exception};

use crate::root;

/// One answer of a provider's.
pub struct Case {
    pub name: String,
    pub provider: Dialect,
    pub answer: Answer,
}

pub enum Answer {
    Stream(Bytes),
    Whole(Bytes),
    Failure {
        status: u16,
        /// What AWS says in `x-amzn-errortype`.
        kind: Option<String>,
        body: Bytes,
    },
}

/// What the request was for that is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    Words,
    /// An object of a schema; the model has to be held to it by a tool.
    Object,
    /// A list of a schema.
    List,
    /// A call of a tool that takes free text, which the model knows as a function.
    FreeText,
}

impl Case {
    pub fn asks(&self) -> Asks {
        match self.name.split_once('-').map(|(_, rest)| rest) {
            Some("schema") => Asks::Object,
            Some("schema-array") => Asks::List,
            Some("free-text") => Asks::FreeText,
            _ => Asks::Words,
        }
    }

    pub fn stream(&self) -> Option<&Bytes> {
        match &self.answer {
            Answer::Stream(stream) => Some(stream),
            _ => None,
        }
    }
}

/// All of them, in the order of their names.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in paths(&root().join("tests/fixtures/recorded")) {
        if path.is_dir() {
            cases.push(recorded(&path));
        }
    }
    for path in paths(&root().join("tests/dialects/written")) {
        cases.push(written(&path));
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    for pair in cases.windows(2) {
        assert_ne!(pair[0].name, pair[1].name, "two cases of one name");
    }
    cases
}

pub fn paths(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn recorded(folder: &Path) -> Case {
    let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
    let meta: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("meta.json")).unwrap()).unwrap();
    let body = Bytes::from(std::fs::read(folder.join("response.bin")).unwrap());
    let status = u16::try_from(meta["status"].as_u64().unwrap()).unwrap();
    let answer = match meta["kind"].as_str().unwrap() {
        _ if status >= 400 => {
            let headers = meta.get("headers").and_then(|headers| headers.get("x-amzn-errortype"));
            let kind = headers.and_then(|kind| kind.as_str()).map(str::to_owned);
            Answer::Failure { status, kind, body }
        }
        "json" => Answer::Whole(body),
        _ => Answer::Stream(body),
    };
    Case { provider: provider(&name), name, answer }
}

/// `<name>.sse`, `<name>.frames` (a line for each message), `<name>.json`, or for a failure
/// `<name>.<status>[.<kind>].json`.
fn written(path: &Path) -> Case {
    let file = path.file_name().unwrap().to_str().unwrap();
    let parts: Vec<&str> = file.split('.').collect();
    let bytes = std::fs::read(path).unwrap();
    let answer = match parts.as_slice() {
        [_, "sse"] => Answer::Stream(bytes.into()),
        [_, "frames"] => Answer::Stream(frames(std::str::from_utf8(&bytes).unwrap())),
        [_, "json"] => Answer::Whole(bytes.into()),
        [_, status, kind @ .., "json"] => Answer::Failure {
            status: status.parse().unwrap(),
            kind: kind.first().map(|kind| (*kind).to_owned()),
            body: bytes.into(),
        },
        _ => panic!("{file} says not what it is"),
    };
    Case { name: parts[0].to_owned(), provider: provider(file), answer }
}

fn provider(name: &str) -> Dialect {
    match name.split('-').next() {
        Some("chat") => Dialect::OpenaiChat,
        Some("resp") => Dialect::OpenaiResponses,
        Some("ant") => Dialect::Anthropic,
        Some("gem") => Dialect::Gemini,
        Some("bed") => Dialect::Bedrock,
        _ => panic!("{name}: whose is it?"),
    }
}

/// `event <type> <payload>` or `exception <type> <payload>`, a line each.
fn frames(lines: &str) -> Bytes {
    let mut out = Vec::new();
    for line in lines.lines() {
        let [kind, name, payload] = line.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
        let fill = |out: &mut Vec<u8>| out.extend_from_slice(payload.as_bytes());
        match kind {
            "event" => write_event(name, &mut out, fill),
            _ => write_exception(name, &mut out, fill),
        }
        .unwrap();
    }
    out.into()
}
