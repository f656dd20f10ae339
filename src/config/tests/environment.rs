//! What the environment does to a configuration.

use super::*;

const BASE: &str = "\
listen:
  - { address: \"127.0.0.1:8080\", tls: { cert: a, key: b } }
  - { address: \"127.0.0.1:8081\" }
providers:
  - { name: silent, kind: mock }
  - { name: strict, kind: mock, tls: { verify: true } }
  - { name: partial, kind: mock, tls: { server_name: x } }
models: [{ name: m, targets: [{ provider: silent }] }]
model_prefix: File
";

fn addresses(environment: &[(&str, &str)]) -> Vec<String> {
    let listen = good_in(BASE, environment).listen;
    listen.iter().map(|listen| format!("{} {}", listen.address, listen.tls.is_some())).collect()
}

#[test]
fn the_listeners_can_be_replaced() {
    let listen = [("FOREBAY_LISTEN", "127.0.0.1:1, [::1]:2"), ("PORT", "9")];
    assert_eq!(addresses(&listen), ["127.0.0.1:1 false", "[::1]:2 false"]);
}

#[test]
fn host_and_port_move_the_first_listener() {
    assert_eq!(addresses(&[("PORT", "9")]), ["127.0.0.1:9 true", "127.0.0.1:8081 false"]);
    assert_eq!(addresses(&[("HOST", "::1")]), ["[::1]:8080 true", "127.0.0.1:8081 false"]);
    assert_eq!(
        addresses(&[("HOST", "localhost")]),
        ["127.0.0.1:8080 true", "127.0.0.1:8081 false"]
    );
    let default = good_in("models: []", &[("PORT", "9")]);
    assert_eq!(default.listen, [Listen::loopback(9)]);
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
    let names = ["FOREBAY_LISTEN", "HOST", "PORT", "VERIFY_SSL", "PROVIDER_SUFFIX", "DB_URL"];
    let empty: Vec<_> = names.into_iter().map(|name| (name, " ")).collect();
    assert_eq!(good_in(BASE, &empty), good(BASE));
    assert_eq!(said(BASE, &empty), said(BASE, &[]));
}

#[test]
fn the_environment_can_open_the_door_and_is_told_so() {
    let said = said(BASE, &[("HOST", "0.0.0.0")]);
    assert!(said.starts_with("f: error: 0.0.0.0:8080 can be reached from outside"), "{said}");
}

#[test]
fn certificates_are_checked_unless_it_is_said_otherwise() {
    let verified = |environment: &[(&str, &str)]| -> Vec<bool> {
        let providers = good_in(BASE, environment).providers;
        providers.iter().map(|provider| provider.tls.verify).collect()
    };
    assert_eq!(verified(&[]), [true, true, true]);
    assert_eq!(verified(&[("VERIFY_SSL", "false")]), [false, true, false]);
    assert_eq!(verified(&[("VERIFY_SSL", "1")]), [true, true, true]);
}

#[test]
fn the_prefix_can_be_replaced() {
    let prefix = |environment| good_in(BASE, environment).model_prefix;
    assert_eq!(prefix(&[]).as_deref(), Some("File"));
    assert_eq!(prefix(&[("PROVIDER_SUFFIX", "Proxy")]).as_deref(), Some("Proxy"));
}

#[test]
fn the_admin_key_can_come_from_outside() {
    let key = |text: &str, environment: &[(&str, &str)]| {
        good_in(text, environment).admin.map(|admin| admin.key.expose().to_owned())
    };
    let (without, with) = (
        "admin: { listen: \"127.0.0.1:9090\" }",
        "admin: { listen: \"127.0.0.1:9090\", key: from-the-file-itself }",
    );
    let (new, old) =
        (("FOREBAY_ADMIN_KEY", "new-name-of-the-key"), ("ADMIN_KEY", "old-name-of-the-key"));
    assert_eq!(key(without, &[old]).as_deref(), Some("old-name-of-the-key"));
    assert_eq!(key(with, &[old]).as_deref(), Some("old-name-of-the-key"));
    assert_eq!(key(with, &[old, new]).as_deref(), Some("new-name-of-the-key"));
    assert_eq!(key(with, &[]).as_deref(), Some("from-the-file-itself"));
    assert_eq!(key("models: []", &[new]), None);
}

#[test]
fn a_variable_that_makes_no_sense_is_named_and_not_repeated() {
    let cases = [
        ("PORT", "a port number"),
        ("HOST", "an IP address"),
        ("VERIFY_SSL", "true or false"),
        ("PROVIDER_SUFFIX", "a name without a slash at its end"),
        ("FOREBAY_LISTEN", "one or more addresses such as 127.0.0.1:8080, with commas between"),
    ];
    for (name, wanted) in cases {
        let expected = format!("f: error: the environment variable `{name}` must be {wanted}");
        assert_eq!(said(BASE, &[(name, "odd value/")]), expected);
    }
}

#[test]
fn a_variable_never_changes_the_structure_of_the_file() {
    let tricky = "]\nanonymous: true\nkeys: [a: *b # ";
    let text = "models: [{ name: m, targets: [], response: { prefix: \"${TRICKY}\" } }]";
    let said = said(text, &[("TRICKY", tricky)]);
    assert_eq!(said, "f:1:30: error: `targets` is empty");
    let text = "cors:\n  allow_origins: ${TRICKY}";
    assert!(super::said(text, &[("TRICKY", "[\"*\"]")]).contains("`allow_origins` must be a list"));
}

#[test]
fn typed_values_are_read_from_the_expanded_text() {
    let environment = [("N", "4"), ("T", "250ms"), ("ON", "true"), ("S", "1MiB")];
    let text = "\
threads: ${N}
heartbeat: \"${T}\"
anonymous: ${ON}
limits: { body: \"${S}\", connections: \"${COUNT:-7}\" }
models:
  - match: { regex: \"^a${N}$\" }
    targets: [{ provider: p }]
    request:
      extra_body:
        n: ${N}
        s: \"${N}\"
providers: [{ name: p, kind: mock }]
";
    let config = good_in(text, &environment);
    assert_eq!(config.pingora.get("threads"), Some(&serde_yaml::Value::from(4)));
    assert_eq!(config.heartbeat, Some(std::time::Duration::from_millis(250)));
    assert!(config.anonymous);
    assert_eq!((config.limits.body, config.limits.connections), (1 << 20, 7));
    let model = config.models.first().expect("one model");
    assert!(matches!(&model.matcher, Some(Matcher::Regex(regex)) if regex.as_str() == "^a4$"));
    assert_eq!(serde_json::json!(model.request.extra_body), serde_json::json!({"n": 4, "s": "4"}));
}

#[test]
fn the_process_environment_goes_before_the_env_file() {
    let directory = std::env::temp_dir().join(format!("forebay-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = directory.join("forebay.yaml");
    std::fs::write(&file, "threads: ${FROM_DOTENV}\n").expect("the file");
    std::fs::write(directory.join(".env"), "FROM_DOTENV=3\nPATH=elsewhere\n").expect("the .env");
    let source = Source::read(&file).expect("both can be read");
    std::fs::write(directory.join(".env"), "A=1\noops hunter2\n").expect("the .env");
    let refused = Source::read(&file).expect_err("a broken .env").to_string();
    let missing = Source::read(&directory.join("none.yaml")).expect_err("no file").to_string();
    std::fs::remove_dir_all(&directory).expect("it was there");

    assert_eq!(source.environment.get("FROM_DOTENV").map(String::as_str), Some("3"));
    assert_ne!(source.environment.get("PATH").map(String::as_str), Some("elsewhere"));
    let (config, _) = load(&source).expect("a good file");
    assert_eq!(config.pingora.get("threads"), Some(&serde_yaml::Value::from(3)));
    assert!(refused.ends_with(".env: line 2 is not KEY=VALUE"), "{refused}");
    assert!(missing.contains("none.yaml: "), "{missing}");
}
