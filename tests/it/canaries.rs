//! What strict privacy keeps of a caller: nothing, wherever one looks.

use std::path::PathBuf;

use serde_json::json;

use crate::support::answer::{Answer, Ending};
use crate::support::client::{CHAT, Client, chat_body, stream_body};
use crate::support::dialects::{ALL, Dialect};
use crate::support::gateway::{self, Gateway};
use crate::support::secrets;
use crate::support::until;
use crate::support::upstream::{self, Upstream};

const CONFIGURATION: &str = r#"
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none }, ejection: off, api_keys: [provider-canary-aaaa, provider-canary-bbbb], headers: { X-Secret: header-canary } }
  - { name: claude, kind: anthropic, base_url: "http://@up", health_check: { type: none }, ejection: off, api_keys: [provider-canary-cccc] }
models:
  - { name: m, targets: [{ provider: p }] }
  - { name: claude, targets: [{ provider: claude }] }
default_provider: p
trusted_proxies: ["127.0.0.0/8"]
users: { max_ips: 3 }
abuse:
  per_address: { requests_per_minute: 100000 }
  rules: [{ name: told, phrases: [prompt-canary], action: log }]
responses: { store: memory }
"#;
const KEYS: &str = "keys: [{ name: team, key: client-canary-key-1 }, { name: quiet, key: client-canary-key-2, privacy: strict }]\n";
/// All content is kept of whom it may be.
const AUDIT: &str = "audit: { enabled: true, content: full, store: \"sqlite:@dir/audit.db\" }";
/// Where it calls from, and whom it says it speaks for.
const HERE: &str = "127.77.13.5";
const FARTHER: &str = "198.51.100.77";
/// Who called, from where, with what, and what was said.
const CANARIES: [&str; 9] = [
    "client-canary",
    "provider-canary",
    "header-canary",
    "unknown-canary",
    "prompt-canary",
    "answer-canary",
    "device-canary",
    HERE,
    FARTHER,
];

fn device(client: &Client, path: &str, body: String) -> crate::support::client::Request {
    let request = client.post(path, body).header("user-agent", "device-canary/1.0");
    let request = request.header("x-stainless-os", "device-canary-os");
    let request = request.header("sec-ch-ua-platform", "device-canary-platform");
    let request = request.header("baggage", "device-canary=1");
    request.header("x-forwarded-for", FARTHER)
}

fn said(dialect: Dialect, model: &str, stream: bool) -> String {
    dialect.body(model, "prompt-canary", stream).to_string()
}

/// All that happens to requests, good and bad.
async fn everything(gateway: &Gateway, upstream: &Upstream, key: &str) {
    let client = gateway.client().key(key).at(HERE);
    let answers = [
        Answer::chat("answer-canary"),
        Answer::words(&["answer-canary"], true),
        Answer::error(500, "answer-canary"),
        Answer::error(401, "provider-canary-aaaa is wrong"),
        Answer::error(429, "answer-canary"),
        Answer::error(400, "answer-canary"),
        Answer::chat("answer-canary").ending(Ending::CutBeforeHead),
        Answer::chat("answer-canary").ending(Ending::Cut),
        Answer::events(["data: {\"choices\":[{\"delta\":{\"content\":\"answer-canary\"}}]}\n\n"]),
        Answer::events(["data: {\"error\":\"answer-canary\"}\n\n"]),
        Answer::raw("answer-canary\r\n\r\n"),
    ];
    for answer in answers {
        upstream.behave(move |_| answer.clone());
        for dialect in ALL {
            for (model, stream) in [("m", false), ("m", true), ("claude", true)] {
                let (path, body) = (dialect.path(model, stream), said(dialect, model, stream));
                device(&client, &path, body).try_send().await;
            }
        }
    }
    for (path, body) in [
        (CHAT, r#"{"model":"m","messages":"prompt-canary"#),
        (CHAT, r#"{"model":"prompt-canary"}"#),
        ("/v1/prompt-canary", "{}"),
        ("/v1/embeddings", r#"{"model":"m","input":"prompt-canary"}"#),
        ("/v1/files?key=unknown-canary", "prompt-canary"),
        ("/v1/responses", r#"{"model":"m","input":"prompt-canary","previous_response_id":"x"}"#),
    ] {
        device(&client, path, body.to_owned()).try_send().await;
    }
    let stranger = gateway.client().key("unknown-canary-key").at(HERE);
    device(&stranger, CHAT, chat_body("prompt-canary").to_string()).send().await;
    // Who leaves before the answer is whole.
    upstream.behave(|_| Answer::chat("answer-canary").ending(Ending::Silence));
    let stream = stream_body("prompt-canary").to_string();
    drop(device(&client, CHAT, stream).begin().await);
    upstream.behave(|_| Answer::chat("answer-canary"));
    let last = device(&client, CHAT, chat_body("prompt-canary").to_string());
    last.header("x-request-id", "the-last-one").send().await;
    until("the last line", || gateway.log().contains("the-last-one")).await;
}

/// Everything that operators can ask for.
async fn shown(gateway: &Gateway) -> String {
    let operator = gateway.operator().key(gateway::ADMIN_KEY);
    let mut all = gateway.metrics().await;
    for path in ["config", "providers", "keys", "users", "usage", "audit"] {
        all.push_str(&operator.get(&format!("/admin/v1/{path}")).await.text());
    }
    all
}

fn not_in(text: &str, canaries: &[&str]) {
    for canary in canaries {
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(canary)).collect();
        assert!(lines.is_empty(), "{canary}: {}", lines.join("\n"));
    }
}

async fn started(more: &str) -> (Upstream, Gateway) {
    let upstream = upstream::chat("answer-canary").await;
    let yaml = format!("{CONFIGURATION}{KEYS}{more}\n");
    let plan = gateway::with(&yaml).up("up", &upstream).env("RUST_LOG", "trace");
    let plan = plan.env("FAILPOINTS", "proxy::write_request=20%panic;proxy::read_body=2%panic");
    (upstream, plan.start().await)
}

/// Waits until the audit has the last call.
async fn audited(gateway: &Gateway) {
    let has = |(path, bytes): &(PathBuf, Vec<u8>)| {
        let audit = path.to_string_lossy().contains("audit.db");
        audit && memchr::memmem::find(bytes, b"the-last-one").is_some()
    };
    until("its row", || secrets::written(gateway.dir()).iter().any(has)).await;
}

fn providers_know_nothing(upstream: &Upstream) {
    let heads: Vec<String> =
        upstream.calls().iter().map(|call| format!("{:?}", call.head)).collect();
    let heads = heads.join(
        "
",
    );
    assert!(heads.contains("forebay/"), "{heads}");
    not_in(&heads, &["client-canary", "device-canary", HERE, FARTHER]);
}

#[tokio::test]
async fn nothing_of_a_caller_is_written_anywhere_where_privacy_is_strict() {
    let log = "access_log: { format: json, to: \"@dir/access.jsonl\" }";
    let (upstream, gateway) = started(&format!("privacy: strict\n{log}\n{AUDIT}")).await;
    everything(&gateway, &upstream, "client-canary-key-1").await;
    audited(&gateway).await;
    not_in(&shown(&gateway).await, &CANARIES);
    secrets::nowhere(gateway.dir(), &CANARIES);
    providers_know_nothing(&upstream);
}

#[tokio::test]
async fn nothing_of_a_caller_is_written_anywhere_whose_key_is_private() {
    let (upstream, gateway) = started(AUDIT).await;
    upstream.behave(|_| Answer::chat("hello"));
    let team = gateway.client().key("client-canary-key-1").at(HERE);
    while device(&team, CHAT, chat_body("hi").to_string()).send().await.status != 200 {}
    until("others are told of", || gateway.log().contains(&format!("client={FARTHER}"))).await;
    let told = upstream.calls().pop().unwrap();
    assert_eq!(told.header("user-agent"), Some("device-canary/1.0"));
    upstream.forget();
    everything(&gateway, &upstream, "client-canary-key-2").await;
    audited(&gateway).await;
    // The stranger had no such key.
    let log = gateway.log();
    let lines = log.lines().filter(|line| line.contains("key=quiet"));
    not_in(&lines.collect::<Vec<_>>().join("\n"), &CANARIES);
    assert!(log.contains("key=quiet"), "{log}");
    let said = ["prompt-canary", "answer-canary", "client-canary", "provider-canary"];
    secrets::nowhere(gateway.dir(), &said);
    providers_know_nothing(&upstream);
}

#[tokio::test]
async fn a_listener_may_be_private_beside_one_that_is_not() {
    let upstream = upstream::chat("answer-canary").await;
    let quiet = crate::support::port::Port::take();
    let listen = format!(
        "listen: [{{ address: \"@listen\" }}, {{ address: \"{}\", privacy: strict }}]",
        quiet.address()
    );
    let yaml = format!("{}\n{listen}\n", gateway::FRONT);
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    for (address, id) in
        [(gateway.address, "the-loud-one"), (quiet.address().parse().unwrap(), "the-quiet-one")]
    {
        let client = Client::new(address).at(HERE);
        let request = device(&client, CHAT, json!({"model": "m"}).to_string());
        request.header("x-request-id", id).send().await.ok();
        until("the line", || gateway.log().contains(id)).await;
    }
    let log = gateway.log();
    let line = |id: &str| log.lines().find(|line| line.contains(id)).unwrap().to_owned();
    assert!(line("the-loud-one").contains(HERE), "{log}");
    assert!(!line("the-quiet-one").contains(HERE), "{log}");
    let agents: Vec<_> =
        upstream.calls().iter().map(|call| call.header("user-agent").unwrap().to_owned()).collect();
    assert_eq!(agents[0], "device-canary/1.0");
    assert!(agents[1].starts_with("forebay/"), "{agents:?}");
}

#[tokio::test]
async fn what_is_kept_and_told_on_can_be_said_one_by_one() {
    let upstream = upstream::chat("answer-canary").await;
    let yaml = format!("{}\nprivacy: {{ forward_device_headers: false }}\n", gateway::FRONT);
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    device(&gateway.client().at(HERE), CHAT, json!({"model": "m"}).to_string()).send().await.ok();
    until("the line", || gateway.log().contains(&format!("client={HERE}"))).await;
    providers_know_nothing(&upstream);
}

#[tokio::test]
async fn one_key_and_a_port_on_the_command_line_keep_nothing_of_a_caller() {
    let upstream = upstream::chat("answer-canary").await;
    let port = crate::support::port::Port::take();
    let (at, number) = (format!("http://{}", upstream.address), port.number.to_string());
    let arguments = ["run", "-a", "provider-canary-of-all", "-p", &number, "--upstream", &at];
    let gateway = gateway::by_arguments(&arguments, port).start().await;
    let client = gateway.client().key("client-canary-key-9").at(HERE);
    let request = device(&client, CHAT, chat_body("prompt-canary").to_string());
    request.header("x-request-id", "the-only-one").send().await.ok();
    until("the line", || gateway.log().contains("the-only-one")).await;
    secrets::nowhere(gateway.dir(), &CANARIES);
    let head = format!("{:?}", upstream.call().head);
    not_in(&head, &["device-canary", HERE, FARTHER]);
}

#[tokio::test]
async fn a_key_that_operators_make_may_be_private() {
    let upstream = upstream::chat("answer-canary").await;
    let yaml = format!("{}trusted_proxies: [\"127.0.0.0/8\"]\n", gateway::FRONT);
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let operator = gateway.operator().key(gateway::ADMIN_KEY);
    let form = json!({"id": "quiet", "name": "quiet", "privacy": "strict"}).to_string();
    let made = operator.post("/admin/v1/keys", form).send().await.json();
    assert_eq!(made["privacy"], "strict", "{made}");
    let client = gateway.client().key(made["key"].as_str().unwrap()).at(HERE);
    let request = device(&client, CHAT, chat_body("prompt-canary").to_string());
    let request = request.header("x-request-id", "the-quiet-one");
    crate::support::eventually("the key is known", async || {
        (request.send().await.status == 200).then_some(())
    })
    .await;
    until("the line", || gateway.log().contains("key=quiet")).await;
    let log = gateway.log();
    let lines = log.lines().filter(|line| line.contains("key=quiet"));
    not_in(&lines.collect::<Vec<_>>().join("\n"), &CANARIES);
    providers_know_nothing(&upstream);
}
