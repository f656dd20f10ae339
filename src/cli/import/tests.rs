use std::collections::BTreeMap;

use regex::Regex;

use super::*;
use crate::config::Node;
use crate::server;

const FIXTURES: &[(From, &str, &str)] = &[
    (From::GptApi, "gpt_api_readme.yaml", include_str!("../../../tests/fixtures/import/gpt_api_readme.yaml")),
    (From::GptApi, "gpt_api.yaml", include_str!("../../../tests/fixtures/import/gpt_api.yaml")),
    (From::LlmProxy, "llm_proxy_readme.yaml", include_str!("../../../tests/fixtures/import/llm_proxy_readme.yaml")),
    (From::LlmProxy, "llm_proxy.yaml", include_str!("../../../tests/fixtures/import/llm_proxy.yaml")),
    (From::LlmProxy, "llm_proxy_open.yaml", include_str!("../../../tests/fixtures/import/llm_proxy_open.yaml")),
    (From::Litellm, "litellm.yaml", include_str!("../../../tests/fixtures/import/litellm.yaml")),
    (From::Litellm, "litellm_enforced.yaml", include_str!("../../../tests/fixtures/import/litellm_enforced.yaml")),
];

fn imported(from: From, text: &str) -> (String, String) {
    let imported = translate(from, text, "f.yaml", false).unwrap();
    let told = imported.listing.told("f.yaml");
    (imported.yaml, told)
}

/// Where leaves stand: line and column, from 1.
fn leaves(node: &Node, found: &mut Vec<(usize, usize, String)>) {
    use crate::config::Content;
    match &node.content {
        Content::Scalar(scalar) => found.push((node.location.line, node.location.column, scalar.text.clone())),
        Content::List(items) => items.iter().for_each(|item| leaves(item, found)),
        Content::Map(entries) => entries.iter().for_each(|entry| leaves(&entry.value, found)),
        Content::Unknown => {}
    }
}

/// The text with what stands at a place written differently.
fn changed(text: &str, line: usize, column: usize, value: &str) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let changed = lines.get_mut(line - 1)?;
    let start = changed.char_indices().nth(column - 1)?.0;
    let rest = &changed[start..];
    let quoted = rest.starts_with(['"', '\'']);
    let length = if quoted {
        let end = rest[1..].find(rest.chars().next()?)?;
        end + 2
    } else {
        value.len()
    };
    changed.replace_range(start..start + length, "\"[changed]\"");
    Some(lines.join("\n"))
}

/// What a file says makes a difference, wherever it stands: to the result, or to what is listed.
#[test]
fn nothing_is_dropped_in_silence() {
    for (from, name, text) in FIXTURES {
        let before = imported(*from, text);
        let mut found = Vec::new();
        leaves(&outline(text).unwrap(), &mut found);
        assert!(found.len() > 4, "{name}");
        for (line, column, value) in found {
            let Some(other) = changed(text, line, column, &value) else { panic!("{name}:{line}:{column} {value}") };
            assert_ne!(other, *text, "{name}:{line}");
            let listed = before.1.lines().any(|said| said.starts_with(&format!("f.yaml:{line}:")));
            let after = translate(*from, &other, "f.yaml", false);
            let differs = after.is_err() || after.is_ok_and(|after| (after.yaml.clone(), after.listing.told("f.yaml")) != before);
            let inside = inside_listed(&before.1, text, line);
            assert!(differs || listed || inside, "{name}:{line}:{column}: `{value}` is neither translated nor listed");
        }
    }
}

/// Whether a line belongs to a block whose first line is listed.
fn inside_listed(told: &str, text: &str, line: usize) -> bool {
    let place = Regex::new(r"(?m)^f\.yaml:(\d+):").unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: usize| lines[line - 1].find(|c| c != ' ' && c != '-').unwrap_or(0);
    place.captures_iter(told).any(|found| {
        let first: usize = found[1].parse().unwrap();
        first < line && (first + 1..=line).all(|line| lines[line - 1].trim().is_empty() || indent(line) > indent(first) || indent(line) == indent(first) && !lines[line - 1].trim_start().starts_with('-') && lines[first - 1].trim_start().starts_with('-'))
    })
}

/// What stands in for the variables of a result.
fn stand_ins(yaml: &str) -> BTreeMap<String, String> {
    let variable = Regex::new(r"\$\{(\w+)").unwrap();
    let value = |name: &str| match name {
        "API_BASE_URL" => "https://api.example.com/v1".to_owned(),
        "SERVER_PORT" | "PORT" | "REDIS_PORT" => "1234".to_owned(),
        "HOST" => "127.0.0.1".to_owned(),
        name => format!("stand-in-for-{name}"),
    };
    variable.captures_iter(yaml).map(|found| (found[1].to_owned(), value(&found[1]))).collect()
}

#[test]
fn every_result_passes_the_check() {
    for (from, name, text) in FIXTURES {
        let (yaml, _) = imported(*from, text);
        let source = Source { text: yaml.clone(), environment: stand_ins(&yaml), ..Source::default() };
        let config = load(&source).unwrap_or_else(|mistakes| panic!("{name}: {mistakes:#?}\n{yaml}")).0;
        assert!(!config.models.is_empty(), "{name}");
        server::check(config).unwrap_or_else(|error| panic!("{name}: {error}\n{yaml}"));
    }
}

#[test]
fn no_secret_is_told() {
    for (from, name, text) in FIXTURES {
        let (yaml, told) = imported(*from, text);
        for output in [&yaml, &told] {
            assert!(!output.contains("fake-"), "{name}:\n{output}");
        }
        if text.contains("fake-openai-key") {
            let with = translate(*from, text, name, true).unwrap();
            assert!(with.yaml.contains("fake-openai-key") || !yaml.contains("OPENAI"), "{name}");
            assert!(!with.listing.told(name).contains("fake-"), "{name}");
        }
    }
}
