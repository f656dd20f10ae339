//! What is accepted, and what it is read as.

use std::time::Duration;

use super::*;

#[test]
fn an_empty_file_is_all_defaults() {
    for text in ["", "---\n", "# nothing\n", "{}", "\u{feff}"] {
        assert_eq!(good(text), Config::default(), "{text:?}");
    }
    let config = Config::default();
    assert_eq!(config.listen, [Listen::loopback(8080)]);
    assert_eq!(config.heartbeat, Some(Duration::from_secs(15)));
    assert!(config.open());
}

#[test]
fn the_contract_reads_as_it_is_meant() {
    let config = good(CONTRACT);
    let [pool, openai, azure] = config.providers.as_slice() else { panic!("three providers") };
    let weights: Vec<_> = pool.endpoints.iter().map(|e| (e.url.to_string(), e.weight)).collect();
    assert_eq!(
        weights,
        [("http://10.0.0.11:8000".to_owned(), 2), ("http://10.0.0.12:8000".to_owned(), 1)]
    );
    assert!(pool.api_keys.is_empty(), "empty keys are dropped");
    assert_eq!(pool.timeouts.first_byte, Duration::from_mins(5));
    assert_eq!(pool.ejection, Some(Ejection::default()));
    assert_eq!(openai.api_keys.len(), 2);
    assert_eq!(openai.client_auth, ClientAuth::PreferClient);
    assert_eq!(openai.ejection, None);
    assert_eq!(openai.headers, [("OpenAI-Organization".to_owned(), Secret::new("org-123"))]);
    assert_eq!(openai.tls.server_name.as_deref(), Some("api.openai.com"));
    assert_eq!(azure.api_version.as_deref(), Some("v1"));

    let [llama, small, rest] = config.models.as_slice() else { panic!("three models") };
    assert_eq!(llama.aliases, ["llama", "gpt-3.5-turbo"]);
    assert_eq!(llama.targets.iter().map(|target| target.weight).collect::<Vec<_>>(), [10, 0]);
    assert_eq!(llama.fallback, ["small"], "an alias of a fallback is made its name");
    assert_eq!(llama.request.max_tokens, Some(4096));
    assert_eq!(llama.request.thinking_history, ThinkingHistory::Strip);
    assert_eq!(llama.response.prefix.as_deref(), Some("<think>\n"));
    assert_eq!(
        serde_json::json!(llama.request.extra_body),
        serde_json::json!({"top_k": 20, "min_p": 0.5, "seed": null, "text": "20", "list": [true, {"a": "b"}]})
    );
    assert_eq!(small.request.stop, ["</s>"]);
    assert_eq!(rest.matcher, Some(Matcher::Prefix(vec!["gpt-".to_owned()])));

    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let digests: Vec<_> = config.keys.iter().map(|key| hex::encode(key.digest)).collect();
    assert_eq!(digests.get(1).map(String::as_str), Some(digest));
    assert_eq!(
        config.keys.first().and_then(|key| key.allowed_models.clone()).unwrap(),
        ["llama-*"]
    );
    assert_eq!(config.privacy, Privacy::STRICT);
    assert_eq!(config.heartbeat, None);
    assert_eq!(config.retry.on.statuses, [429, 503]);
    assert!(config.retry.on.connect && !config.retry.on.timeout);
    let networks: Vec<_> = config.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.168.1.1/32", "fd00::/8"]);
    assert_eq!(config.pingora.len(), 4);
    assert!(!config.open());
}

const CONTRACT: &str = r#"
version: 1
threads: 2
upgrade_sock: /run/forebay/upgrade.sock
fast_timeout_to_tokio_threshold_seconds: null
listen:
  - address: 0.0.0.0:8080
  - address: "[::]:8443"
    tls: { cert: /etc/forebay/tls.crt, key: /etc/forebay/tls.key }
providers:
  - name: pool-a
    kind: vllm
    endpoints:
      - { url: "http://10.0.0.11:8000", weight: 2 }
      - { url: "http://10.0.0.12:8000/" }
    api_keys: ["${NO_KEY}", "${VLLM_KEY:-}"]
    load_balancing: least_requests
    health_check: { type: http, path: /health, interval: 5s, timeout: 2s, healthy_after: 1, unhealthy_after: 3 }
    timeouts: { connect: 1s, first_byte: 300s, between_chunks: 300s, idle_pool: 3s }
    ejection: { after: 5, base: 30s, max: 300s, share: 50% }
    dialect: openai_chat
  - name: openai
    kind: openai
    base_url: https://api.openai.com/v1
    api_keys: [one, two]
    client_auth: prefer_client
    tls: { verify: true, ca_file: /etc/forebay/extra-ca.pem, server_name: api.openai.com }
    headers: { OpenAI-Organization: org-123 }
    ejection: off
  - { name: azure-eu, kind: azure, base_url: "https://x.openai.azure.com", api_keys: "three" }
models:
  - name: llama-70b
    aliases: [llama, "gpt-3.5-turbo"]
    targets:
      - { provider: pool-a, model: meta-llama/Llama-3.1-70B-Instruct, weight: 10 }
      - { provider: openai, model: gpt-5-mini, weight: 0 }
    fallback: [tiny]
    request:
      max_tokens: 4096
      stop: ["</s>"]
      extra_body: { top_k: 20, min_p: 0.5, seed: , text: "20", list: [true, { a: b }] }
      thinking_history: strip
    response:
      prefix: "<think>\n"
      thinking: passthrough
  - name: small
    aliases: [tiny]
    targets: [{ provider: azure-eu }]
    request: { stop: "</s>" }
  - match: { prefix: "gpt-" }
    targets: [{ provider: openai }]
model_prefix: Proxy
default_provider: openai
keys:
  - { name: team-a, key: "${KEY}", allowed_models: ["llama-*"] }
  - { name: team-b, key_sha256: 9F86D081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 }
anonymous: false
privacy: strict
cors: { allow_origins: ["*", "https://chat.example.org", "http://localhost:3000"] }
trusted_proxies: ["10.0.0.0/8", 192.168.1.1, "fd00::/8"]
limits: { body: 32MiB, upload: 512MiB, headers: 64KiB, connections: 10000, connections_per_ip: 256 }
timeouts: { request_header: 10s, request_body: 1m, client_write: 60s, client_idle: 75s, drain: 120s, upgrade_drain: 600s }
retry: { attempts: 3, budget: 20%, on: [connect, 503, 429] }
heartbeat: 0
"#;

#[test]
fn who_waits_for_a_provider_is_said_there_and_how_one_stands_with_its_key() {
    let config = good(
        r#"
providers:
  - name: p
    kind: vllm
    base_url: http://a:8000
    admission: { max_concurrent: 64, queue: 10, wait: 5s, spill_after: 2s, kv_limit: 90%, priority: true }
  - { name: q, kind: vllm, base_url: "http://a:8000", admission: { max_concurrent: 8 } }
  - { name: r, kind: vllm, base_url: "http://a:8000", admission: off }
keys:
  - { name: k, key: a-key-of-some-length, priority: high, weight: 3 }
  - { name: l, key: another-of-some-length, priority: -7 }
"#,
    );
    let admissions: Vec<_> = config.providers.iter().map(|provider| provider.admission).collect();
    let seconds = Duration::from_secs;
    let all = Admission {
        max_concurrent: 64,
        queue: 10,
        wait: seconds(5),
        spill_after: Some(seconds(2)),
        kv_limit: Percent(90),
        priority: true,
    };
    let least = Admission {
        max_concurrent: 8,
        queue: 256,
        wait: seconds(30),
        spill_after: None,
        kv_limit: Percent(95),
        priority: false,
    };
    assert_eq!(admissions, [Some(all), Some(least), None]);
    let ranks: Vec<_> = config.keys.iter().map(|key| key.rank).collect();
    assert_eq!((ranks[0].priority, ranks[0].weight), (Some(Priority::HIGH), Some(3)));
    assert_eq!((ranks[1].priority, ranks[1].weight), (Priority::new(-7), None));
}

#[test]
fn a_kind_brings_its_own_defaults() {
    let provider = |rest: &str| {
        let config = good(&format!("providers: [{{ name: p, {rest} }}]"));
        config.providers.into_iter().next().expect("one provider")
    };
    let vllm = provider("kind: vllm, base_url: 'http://a:8000'");
    let compatible = provider("kind: openai_compatible, base_url: 'http://a:8000'");
    let openai = provider("kind: openai");
    let mock = provider("kind: mock, mock: { tokens: 5, delay: 0, interval: 10ms, fail: always }");
    assert!(matches!(&vllm.health_check, HealthCheck::Http { path, .. } if path == "/health"));
    assert!(matches!(compatible.health_check, HealthCheck::Tcp(_)));
    assert_eq!((openai.health_check, mock.health_check), (HealthCheck::None, HealthCheck::None));
    assert_eq!((vllm.timeouts.connect, vllm.timeouts.idle_pool), seconds(1, 3));
    assert_eq!((openai.timeouts.connect, openai.timeouts.idle_pool), seconds(5, 60));
    assert_eq!(openai.endpoints, [Endpoint::new("https://api.openai.com/v1".parse().unwrap())]);
    assert_eq!(mock.mock.as_ref().and_then(|mock| mock.tokens), Some(5));
    assert!(mock.endpoints.is_empty());
    assert_eq!(provider("kind: mock, base_url: 'http://a'").mock, None);
}

fn seconds(first: u64, second: u64) -> (Duration, Duration) {
    (Duration::from_secs(first), Duration::from_secs(second))
}

#[test]
fn aliases_share_a_value() {
    let text = "\
providers: [{ name: p, kind: mock }]
models:
  - { name: a, targets: &t [{ provider: p }] }
  - { name: b, targets: *t }
";
    let config = good(text);
    let [a, b] = config.models.as_slice() else { panic!("two models") };
    assert_eq!(a.targets, b.targets);
}

#[test]
fn all_weights_may_be_zero() {
    let target = "{ provider: p, weight: 0 }";
    let text = format!(
        "providers: [{{ name: p, kind: mock }}]\nmodels: [{{ name: m, targets: [{target}] }}]"
    );
    assert_eq!(said(&text, &[]), "");
}

#[test]
fn a_door_is_open_only_on_purpose() {
    assert!(good("anonymous: true\nlisten: [{ address: \"0.0.0.0:80\" }]").open());
    assert!(good("listen: [{ address: \"127.0.0.2:80\" }, { address: \"[::1]:80\" }]").open());
    assert!(!good("keys: [{ name: k, key: \"${KEY}\" }]").open());
}

#[test]
fn without_a_file_there_is_a_mock_on_loopback() {
    let mut source = Source::without_file();
    source.environment.clear();
    let (config, problems) = load(&source).unwrap();
    assert_eq!(problems, []);
    assert_eq!(config.listen, [Listen::loopback(8080)]);
    assert_eq!(
        config.providers.first().and_then(|mock| mock.mock.clone()),
        Some(MockOptions::default())
    );
    assert_eq!(config.models.first().and_then(|model| model.name.as_deref()), Some("mock"));

    source.environment.insert("FOREBAY_LISTEN".to_owned(), "127.0.0.1:9123".to_owned());
    assert_eq!(load(&source).unwrap().0.listen, [Listen::loopback(9123)]);
}

#[test]
fn one_upstream_needs_no_file() {
    let openai: Url = "https://api.openai.com/v1/".parse().unwrap();
    let config = Config::single(openai.clone(), Some(Secret::new("sk-1234567890abcdef")), 9000);
    let text = "\
listen: [{ address: \"127.0.0.1:9000\" }]
providers: [{ name: upstream, kind: openai, api_keys: [sk-1234567890abcdef], client_auth: prefer_client }]
models: [{ match: { prefix: \"\" }, targets: [{ provider: upstream }] }]
default_provider: upstream
privacy: strict
";
    let mut read = good(text);
    forget_places(&mut read);
    assert_eq!(config, read);

    let other =
        Config::single("http://10.0.0.1:8000/v1".parse().unwrap(), Some(Secret::new("")), 1);
    let provider = other.providers.first().expect("one provider");
    assert_eq!((provider.kind, provider.api_keys.len()), (Kind::OpenaiCompatible, 0));
}

fn forget_places(config: &mut Config) {
    for provider in &mut config.providers {
        provider.location = Location::default();
    }
    for model in &mut config.models {
        model.location = Location::default();
        for target in &mut model.targets {
            target.location = Location::default();
        }
    }
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?}", good(CONTRACT));
    for secret in ["org-123", "\"one\"", "three", "sk-forebay", "9f86d0"] {
        assert!(!shown.contains(secret), "{secret}");
    }
    assert_eq!(Secret::new("sk-1234567890abcd").hint(), "…abcd");
    assert_eq!(Secret::new("short-key12").hint(), "…");
}

#[test]
fn every_example_loads_without_a_word() {
    let names = ["forebay", "vllm", "minimal", "team"];
    let stand_in = [
        ("FOREBAY_KEY_TEAM_A", "sk-forebay-stand-in-a"),
        ("FOREBAY_KEY_TEAM_B", "sk-forebay-stand-in-b"),
        ("FOREBAY_ADMIN_KEY", "sk-forebay-stand-in-admin"),
        ("OPENAI_API_KEY", "sk-stand-in"),
        ("OPENAI_API_KEY_2", "sk-stand-in-2"),
        ("AZURE_API_KEY", "stand-in"),
        ("FOREBAY_KEY_CI", "sk-forebay-stand-in-c"),
        ("FOREBAY_ENCRYPTION_KEY", "stand-in-for-a-long-one"),
        ("FOREBAY_GUEST_PASSWORD", "stand-in-for-a-password"),
    ];
    for name in names {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("conf/{name}.yaml"));
        let text = std::fs::read_to_string(&path).expect("the example is there");
        assert_eq!(said(&text, &stand_in), "", "{name}");
    }
}

#[test]
fn what_is_remembered_of_earlier_calls_is_bounded_and_can_be_switched_off() {
    let config = Config::default();
    let kept = Responses { kept: true, keep: Duration::from_hours(1), memory: 64 << 20 };
    assert_eq!((config.responses, config.objects.keep), (kept, Duration::from_hours(720)));
    assert!(config.keeps_responses());
    let config = good("responses: { keep: 5m, memory: 1MiB }\nobjects: { keep: 24h }");
    assert_eq!((config.responses.keep, config.responses.memory), (Duration::from_mins(5), 1 << 20));
    assert_eq!(config.objects.keep, Duration::from_hours(24));
    assert!(!good("responses: { store: off }").keeps_responses());
    assert!(!good("privacy: strict").keeps_responses());
    let both = said("privacy: strict\nresponses: { store: memory }", &[]);
    let warned = "f:2:1: warning: `responses` are not kept under `privacy: strict`";
    assert!(lines(&both, "warning").iter().any(|line| line == warned), "{both}");
}

#[test]
fn an_audit_is_what_its_section_says() {
    let audit = |text: &str| good(text).audit;
    assert_eq!(audit("models: []"), None);
    assert_eq!(audit("audit: { enabled: false, rotate: daily }"), None);
    let all = audit(
        "audit: { content: full, sample: 5%, content_limit: 1MiB, when_full: strict, rotate: daily, \
         store: 'sqlite:/x/a.db', spool: { size: 1MiB }, retention: { days: 90, size: 1GiB }, file: '-' }",
    );
    let all = all.unwrap();
    assert_eq!((all.content, all.rotate), (AuditContent::Full, Rotation::Daily));
    assert_eq!((all.when_full, all.spool.size), (WhenFull::Strict, 1 << 20));
    let retention = Retention { count: None, days: Some(90), size: Some(1 << 30) };
    assert_eq!(all.retention, retention);
    assert_eq!(audit("audit: { enabled: true }"), Some(Audit::default()));
}

#[test]
fn the_audits_files_stand_together() {
    let folder = std::path::Path::new("/etc/forebay");
    let places = |text: &str| {
        let config = good(text);
        let url = config.audit_url(folder).map(|url| url.expose().to_owned());
        (url, config.audit_spool(folder).map(|path| path.display().to_string()))
    };
    let (url, spool) = places("audit: { store: 'sqlite:/var/db/a.db' }");
    assert_eq!(url.as_deref(), Some("sqlite:/var/db/a.db"));
    assert_eq!(spool.as_deref(), Some("/var/db/a-spool"));
    let (url, spool) = places("audit: { store: 'postgres://h/d' }");
    assert_eq!(url.as_deref(), Some("postgres://h/d"));
    assert!(spool.unwrap().ends_with("/audit-spool"));
    assert_eq!(places("audit: { store: off }").0, None);
}
