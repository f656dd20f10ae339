//! `forebay db export` and `forebay db import`: what goes out comes in again, and nothing by halves.

use std::fs;

use crate::cli_keys::{bad, forebay, good, offline};

const DYNAMIC: &str = ", dynamic: true, encryption_key: fake-encryption-key-0001";

const FILE: &str = r#"
listen: [{ address: "127.0.0.1:1234" }]
users:
  - { name: bob, role: special, quotas: { large: 5 } }
keys:
  - { name: a, key: fake-key-of-somebody-0001, allowed_models: [m], expires: 2999-01-31, limits: { budget: { usd: 2.5, per: day } } }
  - { name: b, key_sha256: c0ffee254729296a45a3885639ac7e10f9d54979b0c0ffee254729296a45a388, user: bob, enabled: false }
providers:
  - { name: lab, kind: vllm, base_url: "http://127.0.0.1:9", api_keys: [fake-upstream-key-0002] }
models:
  - { name: big, targets: [{ provider: lab, model: large }], fallback: [small] }
  - { name: small, targets: [{ provider: lab }] }
  - { match: { prefix: "lab-" }, targets: [{ provider: lab }] }
"#;

#[test]
fn what_is_brought_in_is_created_once_and_comes_out_without_secrets() {
    let (dir, file) = offline(DYNAMIC);
    let source = dir.path().join("source.yaml");
    fs::write(&source, FILE).unwrap();
    let path = source.to_str().unwrap();
    let tried = good(&forebay(&file, &["db", "import", path, "--dry-run"]));
    assert!(tried.contains("7 created, 0 updated, 0 unchanged (nothing was changed)"), "{tried}");
    assert_eq!(good(&forebay(&file, &["key", "list", "--json"])).trim(), "[]");

    let output = forebay(&file, &["db", "import", path]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("source.yaml:2: `listen` is not kept in the store"), "{said}");
    assert!(good(&output).contains("7 created, 0 updated, 0 unchanged\n"));
    // A plain secret is written again: whether it is the same cannot be seen.
    let again = good(&forebay(&file, &["db", "import", path]));
    assert!(again.contains("0 created") && again.contains("unchanged key a"), "{again}");

    let yaml = good(&forebay(&file, &["db", "export"]));
    assert!(!yaml.contains("fake-"), "{yaml}");
    for part in ["name: bob", "large: 5", "c0ffee25", "name: lab", "fallback", "2999-01-31"] {
        assert!(yaml.contains(part), "{part}:\n{yaml}");
    }
    // Into the same store nothing changes.
    let export = dir.path().join("export.yaml");
    fs::write(&export, &yaml).unwrap();
    let same = good(&forebay(&file, &["db", "import", export.to_str().unwrap()]));
    assert!(same.contains("0 created, 0 updated, 7 unchanged"), "{same}");

    // Into another one all of it comes, but for the secrets of providers.
    let (_other, file) = offline(DYNAMIC);
    let output = forebay(&file, &["db", "import", export.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("provider lab: its secrets are not in the file"), "{said}");
    assert!(good(&output).contains("7 created"), "{output:?}");
    let keys = good(&forebay(&file, &["key", "show", "a"]));
    assert!(keys.contains("expires_at: 2999-01-31"), "{keys}");
}

#[test]
fn a_mistake_leaves_the_store_as_it_was() {
    let (dir, file) = offline(DYNAMIC);
    let source = dir.path().join("source.yaml");
    for (yaml, said) in [
        (
            "keys:\n  - { name: a, key: fake-key-of-somebody-0001 }\n  - { name: b }\n",
            "source.yaml:3: key: `key` or `key_sha256` is missing",
        ),
        ("keys: [{ name: a, key: fake-key-of-somebody-0001, user: nobody }]\n", "no user `nobody`"),
        (
            "keys: [{ name: a, key: fake-key-of-somebody-0001 }]\nmodels: [{ name: x, targets: [{ provider: nowhere }] }]\n",
            "nowhere",
        ),
        ("keys: [{ name: a, key: fake-key-of-somebody-0001, colour: red }]\n", "colour"),
    ] {
        fs::write(&source, yaml).unwrap();
        let told = bad(&forebay(&file, &["db", "import", source.to_str().unwrap()]), 1);
        assert!(told.contains(said) && told.contains("nothing was changed"), "{told}");
        assert!(!told.contains("fake-"), "{told}");
        assert_eq!(good(&forebay(&file, &["key", "list", "--json"])).trim(), "[]");
    }
    fs::write(&source, "listen: []\n").unwrap();
    bad(&forebay(&file, &["db", "import", source.to_str().unwrap()]), 2);
    bad(&forebay(&file, &["db", "import", "/nowhere.yaml"]), 2);
}

#[test]
fn an_import_of_another_gateways_file_can_go_on_into_the_store() {
    let (dir, file) = offline(DYNAMIC);
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/import/llm_proxy.yaml");
    let result = dir.path().join("result.yaml");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["import", "llm-proxy", fixture, "--with-secrets", "-o", result.to_str().unwrap()])
        .env_clear()
        .output();
    good(&output.unwrap());
    let report = good(&forebay(&file, &["db", "import", result.to_str().unwrap()]));
    assert!(
        report.contains("created key Default Key") && report.contains("created model gpt-5\n"),
        "{report}"
    );
    let keys = good(&forebay(&file, &["key", "list"]));
    assert!(keys.contains("Blocked Key"), "{keys}");
}
