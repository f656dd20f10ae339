//! A configuration with mistakes changes nothing, and is told of.

use serde_json::Value;

use crate::support::answer::Answer;
use crate::support::gateway::{self, Gateway};
use crate::support::port::Port;
use crate::support::upstream::{self, Upstream};

async fn served() -> (Upstream, Gateway) {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::front(&upstream).await;
    (upstream, gateway)
}

async fn configuration(gateway: &Gateway) -> Value {
    gateway.health().await["configuration"].clone()
}

fn mistakes(configuration: &Value) -> Vec<String> {
    let mistakes = configuration["last_reload"]["mistakes"].as_array().unwrap().iter();
    mistakes.map(|mistake| mistake.as_str().unwrap().to_owned()).collect()
}

/// What `forebay check` says of the gateway's file.
fn checked(gateway: &Gateway) -> Vec<String> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
    let output = command.arg("check").arg("-c").arg(gateway.file()).env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn before_the_first_reload_there_is_a_version_and_no_outcome() {
    let (_upstream, gateway) = served().await;
    let configuration = configuration(&gateway).await;
    let version = configuration["version"].as_str().unwrap();
    assert!(version.len() == 12 && version.bytes().all(|b| b.is_ascii_hexdigit()), "{version}");
    assert!(configuration["loaded_at"].as_str().unwrap().ends_with('Z'), "{configuration}");
    assert_eq!(configuration["last_reload"], Value::Null);
    assert_eq!(configuration["waiting_for_upgrade"], Value::Array(Vec::new()));
    gateway.counts("forebay_config_last_reload_successful", 1).await;
    gateway.counts(r#"forebay_config_reloads_total{outcome="failed"}"#, 0).await;
    assert!(
        gateway.metrics().await.contains("forebay_config_last_reload_success_timestamp_seconds 1")
    );
}

#[tokio::test]
async fn every_kind_of_mistake_leaves_the_old_one_in_force_and_a_good_file_heals() {
    let (upstream, gateway) = served().await;
    let good = std::fs::read_to_string(gateway.file()).unwrap();
    let old = configuration(&gateway).await;
    let twice = good.replace("providers:", "providers:\n  - { name: p, kind: mock }");
    let tls = good.replace(
        "models:",
        "  - { name: q, kind: openai, api_keys: [x], tls: { ca_file: /nowhere.pem } }\nmodels:",
    );
    let cases = [
        ("broken", "providers: [".to_owned(), 1, "forebay.yaml:"),
        ("unknown", good.replace("base_url", "base_ulr"), 2, "did you mean `base_url`"),
        ("twice", twice, 1, "forebay.yaml:4:"),
        (
            "several",
            good.replace("kind: vllm", "kind: vlm") + "heartbeat: soon\nlimits: { body: much }\n",
            3,
            "`heartbeat`",
        ),
        ("binary", "\u{0}\u{1}".to_owned(), 1, "forebay.yaml"),
        ("variable", good.replace("name: m,", "name: \"${NOT_SET}\","), 1, "NOT_SET"),
        ("authority", tls, 1, "/nowhere.pem"),
    ];
    let mut failed = 0;
    for (what, text, least, word) in cases {
        std::fs::write(gateway.file(), &text).unwrap();
        assert!(!gateway.reload().await, "{what}: accepted");
        failed += 1;
        let now = configuration(&gateway).await;
        assert_eq!(
            (&now["version"], &now["loaded_at"]),
            (&old["version"], &old["loaded_at"]),
            "{what}"
        );
        assert_eq!(now["last_reload"]["outcome"], "failed", "{what}");
        let mistakes = mistakes(&now);
        assert!(mistakes.len() >= least, "{what}: {mistakes:?}");
        assert!(mistakes.iter().any(|mistake| mistake.contains(word)), "{what}: {mistakes:?}");
        // Warnings are no mistakes.
        let said: Vec<String> =
            checked(&gateway).into_iter().filter(|line| line.contains("error: ")).collect();
        assert_eq!(mistakes, said, "{what}");
        let log = gateway.log();
        assert!(mistakes.iter().all(|mistake| log.contains(mistake)), "{what}: {log}");
        gateway.counts("forebay_config_last_reload_successful", 0).await;
        let metrics = gateway.metrics().await;
        let count = r#"forebay_config_reloads_total{outcome="failed"} "#;
        let count = metrics.lines().find_map(|line| line.strip_prefix(count)).unwrap();
        // The change alone may have caused one, too.
        assert!(count.parse::<usize>().unwrap() >= failed, "{what}: {metrics}");
        assert_eq!(gateway.client().chat("hi").await.said(), "hello", "{what}");
        let health = gateway.client().get("/health").await.ok().json();
        assert_eq!(health["status"], "ok", "{what}");
    }
    std::fs::write(gateway.file(), good + "heartbeat: 5s\n").unwrap();
    assert!(gateway.reload().await);
    let now = configuration(&gateway).await;
    assert_eq!(now["last_reload"]["outcome"], "ok");
    assert_eq!(mistakes(&now), Vec::<String>::new());
    assert_ne!(now["version"], old["version"]);
    assert_ne!(now["loaded_at"], old["loaded_at"]);
    gateway.counts("forebay_config_last_reload_successful", 1).await;
    assert_eq!(gateway.client().chat("hi").await.said(), "hello");
    assert_eq!(upstream.count(), 8);
}

#[tokio::test]
async fn a_file_that_says_nothing_takes_nothing_away() {
    let (_upstream, gateway) = served().await;
    let good = std::fs::read_to_string(gateway.file()).unwrap();
    // All of them are valid, and the first is what a full disk leaves of a file.
    for text in ["", "# a comment\n", good.split("models:").next().unwrap()] {
        std::fs::write(gateway.file(), text).unwrap();
        assert!(!gateway.reload().await, "{text:?}: accepted");
        let told = mistakes(&configuration(&gateway).await);
        assert!(told[0].contains("nothing is left to ask for"), "{told:?}");
        assert_eq!(gateway.client().chat("hi").await.said(), "hello");
    }
}

#[tokio::test]
async fn a_file_that_is_away_or_may_not_be_read_changes_nothing() {
    let (_upstream, gateway) = served().await;
    let aside = gateway.file().with_file_name("aside");
    std::fs::rename(gateway.file(), &aside).unwrap();
    assert!(!gateway.reload().await);
    let told = mistakes(&configuration(&gateway).await);
    assert!(told[0].contains("forebay.yaml") && told[0].contains("No such file"), "{told:?}");
    assert_eq!(gateway.client().chat("hi").await.said(), "hello");

    std::fs::create_dir(gateway.file()).unwrap();
    assert!(!gateway.reload().await);
    std::fs::remove_dir(gateway.file()).unwrap();

    std::fs::rename(&aside, gateway.file()).unwrap();
    std::fs::write(gateway.file().with_file_name(".env"), "no line of one\n").unwrap();
    assert!(!gateway.reload().await);
    let told = mistakes(&configuration(&gateway).await);
    assert!(told[0].contains(".env") && told[0].contains("line 1"), "{told:?}");
    std::fs::remove_file(gateway.file().with_file_name(".env")).unwrap();
    assert!(gateway.reload().await);
}

#[tokio::test]
async fn no_secret_is_told_whatever_is_wrong_around_it() {
    let upstream = upstream::chat("hello").await;
    let secrets =
        ["s3cr3t-of-provider", "s3cr3t-of-caller-a", "s3cr3t-in-a-header", "s3cr3t-of-dot-env"];
    let [provider, caller, header, dotenv] = secrets;
    let yaml = gateway::FRONT.replace(
        "type: none }",
        &format!(
            "type: none }}, api_keys: [{provider}, \"${{DOTENV}}\"], headers: {{ x-a: {header} }}"
        ),
    );
    let yaml = format!("{yaml}keys: [{{ name: a, key: {caller} }}]\n");
    let plan = gateway::with(&yaml).up("up", &upstream);
    std::fs::write(plan.dir().join(".env"), format!("DOTENV={dotenv}\n")).unwrap();
    let gateway = plan.start().await;
    let good = std::fs::read_to_string(gateway.file()).unwrap();
    for (from, to) in [
        ("api_keys", "api_kees"),
        ("keys: [{ name: a", "keys: [{ name: b, key: x }, { nam: a"),
        ("headers: { x-a", "headers: { host"),
        ("type: none", "type: nothing"),
        ("key: s3", "key: \"a b s3"),
        ("models:", "models"),
    ] {
        std::fs::write(gateway.file(), good.replacen(from, to, 1)).unwrap();
        assert!(!gateway.reload().await, "{to}: accepted");
    }
    let health = gateway.client().key(caller).get("/health/detailed").await.ok().text();
    assert!(!gateway.log().contains("s3cr3t"), "{}", gateway.log());
    assert!(!health.contains("s3cr3t"), "{health}");
}

#[tokio::test]
async fn what_only_an_upgrade_can_change_is_named_and_the_rest_is_in_force() {
    let (_upstream, gateway) = served().await;
    let other = Port::take();
    gateway.configure(|yaml| {
        let more = format!("listen: [{{ address: \"{}\" }}, ", other.address());
        let yaml = yaml.replace("listen: [", &more).replace("threads: 2", "threads: 3");
        yaml.replace("name: m,", "name: n,") + "timeouts: { client_idle: 9s }\n"
    });
    assert!(gateway.reload().await);
    let waiting = ["listen", "threads", "timeouts.client_idle"];
    assert_eq!(configuration(&gateway).await["waiting_for_upgrade"], serde_json::json!(waiting));
    for name in waiting {
        let line = format!("`{name}` has changed: `forebay upgrade` puts it into force");
        let log = gateway.log();
        assert_eq!(log.matches(&line).count(), log.matches(" is in force: ").count(), "{log}");
    }
    gateway.client().chat("hi").await.refused(404, "model_not_found");
    assert!(std::net::TcpStream::connect(other.address()).is_err(), "nobody said so");

    gateway.configure(|yaml| {
        yaml.replace("threads: 3", "threads: 2").replace("client_idle: 9s", "drain: 9s")
    });
    assert!(gateway.reload().await);
    assert_eq!(configuration(&gateway).await["waiting_for_upgrade"], serde_json::json!(["listen"]));
}

#[tokio::test]
async fn a_listener_that_is_open_to_the_world_keeps_its_door_shut() {
    let upstream = upstream::chat("hello").await;
    let port = Port::take();
    let listen = format!("listen: [{{ address: \"0.0.0.0:{}\" }}]", port.number);
    let keys = "keys: [{ name: a, key: key-of-caller-a-1 }]\n";
    let yaml = format!("{}{listen}\n{keys}", gateway::FRONT);
    let gateway = gateway::with(&yaml).up("up", &upstream).at(port).start().await;
    gateway.client().chat("hi").await.refused(401, "invalid_api_key");
    // A good file for a start: on loopback nobody needs a key. But this process listens elsewhere.
    gateway.configure(|yaml| yaml.replace("0.0.0.0", "127.0.0.1").replace(keys, ""));
    assert!(!gateway.reload().await);
    assert!(gateway.log().contains("can be reached from outside"), "{}", gateway.log());
    gateway.client().chat("hi").await.refused(401, "invalid_api_key");
    gateway.client().key("key-of-caller-a-1").chat("hi").await.ok();
}

#[tokio::test]
async fn a_provider_that_does_not_answer_keeps_no_good_file_out() {
    let (_upstream, gateway) = served().await;
    let dead = upstream::refusing();
    let silent = upstream::always(Answer::silence()).await;
    let more = format!(
        "providers:\n  - {{ name: dead, kind: vllm, base_url: \"http://{}\" }}\n  - {{ name: silent, kind: openai_compatible, base_url: \"http://{}\" }}\n  - {{ name: unknown, kind: vllm, base_url: \"http://no-such-host.invalid\" }}\n",
        dead.address(),
        silent.address
    );
    gateway.configure(|yaml| yaml.replace("providers:\n", &more));
    assert!(gateway.reload().await, "{}", gateway.log());
    assert_eq!(gateway.client().chat("hi").await.said(), "hello");
}
