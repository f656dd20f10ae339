use std::collections::BTreeMap;

use regex::Regex;

use super::*;
use crate::config::{Content, Location, Node, Source, load};
use crate::server;

const FIXTURES: &[(From, &str, &str)] = &[
    (
        From::GptApi,
        "gpt_api_readme.yaml",
        include_str!("../../../tests/fixtures/import/gpt_api_readme.yaml"),
    ),
    (From::GptApi, "gpt_api.yaml", include_str!("../../../tests/fixtures/import/gpt_api.yaml")),
    (
        From::LlmProxy,
        "llm_proxy_readme.yaml",
        include_str!("../../../tests/fixtures/import/llm_proxy_readme.yaml"),
    ),
    (
        From::LlmProxy,
        "llm_proxy.yaml",
        include_str!("../../../tests/fixtures/import/llm_proxy.yaml"),
    ),
    (
        From::LlmProxy,
        "llm_proxy_open.yaml",
        include_str!("../../../tests/fixtures/import/llm_proxy_open.yaml"),
    ),
    (From::Litellm, "litellm.yaml", include_str!("../../../tests/fixtures/import/litellm.yaml")),
    (
        From::Litellm,
        "litellm_enforced.yaml",
        include_str!("../../../tests/fixtures/import/litellm_enforced.yaml"),
    ),
];

fn imported(from: From, text: &str, with_secrets: bool) -> (String, String) {
    let imported = translate(from, text, "f.yaml", with_secrets).unwrap();
    let told = imported.listing.told("f.yaml");
    (imported.yaml, told)
}

/// Every leaf: where it stands, its path, and its text.
fn leaves(node: &Node, path: &str, found: &mut Vec<(Location, String, String)>) {
    match &node.content {
        Content::Scalar(scalar) => {
            found.push((node.location, path.to_owned(), scalar.text.clone()));
        }
        Content::List(items) => {
            for (index, item) in items.iter().enumerate() {
                leaves(item, &format!("{path}[{index}]"), found);
            }
        }
        Content::Map(entries) => {
            for entry in entries {
                let name = &entry.name.text;
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(&entry.value, &below, found);
            }
        }
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

/// What a file says makes a difference, wherever it stands: to the result, or to what is listed. Or
/// it is listed, itself or with all that it is a part of.
#[test]
fn nothing_is_dropped_in_silence() {
    let listed = Regex::new(r"(?m)^f\.yaml:\d+: (.+?): (.*)$").unwrap();
    for (from, name, text) in FIXTURES {
        // A secret that is another one shows only where secrets are written out.
        let before = imported(*from, text, true);
        // What is decided, or listed in part, is translated.
        let whole = listed
            .captures_iter(&before.1)
            .filter(|found| !found[2].starts_with("decide: ") && !found[2].contains("differ"));
        let whole: Vec<String> = whole.map(|found| found[1].to_owned()).collect();
        let mut found = Vec::new();
        leaves(&outline(text).unwrap(), "", &mut found);
        assert!(found.len() >= 4, "{name}");
        for (place, path, value) in found {
            let Some(other) = changed(text, place.line, place.column, &value) else {
                panic!("{name}:{place} {value}")
            };
            assert_ne!(other, *text, "{name}:{place}");
            let after = translate(*from, &other, "f.yaml", true);
            let differs = after.is_err()
                || after.is_ok_and(|after| {
                    (after.yaml.clone(), after.listing.told("f.yaml")) != before
                });
            let part = |whole: &String| {
                path.strip_prefix(whole.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            };
            let listed = whole.iter().any(part);
            assert!(differs || listed, "{name}:{place}: `{path}` is neither translated nor listed");
        }
    }
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
        let (yaml, _) = imported(*from, text, false);
        let source =
            Source { text: yaml.clone(), environment: stand_ins(&yaml), ..Source::default() };
        let config =
            load(&source).unwrap_or_else(|mistakes| panic!("{name}: {mistakes:#?}\n{yaml}")).0;
        assert!(!config.models.is_empty(), "{name}");
        server::check(config).unwrap_or_else(|error| panic!("{name}: {error}\n{yaml}"));
    }
}

#[test]
fn no_secret_is_told() {
    for (from, name, text) in FIXTURES {
        let (yaml, told) = imported(*from, text, false);
        for output in [&yaml, &told] {
            assert!(!output.contains("fake-"), "{name}:\n{output}");
        }
        let with = translate(*from, text, name, true).unwrap();
        assert!(!with.listing.told(name).contains("fake-"), "{name}");
        assert!(
            with.listing.variables().iter().all(|name| text.contains(&format!("{name}:"))),
            "{name}"
        );
    }
    let (from, name, text) = FIXTURES[1];
    let with = translate(from, text, name, true).unwrap();
    assert!(with.yaml.contains("api_keys: [fake-deepseek-key-0001]"), "{}", with.yaml);
}
