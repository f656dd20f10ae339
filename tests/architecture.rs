//! The house itself: which room uses which, who may know pingora, and that every example is sound.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the finding")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

/// The rooms, from the roof down. A room uses only rooms on lower floors.
const FLOORS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["server"],
    &["proxy", "admin"],
    &["snapshot"],
    &["access", "ledger", "audit"],
    &["routing", "provider", "balance", "store"],
    &["protocol", "mock", "telemetry"],
    &["config"],
];

/// Who uses a room that is not below, whom, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Rooms that know pingora.
const KNOW_PINGORA: &[&str] = &["server", "proxy", "admin", "balance", "mock"];

const LONGEST_FILE: usize = 600;

struct Source {
    path: PathBuf,
    room: String,
    text: String,
}

impl Source {
    /// The text without comments.
    fn code(&self) -> String {
        let lines = self.text.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn shown(&self) -> String {
        self.path.strip_prefix(root()).unwrap().display().to_string()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let source = |path: PathBuf| {
        let inside = path.strip_prefix(&src).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let room = first.trim_end_matches(".rs").to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        Source { path, room, text }
    };
    files(&src, "rs").into_iter().map(source).collect()
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

/// The rooms that stand in `code` as `crate::room`, also within a group.
fn used(code: &str) -> BTreeSet<String> {
    let path = Regex::new(r"\b(?:crate|forebay)::(\w+)").unwrap();
    let group = Regex::new(r"\bcrate::\{").unwrap();
    let mut rooms: BTreeSet<String> =
        path.captures_iter(code).map(|found| found[1].to_owned()).collect();
    for found in group.find_iter(code) {
        rooms.extend(first_words(&code[found.end()..]));
    }
    rooms.retain(|room| floor(room).is_some());
    rooms
}

/// The word each member of a group begins with; `group` begins after its brace.
fn first_words(group: &str) -> Vec<String> {
    let (mut depth, mut members) = (0, vec![String::new()]);
    for letter in group.chars() {
        match letter {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => members.push(String::new()),
            _ if depth == 0 => members.last_mut().unwrap().push(letter),
            _ => {}
        }
    }
    let word =
        |member: String| member.split([':', ' ']).find(|it| !it.is_empty()).map(str::to_owned);
    members.into_iter().filter_map(|member| word(member.trim().to_owned())).collect()
}

#[test]
fn every_room_has_its_floor() {
    let rooms: BTreeSet<String> = sources().into_iter().map(|source| source.room).collect();
    for room in rooms.iter().filter(|room| *room != "lib") {
        assert!(floor(room).is_some(), "`{room}` has no floor");
    }
    for room in FLOORS.iter().flat_map(|floor| floor.iter()) {
        assert!(rooms.contains(*room), "`{room}` is not there any more");
    }
}

#[test]
fn a_room_uses_only_rooms_below_it() {
    let mut wrong = Vec::new();
    let mut excused = BTreeSet::new();
    for source in sources().iter().filter(|source| source.room != "lib") {
        for other in used(&source.code()) {
            if other == source.room || floor(&other) > floor(&source.room) {
                continue;
            }
            let mut exceptions = EXCEPTIONS.iter();
            match exceptions.position(|(who, whom, _)| *who == source.room && *whom == other) {
                Some(index) => {
                    excused.insert(index);
                }
                None => wrong.push(format!("{} uses `{other}`", source.shown())),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(excused.len(), EXCEPTIONS.len(), "an exception that nobody needs any more");
}

#[test]
fn the_imports_are_read_as_they_are_written() {
    let code = "use crate::config::{self, Url};\nuse crate::{access, routing::{Call, Local}, telemetry as t};\nlet x = crate::mock::Options::default();";
    let expected = ["access", "config", "mock", "routing", "telemetry"].map(str::to_owned);
    assert_eq!(used(code), BTreeSet::from(expected));
}

#[test]
fn only_some_rooms_know_pingora() {
    let name = Regex::new(r"\bpingora(_\w+)?::").unwrap();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| !KNOW_PINGORA.contains(&s.room.as_str())) {
        let code = source.code();
        // `config` has a section of that name.
        let named = name.find_iter(&code).filter(|found| {
            let before = &code[..found.start()];
            !(before.ends_with("self::") || before.ends_with("super::") || source.room == "config")
        });
        let elsewhere = source.room == "config" && code.contains("use ::pingora");
        if named.count() > 0 || elsewhere {
            wrong.push(source.shown());
        }
    }
    assert!(wrong.is_empty(), "pingora is named in {}", wrong.join(", "));
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    // Tests beside a file are told of by that file.
    let tests = |source: &Source| source.path.to_str().unwrap().ends_with("tests.rs");
    let silent = sources().into_iter().filter(|s| !s.text.starts_with("//! ") && !tests(s));
    let silent: Vec<String> = silent.map(|source| source.shown()).collect();
    assert!(silent.is_empty(), "no `//!` line in {}", silent.join(", "));
}

#[test]
fn no_file_is_longer_than_one_can_read() {
    let length = |source: &Source| source.text.lines().count();
    let long = sources().into_iter().filter(|source| length(source) > LONGEST_FILE);
    let long: Vec<String> = long.map(|s| format!("{} ({})", s.shown(), length(&s))).collect();
    assert!(long.is_empty(), "longer than {LONGEST_FILE} lines: {}", long.join(", "));
}

#[test]
fn every_example_passes_the_check() {
    let variable = Regex::new(r"\$\{(\w+)").unwrap();
    let ca_file = Regex::new(r"(?m)^(\s*ca_file:).*$").unwrap();
    let digest = "0".repeat(64);
    for path in files(&root().join("conf"), "yaml") {
        let text = std::fs::read_to_string(&path).unwrap();
        // Stand-ins: long enough for a key, and each of them different.
        let value = |name: &str| match name {
            name if name.contains("SHA256") => digest.clone(),
            name => format!("stand-in-for-{name}"),
        };
        let names = variable.captures_iter(&text).map(|found| found[1].to_owned());
        let environment: BTreeMap<String, String> =
            names.map(|name| (name.clone(), value(&name))).collect();
        // The certificate authorities it names are not on this machine.
        let folder = tempfile::tempdir().unwrap();
        let authority = folder.path().join("ca.pem");
        let names = vec!["ca".to_owned()];
        let certificate = rcgen::generate_simple_self_signed(names).unwrap().cert.pem();
        std::fs::write(&authority, certificate).unwrap();
        let here = format!("$1 {}", authority.display());
        let file = folder.path().join("forebay.yaml");
        std::fs::write(&file, ca_file.replace_all(&text, here.as_str()).as_bytes()).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args(["check", "-c", file.to_str().unwrap()])
            .env_clear()
            .envs(environment)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}:\n{said}", path.display());
    }
}

#[test]
fn a_release_has_no_failure_points() {
    let tree = |edges: &str| {
        let arguments = ["tree", "--locked", "--offline", "--invert", "fail", "--edges", edges];
        let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(tree("features").contains("\"failpoints\""), "tests need them");
    let built = tree("no-dev,features");
    assert!(built.contains("fail v") && !built.contains("\"failpoints\""), "{built}");
}

fn metrics_of_the_code() -> Vec<String> {
    let code = std::fs::read_to_string(root().join("src/telemetry/metrics.rs")).unwrap();
    let names = Regex::new(r#""(forebay_\w+)""#).unwrap();
    names.captures_iter(&code).map(|found| found[1].to_owned()).collect()
}

#[test]
fn every_metric_is_told_of() {
    let docs = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let names = metrics_of_the_code();
    assert!(names.len() > 10, "{names:?}");
    let untold: Vec<&String> =
        names.iter().filter(|name| !docs.contains(&format!("`{name}`"))).collect();
    assert!(untold.is_empty(), "docs/metrics.md does not tell of {untold:?}");
}

#[test]
fn the_dashboard_asks_only_for_metrics_that_there_are() {
    let text = std::fs::read_to_string(root().join("conf/grafana/forebay.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let known: BTreeSet<String> = metrics_of_the_code().into_iter().collect();
    let name = Regex::new(r"\bforebay_\w+").unwrap();
    let part = Regex::new("_(bucket|sum|count)$").unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let questions: Vec<&str> = targets
        .map(|target| target["expr"].as_str().unwrap())
        .chain(variables.filter_map(|variable| variable["definition"].as_str()))
        .collect();
    assert!(questions.len() > 20, "{questions:?}");
    for question in questions {
        let asked: Vec<&str> = name.find_iter(question).map(|found| found.as_str()).collect();
        assert!(!asked.is_empty(), "{question} asks for nothing of ours");
        for metric in asked {
            let there = known.contains(metric) || known.contains(&*part.replace(metric, ""));
            assert!(there, "there is no {metric}: {question}");
        }
    }
}
