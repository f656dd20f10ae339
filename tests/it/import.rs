//! `forebay import`: the real command over real files; what it prints is a configuration that serves.

use std::path::PathBuf;
use std::process::{Command, Output};

use regex::Regex;

const FIXTURES: &[(&str, &str)] = &[
    ("gpt-api", "gpt_api_readme.yaml"),
    ("gpt-api", "gpt_api.yaml"),
    ("llm-proxy", "llm_proxy_readme.yaml"),
    ("llm-proxy", "llm_proxy.yaml"),
    ("llm-proxy", "llm_proxy_open.yaml"),
    ("litellm", "litellm.yaml"),
    ("litellm", "litellm_enforced.yaml"),
];

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import").join(name)
}

fn forebay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments).env_clear();
    command
}

fn import(from: &str, name: &str, more: &[&str]) -> Output {
    let path = fixture(name);
    forebay(&["import", from, path.to_str().unwrap()]).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs `forebay check` on a configuration whose variables have sensible values.
fn check(yaml: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("forebay.yaml");
    std::fs::write(&file, yaml).unwrap();
    let mut command = forebay(&["check", "-c", file.to_str().unwrap()]);
    for found in Regex::new(r"\$\{(\w+)").unwrap().captures_iter(yaml) {
        let value = match &found[1] {
            "API_BASE_URL" => "https://api.example.com/v1".to_owned(),
            "SERVER_PORT" | "PORT" | "REDIS_PORT" => "1234".to_owned(),
            "HOST" => "127.0.0.1".to_owned(),
            name => format!("stand-in-for-{name}"),
        };
        command.env(&found[1], value);
    }
    let output = command.output().unwrap();
    (output.status.success(), text(&output.stderr))
}

#[test]
fn every_result_passes_the_check_and_tells_no_secret() {
    for (from, name) in FIXTURES {
        let output = import(from, name, &[]);
        let (yaml, told) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{name}: {told}");
        assert!(!yaml.contains("fake-") && !told.contains("fake-"), "{name}:\n{yaml}\n{told}");
        let (fine, said) = check(&yaml);
        assert!(fine, "{name}: {said}\n{yaml}");
        let place = Regex::new(&format!(r"{name}:\d+: ")).unwrap();
        assert!(told.lines().all(|line| place.is_match(line)), "{told}");
    }
}

#[test]
fn the_documented_samples_become_what_they_mean() {
    let yaml = text(&import("gpt-api", "gpt_api_readme.yaml", &[]).stdout);
    for part in [
        "base_url: \"https://api.openai.com/v1\"",
        "match: { keyword: gpt-4 }",
        "fallback: [gpt-4-backup]",
        "api_keys: [\"${PRIMARY_GPT4_API_KEY}\"]",
        "anonymous: true",
    ] {
        assert!(yaml.contains(part), "{part}:\n{yaml}");
    }
    let yaml = text(&import("llm-proxy", "llm_proxy_readme.yaml", &[]).stdout);
    for part in [
        "address: \"${HOST:-0.0.0.0}:${PORT:-18000}\"",
        "{ provider: Provider-1, model: actual-model-name, weight: 2 }",
        "rate_limit: { requests_per_second: 100, burst_size: 150 }",
        "key: \"${MASTER_KEY_UNLIMITED}\"",
    ] {
        assert!(yaml.contains(part), "{part}:\n{yaml}");
    }
}

#[test]
fn strict_fails_when_something_has_no_equivalent() {
    assert_eq!(import("litellm", "litellm.yaml", &["--strict"]).status.code(), Some(1));
    let whole = import("llm-proxy", "llm_proxy_readme.yaml", &["--strict"]);
    assert_eq!(whole.status.code(), Some(0), "{}", text(&whole.stderr));
}

#[test]
fn a_variable_of_ours_is_none_of_the_files() {
    let output = import("litellm", "litellm.yaml", &[]);
    let yaml = text(&output.stdout);
    // One is written out in the file, the other is a reference there.
    assert!(
        yaml.contains("${AZURE_API_KEY}") && yaml.contains("${LITELLM_AZURE_API_KEY}"),
        "{yaml}"
    );
}

#[test]
fn the_result_can_go_to_a_file_which_nobody_else_reads() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("forebay.yaml");
    std::fs::write(&file, "what was there").unwrap();
    let output =
        import("gpt-api", "gpt_api.yaml", &["--with-secrets", "-o", file.to_str().unwrap()]);
    assert!(output.status.success() && output.stdout.is_empty());
    assert!(!text(&output.stderr).contains("fake-"));
    let yaml = std::fs::read_to_string(&file).unwrap();
    assert!(yaml.contains("fake-deepseek-key-0001"), "{yaml}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_cannot_be_read_is_code_2() {
    for (from, yaml, said) in [
        ("litellm", "model_list: [", "not valid YAML"),
        ("litellm", "providers: []", "`model_list` is missing"),
        ("gpt-api", "", "`openai_clients` is missing"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, yaml).unwrap();
        let output = forebay(&["import", from, file.to_str().unwrap()]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
    }
    let output = forebay(&["import", "litellm", "/nowhere.yaml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
