//! `forebay check` and the refusal to start: mistakes are named with their place, and nothing that
//! is wrong serves.

use std::process::Output;

use crate::support::gateway;

fn check(yaml: &str) -> (Option<i32>, String) {
    let output = gateway::with(yaml).run(&["check", "-c", "@file"]);
    said(&output)
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// What is wrong is told with exit code 2, in these words.
fn refused(yaml: &str, words: &[&str]) {
    let (code, text) = check(yaml);
    assert_eq!(code, Some(2), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is missing:\n{text}");
    }
}

const P: &str = "providers: [{ name: p, kind: vllm, base_url: \"http://127.0.0.1:1\" }]\n";

#[test]
fn a_good_file_is_fine() {
    let (code, text) =
        check(&format!("{P}models: [{{ name: m, targets: [{{ provider: p }}] }}]\n"));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("forebay.yaml: fine"), "{text}");
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_one() {
    let yaml = format!("{P}modles: []\n");
    refused(&yaml, &["forebay.yaml:2:1", "modles", "models"]);
    let yaml = "providers:\n  - { name: p, kind: vllm, base_url: \"http://h:1\", load_balancng: random }\n";
    refused(yaml, &["forebay.yaml:2:", "load_balancng", "load_balancing"]);
}

#[test]
fn every_mistake_is_told_at_once() {
    let yaml = "heartbeat: soon\nlimits: { body: 5 bananas }\nmodels:\n  - { name: m, targets: [{ provider: nobody }] }\n";
    refused(
        yaml,
        &["heartbeat", "body", "nobody", "forebay.yaml:1:", "forebay.yaml:2:", "forebay.yaml:4:"],
    );
}

#[test]
fn a_variable_that_is_not_set_is_a_mistake() {
    let yaml = "providers: [{ name: p, kind: vllm, base_url: \"http://h:1\", api_keys: [\"${NO_SUCH_VARIABLE}\"] }]\n";
    refused(yaml, &["NO_SUCH_VARIABLE"]);
    let set = gateway::with(yaml).env("NO_SUCH_VARIABLE", "key-1").run(&["check", "-c", "@file"]);
    assert_eq!(set.status.code(), Some(0), "{}", said(&set).1);
}

#[test]
fn fallback_in_a_circle_is_a_mistake() {
    let yaml = format!(
        "{P}models:\n  - {{ name: a, targets: [{{ provider: p }}], fallback: [b] }}\n  - {{ name: b, targets: [{{ provider: p }}], fallback: [a] }}\n"
    );
    refused(&yaml, &["circle", "a -> b -> a"]);
}

#[test]
fn a_kind_that_is_not_known_is_a_mistake() {
    refused(
        "providers: [{ name: c, kind: antropic }]\n",
        &["antropic", "did you mean `anthropic`?"],
    );
}

#[test]
fn what_a_cloud_has_to_know_is_asked_for() {
    refused("providers: [{ name: c, kind: vertex, location: l }]\n", &["`project` is missing"]);
    refused("providers: [{ name: c, kind: bedrock }]\n", &["`region` is missing"]);
    let file = "providers: [{ name: c, kind: vertex, project: p, location: l, credentials_file: nowhere.json }]\n";
    refused(file, &["provider `c`: ", "nowhere.json: No such file"]);
}

#[test]
fn what_is_no_yaml_is_a_mistake() {
    refused("providers: [\n", &["forebay.yaml:"]);
    refused("providers: {a: 1, a: 2}\n", &["forebay.yaml:"]);
}

#[test]
fn no_secret_is_told_with_a_mistake() {
    let yaml = "keys: [{ name: a, key: canary-of-a-key, keyy: 1 }]\nproviders: [{ name: p, kind: openai, api_keys: [\"canary of a key\"] }]\n";
    let (code, text) = check(yaml);
    assert_eq!(code, Some(2), "{text}");
    assert!(!text.contains("canary"), "{text}");
}

#[test]
fn a_file_that_is_not_there_is_code_2() {
    let output = gateway::with("").run(&["check", "-c", "/nowhere/forebay.yaml"]);
    let (code, text) = said(&output);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("/nowhere/forebay.yaml"), "{text}");
}

#[test]
fn wrong_usage_is_code_2() {
    for arguments in [&["frobnicate"][..], &["run", "--no-such"], &["run", "-p", "many"]] {
        let output = gateway::with("").run(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output).1);
    }
}

#[test]
fn run_refuses_what_check_refuses() {
    let output = gateway::with("modles: []\n").run(&["run", "-c", "@file"]);
    let (code, text) = said(&output);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("modles"), "{text}");
}

#[test]
fn test_only_serves_nothing() {
    let good = gateway::with(P).run(&["run", "-t", "-c", "@file"]);
    assert_eq!(good.status.code(), Some(0), "{}", said(&good).1);
    let bad = gateway::with("modles: []\n").run(&["run", "-t", "-c", "@file"]);
    assert_eq!(bad.status.code(), Some(2), "{}", said(&bad).1);
}

#[test]
fn test_only_finds_what_shows_when_it_is_put_together() {
    let yaml = "providers: [{ name: p, kind: openai_compatible, base_url: \"https://h\", tls: { ca_file: /nowhere.pem } }]\n";
    let output = gateway::with(yaml).run(&["run", "-t", "-c", "@file"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output).1);
    refused(yaml, &["/nowhere.pem"]);
}

#[test]
fn an_open_door_to_the_outside_is_refused() {
    let yaml = format!("listen: [{{ address: \"0.0.0.0:8080\" }}]\n{P}");
    let output = gateway::with(&yaml).run(&["run", "-c", "@file"]);
    let (code, text) = said(&output);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("0.0.0.0:8080") && text.contains("no key is needed"), "{text}");
    refused(&yaml, &["anonymous: true"]);
    let (code, text) = check(&format!("anonymous: true\n{yaml}"));
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = check(&format!("keys: [{{ name: a, key: client-key-of-a }}]\n{yaml}"));
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn the_command_tells_its_version_and_completes_shells() {
    let version = gateway::with("").run(&["--version"]);
    assert!(said(&version).1.starts_with("forebay "), "{}", said(&version).1);
    for shell in ["bash", "zsh", "fish"] {
        let script = gateway::with("").run(&["completions", shell]);
        assert_eq!(script.status.code(), Some(0));
        assert!(said(&script).1.contains("forebay"), "{shell}");
    }
}
