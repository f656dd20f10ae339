//! Providers and models that come from the database.

use super::*;

const FILE: &str = "\
providers: [{ name: file, kind: mock }]
models: [{ name: m, targets: [{ provider: file }], fallback: [n] }, { name: n, targets: [{ provider: file }] }]
store: { url: 'sqlite:x', dynamic: true }
";

fn with(text: &str, items: &[(&'static str, &str, &str)]) -> Source {
    let dynamic = items.iter().map(|&(section, id, text)| Dynamic {
        section,
        id: id.to_owned(),
        text: text.to_owned(),
    });
    Source { dynamic: dynamic.collect(), ..source(text, &[("OUR_KEY", "sk-from-environment")]) }
}

/// What is said about a file with one item besides.
fn said_of(section: &'static str, text: &str) -> String {
    match load(&with(FILE, &[(section, "x1", text)])) {
        Ok((_, problems)) | Err(problems) => {
            Problems::new(Some(Path::new("f")), problems).to_string()
        }
    }
}

#[test]
fn items_of_the_database_stand_behind_those_of_the_file() {
    let items = [
        (
            "models",
            "m1",
            r#"{"name": "db-model", "targets": [{"provider": "db"}], "fallback": ["n"]}"#,
        ),
        (
            "providers",
            "p1",
            r#"{"name": "db", "kind": "openai", "api_keys": ["sk-$1${X}$$", "${OUR_KEY}"], "base_url": null}"#,
        ),
        ("models", "m2", "name: yaml-model\ntargets:\n  - provider: file\n"),
    ];
    let (config, problems) = load(&with(FILE, &items)).unwrap();
    assert_eq!(problems, []);
    let names: Vec<_> = config.models.iter().filter_map(|model| model.name.as_deref()).collect();
    assert_eq!(names, ["m", "n", "db-model", "yaml-model"]);
    let [file, db] = config.providers.as_slice() else { panic!("two providers") };
    assert_eq!((&*file.name, &*db.name), ("file", "db"));
    // A dollar in a secret is a dollar; only a whole `${NAME}` is looked up.
    assert_eq!(db.api_keys, [Secret::new("sk-$1${X}$$"), Secret::new("sk-from-environment")]);
    let places = config.models.iter().map(|model| model.location.line);
    assert_eq!(places.collect::<Vec<_>>(), [2, 2, 0, 0]);
    assert_eq!((file.location.line, db.location.line), (1, 0));
}

#[test]
fn a_file_may_leave_both_sections_to_the_database() {
    let file = "store: { url: 'sqlite:x', dynamic: true }";
    assert_eq!(said(file, &[]), "");
    let items = [
        ("models", "m1", r#"{"name": "m", "targets": [{"provider": "db"}]}"#),
        ("providers", "p1", r#"{"name": "db", "kind": "mock"}"#),
    ];
    let (config, problems) = load(&with(file, &items)).unwrap();
    assert_eq!((config.models.len(), config.providers.len(), problems.len()), (1, 1, 0));
}

#[test]
fn their_mistakes_are_named_by_section_and_id() {
    let cases = [
        (
            "providers",
            r#"{"name": "db", "kind": "opnai"}"#,
            "f: error: providers \"x1\" (store): `kind` cannot be `opnai` (did you mean `openai`?)",
        ),
        (
            "providers",
            r#"{"name": "db", "kind": "mock", "timeout": {}}"#,
            "f: error: providers \"x1\" (store): unknown key `timeout` in `providers` (did you mean `timeouts`?)",
        ),
        (
            "providers",
            r#"{"name": "file", "kind": "mock"}"#,
            "f: error: providers \"x1\" (store): duplicate provider `file` (first at line 1)",
        ),
        (
            "models",
            r#"{"name": "m", "targets": [{"provider": "file"}]}"#,
            "f: error: models \"x1\" (store): duplicate model `m` (first at line 2)",
        ),
        (
            "models",
            r#"{"name": "d", "targets": [{"provider": "fil"}]}"#,
            "f: error: models \"x1\" (store): unknown provider `fil` (did you mean `file`?)",
        ),
        (
            "models",
            r#"{"name": "d", "fallback": ["d"], "targets": [{"provider": "file"}]}"#,
            "f: error: models \"x1\" (store): fallback runs in a circle: d -> d",
        ),
        (
            "providers",
            r#"{"name": "db", "kind": "mock", "api_keys": "${NOT_SET}"}"#,
            "f: error: providers \"x1\" (store): the environment variable `NOT_SET` is not set",
        ),
        (
            "providers",
            "[1]",
            "f: error: providers \"x1\" (store): `providers` must be a map of keys and values, not a list",
        ),
    ];
    for (section, text, expected) in cases {
        assert_eq!(said_of(section, text), expected, "{text}");
    }
    let broken = said_of("models", "{ name: x");
    assert!(broken.starts_with("f: error: models \"x1\" (store): not valid YAML"), "{broken}");
}

#[test]
fn two_items_of_one_name_are_a_mistake() {
    let item = r#"{"name": "d", "targets": [{"provider": "file"}]}"#;
    let problems = load(&with(FILE, &[("models", "a", item), ("models", "b", item)])).unwrap_err();
    let said = Problems::new(Some(Path::new("f")), problems).to_string();
    let expected = "f: error: models \"b\" (store): duplicate model `d` (first in the store)";
    assert_eq!(said, expected);
}

#[test]
fn their_secrets_are_never_told() {
    let secret = "sk-forebay-4f9a8c77b2e1";
    for text in [
        r#"{"name": "d", "kind": "openai", "api_keys": ["S S"]}"#,
        r#"{"name": "d", "kind": "openai", "headers": {"X-Key": "S\n"}}"#,
        r#"{"name": "d", "kind": "openai", "base_url": "https://S@x"}"#,
    ] {
        let said = said_of("providers", &text.replace('S', secret));
        assert!(said.contains("error: providers \"x1\" (store): "), "{text}: {said}");
        assert!(!said.contains("sk-forebay"), "{said}");
    }
}
