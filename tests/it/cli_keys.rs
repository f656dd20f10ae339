//! `forebay key` and `forebay user`: through the running server, and on the store when none runs.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::admin_api::stored;
use crate::support::client::{CHAT, Client, Reply};
use crate::support::eventually;

/// Runs the command with a configuration.
pub fn forebay(file: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments).arg("-c").arg(file).env_clear().env("TMPDIR", std::env::temp_dir());
    command.output().unwrap()
}

/// What it printed, when it went well.
#[track_caller]
pub fn good(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What it said, when it failed with this code.
#[track_caller]
pub fn bad(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&good(output)).unwrap()
}

async fn chat(client: &Client, model: &str) -> Reply {
    let body =
        serde_json::json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }] });
    client.post(CHAT, body.to_string()).send().await
}

/// A configuration with a store, and no server.
pub fn offline(more: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("forebay.yaml");
    let store = dir.path().join("forebay.db");
    let yaml = format!(
        "store: {{ url: \"sqlite:{}\"{more} }}\nproviders: [{{ name: mock, kind: mock }}]\nmodels: [{{ name: m, targets: [{{ provider: mock }}] }}]\n",
        store.display()
    );
    std::fs::write(&file, yaml).unwrap();
    (dir, file)
}

#[tokio::test]
async fn a_key_made_through_the_server_works_until_it_is_revoked() {
    let (_upstream, gateway) = stored().await;
    let file = gateway.file();
    let made =
        forebay(&file, &["key", "create", "alice", "--model", "m", "--tag", "lab", "--quiet"]);
    let secret = good(&made);
    assert_eq!(secret.lines().count(), 1, "{secret}");
    let secret = secret.trim();
    assert!(secret.starts_with("sk-fb-"), "{secret}");
    let client = gateway.client().key(secret);
    chat(&client, "m").await.ok();
    assert_eq!(chat(&client, "other").await.status, 403);

    let shown = json(&forebay(&file, &["key", "show", "alice", "--json"]));
    assert_eq!(shown["allowed_models"], serde_json::json!(["m"]));
    assert!(!shown.to_string().contains(secret));

    good(&forebay(&file, &["key", "update", "alice", "--clear", "allowed_models"]));
    eventually("the change is in force", async || {
        (chat(&client, "other").await.status == 200).then_some(())
    })
    .await;

    let rotated = good(&forebay(&file, &["key", "rotate", "alice", "--quiet"]));
    assert_eq!(chat(&client, "m").await.status, 401);
    let client = gateway.client().key(rotated.trim());
    chat(&client, "m").await.ok();

    good(&forebay(&file, &["key", "revoke", "alice", "--reason", "left"]));
    assert_eq!(chat(&client, "m").await.status, 401);
    let list = good(&forebay(&file, &["key", "list"]));
    assert!(list.contains("alice") && list.contains("false"), "{list}");
}

#[test]
fn without_a_server_the_store_is_asked_with_the_same_checks() {
    let (_dir, file) = offline("");
    let made = json(&forebay(&file, &["user", "create", "bob", "--role", "special", "--json"]));
    let user = made["id"].as_str().unwrap();
    let key = json(&forebay(
        &file,
        &[
            "key",
            "create",
            "b",
            "--user",
            user,
            "--budget",
            "25.50/month",
            "--rate",
            "10/20",
            "--expires",
            "2999-01-01",
            "--json",
        ],
    ));
    assert_eq!(key["limits"]["budget"]["usd"], "25.5");
    assert_eq!(key["limits"]["budget"]["per"], "month");
    assert_eq!(key["rate_limit"]["burst_size"], 20);
    assert!(key["expires_at"].as_str().unwrap().starts_with("2999-01-01"));

    let said = bad(&forebay(&file, &["key", "create", "c", "--user", "nobody"]), 1);
    assert!(said.contains("no user `nobody`"), "{said}");
    let said = bad(&forebay(&file, &["user", "create", "bob"]), 1);
    assert!(said.contains("in use"), "{said}");
    let said = bad(&forebay(&file, &["key", "show", "nothing"]), 1);
    assert!(said.contains("no key `nothing`"), "{said}");
    let said = bad(&forebay(&file, &["key", "update", "b", "--clear", "colour"]), 2);
    assert!(said.contains("colour"), "{said}");

    let keys = json(&forebay(&file, &["key", "list", "--user", user, "--json"]));
    assert_eq!(keys.as_array().unwrap().len(), 1);
    good(&forebay(&file, &["key", "create", "b"]));
    let said = bad(&forebay(&file, &["key", "show", "b"]), 1);
    assert!(said.contains("several are called `b`"), "{said}");
}

#[test]
fn a_user_is_disabled_enabled_and_given_quotas() {
    let (_dir, file) = offline("");
    good(&forebay(&file, &["user", "create", "bob"]));
    let user = json(&forebay(&file, &["user", "disable", "bob", "--reason", "late", "--json"]));
    assert_eq!(
        (user["enabled"].clone(), user["disabled_reason"].clone()),
        (false.into(), "late".into())
    );
    let user = json(&forebay(&file, &["user", "enable", "bob", "--json"]));
    assert_eq!(
        (user["enabled"].clone(), user["disabled_reason"].clone()),
        (true.into(), Value::Null)
    );
    let quotas = json(&forebay(
        &file,
        &["user", "quota", "bob", "--set", "large=1_000", "--set", "small=0", "--json"],
    ));
    assert_eq!(quotas, serde_json::json!({ "large": 1000, "small": 0 }));
    let quotas =
        json(&forebay(&file, &["user", "quota", "bob", "--unset", "small", "--refresh", "--json"]));
    assert_eq!(quotas, serde_json::json!({ "large": 1000 }));
    let user = json(&forebay(
        &file,
        &["user", "update", "bob", "--note", "in the lab", "--max-ips", "3", "--json"],
    ));
    assert_eq!((user["note"].clone(), user["max_ips"].clone()), ("in the lab".into(), 3.into()));
    assert!(good(&forebay(&file, &["user", "list"])).contains("bob"));
}

#[test]
fn without_a_store_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("forebay.yaml");
    std::fs::write(&file, "providers: [{ name: mock, kind: mock }]\nmodels: [{ name: m, targets: [{ provider: mock }] }]\n").unwrap();
    let said = bad(&forebay(&file, &["key", "list"]), 2);
    assert!(said.contains("no store"), "{said}");
    let said = bad(&forebay(&file, &["key", "create", "a", "--rate", "fast"]), 2);
    assert!(said.contains("10/20"), "{said}");
}

#[tokio::test]
async fn a_wrong_admin_key_is_told_and_changes_nothing() {
    let (_upstream, gateway) = stored().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(["key", "create", "a", "-c"]).arg(gateway.file()).env_clear();
    let output = command.env("FOREBAY_ADMIN_KEY", "another-admin-key-0001").output().unwrap();
    let said = bad(&output, 1);
    assert!(said.contains("not known") && !said.contains("another-admin"), "{said}");
    assert_eq!(json(&forebay(&gateway.file(), &["key", "list", "--json"])), serde_json::json!([]));
}

#[test]
fn the_commands_of_the_documents_work_as_they_are_written() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Path::new(env!("CARGO_BIN_EXE_forebay")).parent().unwrap();
    for (document, least) in [("README.md", 2), ("docs/keys.md", 11), ("docs/observe.md", 4)] {
        let (dir, _file) = offline("");
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        let nouns = ["forebay key ", "forebay user ", "forebay usage"];
        let ours = |line: &&str| nouns.iter().any(|noun| line.starts_with(noun));
        let commands: Vec<&str> = text.lines().filter(ours).collect();
        assert!(commands.len() >= least, "{document}: {commands:?}");
        for command in commands {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", command]).current_dir(dir.path()).env_clear().env("PATH", folder);
            let output = shell.env("TMPDIR", std::env::temp_dir()).output().unwrap();
            assert!(output.status.success(), "{document}: {command}: {output:?}");
        }
    }
}
