//! Who may use how much, and where that is kept: keys, limits, quotas, prices, stores.

use std::time::Duration;

use super::*;

const TEAM: &str = r#"
listen: [{ address: "0.0.0.0:8080" }]
admin: { listen: "127.0.0.1:9090", key: "${KEY}", on_data_listener: true }
providers: [{ name: p, kind: mock }]
models:
  - name: m
    targets: [{ provider: p }]
    rate_limit: { requests_per_second: 50 }
    limits: { max_concurrent: 8, budget: { usd: "100", per: "0 6 * * 1" } }
keys:
  - name: a
    key: "${KEY}"
    user: Ada Lovelace
    allowed_models: ["m*"]
    allowed_providers: [p, "open*"]
    expires: 2999-01-31
    enabled: false
    tags: [eu, research]
    rate_limit: { requests_per_second: 100, burst_size: 150 }
    limits:
      requests_per_minute: 600
      tokens_per_minute: 100000
      max_concurrent: 4
      max_ips: 3
      budget: { usd: 25.50, per: month }
  - { name: b, key: "${SHORT_KEY}", expires: "2999-01-31T12:00:00+01:00", limits: { budget: { usd: 0, per: day } } }
  - { name: c, key: mk-xxx, rate_limit: { requests_per_second: 0, burst_size: 0 } }
store: { url: "postgres://u:p@db/forebay", dynamic: true, encryption_key: "sixteen letters!" }
redis: { url: "rediss://:p@cache:6379/1" }
quotas:
  refresh: daily
  groups:
    - { name: large, models: ["gpt-5", "*-70b"], tokens: 1000000 }
    - { name: rest, models: ["*"] }
prices:
  - { model: "m*", input: 2.5, output: 10, cached_input: 0.25, reasoning: 12, max_output: 4096 }
  - { model: "*", input: 0.000001, output: 0 }
temporary_keys:
  password: let-me-in-please
  proof_of_work: high
  lifetime: 1h
  max_ips: 1
  per_address: 3
  purge_after: 2h
  limits: { tokens_per_minute: 1000 }
  rate_limit: { requests_per_second: 1, burst_size: 5 }
  allowed_models: [m]
users: { max_ips: 5, on_max_ips: disable }
"#;

#[test]
fn a_team_reads_as_it_is_meant() {
    let config = good(TEAM);
    let [a, b, c] = config.keys.as_slice() else { panic!("three keys") };
    assert_eq!(a.user.as_deref(), Some("Ada Lovelace"));
    assert_eq!(a.allowed_providers.as_deref(), Some(&["p".to_owned(), "open*".to_owned()][..]));
    assert_eq!(a.expires_at, Some(32_474_736_000_000));
    assert_eq!((a.enabled, a.tags.len()), (false, 2));
    assert_eq!(a.rate_limit, Some(RateLimit { requests_per_second: 100, burst_size: 150 }));
    let budget = Budget { nanos: 25_500_000_000, period: Period::Month };
    let limits = Allowance {
        requests_per_minute: 600,
        tokens_per_minute: 100_000,
        max_concurrent: 4,
        max_ips: 3,
        budget: Some(budget),
        ..Allowance::default()
    };
    assert_eq!(a.limits, limits);
    assert_eq!(b.expires_at, Some(32_474_775_600_000));
    assert!(b.enabled && b.limits.is_unlimited(), "a budget of 0 is none");
    assert!(c.rate_limit.unwrap().blocks());

    let model = config.models.first().unwrap();
    assert_eq!(model.rate_limit, Some(RateLimit { requests_per_second: 50, burst_size: 50 }));
    let weekly = Budget { nanos: 100_000_000_000, period: Period::Cron("0 6 * * 1".to_owned()) };
    assert_eq!(model.limits.budget, Some(weekly));

    let store = config.store.clone().unwrap();
    assert_eq!(store.url, Some(Secret::new("postgres://u:p@db/forebay")));
    assert!(store.dynamic && store.encryption_key.is_some());
    assert_eq!(config.redis, Some(Secret::new("rediss://:p@cache:6379/1")));
    assert_eq!(config.quotas.refresh, Period::Day);
    let tokens: Vec<_> = config.quotas.groups.iter().map(|g| (&*g.name, g.tokens)).collect();
    assert_eq!(tokens, [("large", 1_000_000), ("rest", 0)]);
    let price = config.prices.first().unwrap();
    assert_eq!(
        (price.input, price.output, price.cached_input),
        (2_500_000, 10_000_000, Some(250_000))
    );
    assert_eq!((price.reasoning, price.max_output), (Some(12_000_000), Some(4096)));
    assert_eq!(config.prices.get(1).map(|price| price.input), Some(1));
    let temporary = config.temporary_keys.clone().unwrap();
    assert_eq!(temporary.proof_of_work, Some(1_900));
    assert_eq!(temporary.lifetime, Duration::from_hours(1));
    assert_eq!((temporary.max_ips, temporary.per_address), (1, 3));
    assert_eq!(temporary.limits.tokens_per_minute, 1_000);
    assert_eq!(config.users, Users { max_ips: 5, on_max_ips: OnMaxIps::Disable });
    assert!(config.admin.as_ref().unwrap().on_data_listener);

    let shown = format!("{config:?}");
    for secret in ["u:p@db", ":p@cache", "sixteen", "let-me-in", "mk-xxx"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[test]
fn what_is_left_out_limits_nothing() {
    let config = good("keys: [{ name: k, key: \"${KEY}\" }]");
    let key = config.keys.first().unwrap();
    assert!(key.enabled && key.limits.is_unlimited() && key.rate_limit.is_none());
    assert_eq!((key.expires_at, key.user.as_ref(), key.tags.len()), (None, None, 0));
    assert_eq!((config.store, config.redis, config.temporary_keys), (None, None, None));
    assert_eq!((config.quotas, config.users), (Quotas::default(), Users::default()));

    let text = "store: { url: 'sqlite:x' }\ntemporary_keys: { proof_of_work: 7 }";
    let temporary = good(text).temporary_keys.unwrap();
    assert_eq!((temporary.lifetime, temporary.purge_after), (hours(24), hours(48)));
    assert_eq!((temporary.max_ips, temporary.per_address), (2, 2));
    assert_eq!((temporary.password, temporary.proof_of_work), (None, Some(7)));
}

fn hours(count: u64) -> Duration {
    Duration::from_hours(count)
}

#[test]
fn a_gateway_that_can_get_keys_may_be_reached_from_outside() {
    let outside = "listen: [{ address: \"0.0.0.0:80\" }]\n";
    for section in
        ["store: { url: 'sqlite:x' }", "admin: { listen: \"127.0.0.1:1\", key: \"${KEY}\" }"]
    {
        assert!(!good(&format!("{outside}{section}")).open(), "{section}");
    }
    // On loopback only a store closes the door: an `admin` section alone serves metrics too.
    assert!(!good("store: { url: 'sqlite:x' }").open());
    assert!(good("admin: { listen: \"127.0.0.1:1\", key: \"${KEY}\" }").open());
    assert!(good("store: { url: 'sqlite:x' }\nanonymous: true").open());
}

#[test]
fn the_store_has_a_place_of_its_own() {
    let url = |text: &str, environment: &[(&str, &str)]| {
        let config = good_in(text, environment);
        config.store_url(Path::new("/nowhere")).map(|url| url.expose().to_owned())
    };
    let admin = "admin: { listen: \"127.0.0.1:1\", key: \"${KEY}\" }";
    let state = ("STATE_DIRECTORY", "/run/state:/run/other");
    assert_eq!(url("models: []", &[]), None);
    assert_eq!(url("models: []", &[state]), None);
    assert_eq!(url("store: { url: 'sqlite:x' }", &[state]).as_deref(), Some("sqlite:x"));
    assert_eq!(url(admin, &[state]).as_deref(), Some("sqlite:/run/state/forebay.db"));
    let dynamic = format!("{admin}\nstore: {{ dynamic: true }}");
    assert_eq!(url(&dynamic, &[state]).as_deref(), Some("sqlite:/run/state/forebay.db"));
    let default = url(admin, &[]).unwrap();
    let package = "sqlite:/var/lib/forebay/forebay.db";
    assert!(default == "sqlite:/nowhere/forebay.db" || default == package, "{default}");
}

#[test]
fn the_environment_names_the_database() {
    let url = |text: &str, value: &str| {
        good_in(text, &[("DB_URL", value)]).store.unwrap().url.unwrap().expose().to_owned()
    };
    assert_eq!(url("models: []", "postgresql://u:p@db/x"), "postgresql://u:p@db/x");
    assert_eq!(url("store: { url: 'sqlite:x' }", "postgres://db/x"), "postgres://db/x");
    let config = good_in("store: { dynamic: true }", &[("DB_URL", "sqlite:y")]);
    assert!(config.store.unwrap().dynamic);
    let said = said("models: []", &[("DB_URL", "mysql://root:hunter2@db")]);
    let expected = "f: error: the environment variable `DB_URL` must be the address of a database";
    assert_eq!(lines(&said, "error"), [expected]);
}

#[test]
fn prices_may_stand_in_a_file_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("forebay.yaml");
    std::fs::write(&file, "prices: own.yaml\n").unwrap();
    let prices = |text: &str| {
        std::fs::write(directory.path().join("own.yaml"), text).unwrap();
        load(&Source::read(&file).unwrap())
    };
    let (mut config, _) = prices("- { model: m, input: 1, output: 2 }\n").unwrap();
    assert_eq!(config.prices.first().map(|price| price.output), Some(2_000_000));
    config.anchor(directory.path());
    assert_eq!(config.files(), [directory.path().join("own.yaml")]);
    assert_eq!(config.prices_file, Some(directory.path().join("own.yaml")));

    let refused = |text: &str| {
        let problems = prices(text).unwrap_err();
        lines(&Problems::new(Some(Path::new("f")), problems).to_string(), "error")
    };
    let missing = "f:1:9: error: own.yaml:1:3: error: `output` is missing in `prices`";
    assert_eq!(refused("- { model: m, input: 1 }"), [missing]);
    let twice = "- { model: m, input: 1, output: 1 }\n- { model: m, input: 1, output: 1 }";
    let again = "own.yaml:2:12: error: duplicate price of `m` (first at line 1)";
    assert_eq!(refused(twice), [format!("f:1:9: error: {again}")]);
    std::fs::remove_file(directory.path().join("own.yaml")).unwrap();
    let problems = load(&Source::read(&file).unwrap()).unwrap_err();
    assert!(problems.iter().any(|p| p.message.starts_with("`prices` cannot be read")));
}

const REFUSED: &[(&str, &str)] = &[
    (
        "keys: [{name: k, key: '${KEY}', rate_limit: {requests_per_second: 5, burst_size: 0}}]",
        "1:45 only one of the two is 0 (0 and 0 block; otherwise both are at least 1)",
    ),
    (
        "keys: [{name: k, key: '${KEY}', rate_limit: {burst_size: 5}}]",
        "1:45 `requests_per_second` is missing in `rate_limit`",
    ),
    (
        "keys: [{name: k, key: '${KEY}', limits: {requests_per_minut: 5}}]",
        "1:42 unknown key `requests_per_minut` in `limits` (did you mean `requests_per_minute`?)",
    ),
    (
        "keys: [{name: k, key: '${KEY}', limits: {tokens_per_minute: -5}}]",
        "1:61 `tokens_per_minute` must be a whole number from 0 to 9223372036854775807, not `-5`",
    ),
    (
        "keys: [{name: k, key: '${KEY}', limits: {budget: {usd: 1.0000000001}}}]",
        "1:56 `usd` must be US dollars such as 25 or 25.50, with at most nine decimals, not `1.0000000001`",
    ),
    (
        "keys: [{name: k, key: '${KEY}', limits: {budget: {usd: -1, per: day}}}]",
        "1:56 `usd` must be US dollars such as 25 or 25.50, with at most nine decimals, not `-1`",
    ),
    (
        "keys: [{name: k, key: '${KEY}', limits: {budget: {usd: 1, per: fortnight}}}]",
        "1:64 `per` must be hour, day, week, month, total or a cron expression of five fields, not `fortnight` (such as \"0 6 * * 1\", in UTC)",
    ),
    (
        "keys: [{name: k, key: '${KEY}', expires: tomorrow}]",
        "1:42 `expires` must be a date such as 2030-01-31, or a moment such as 2030-01-31T18:00:00Z, not `tomorrow`",
    ),
    (
        "providers: [{name: openai, kind: mock}]\nkeys: [{name: k, key: '${KEY}', allowed_providers: [opnai, 'o*']}]",
        "2:53 unknown provider `opnai` (did you mean `openai`?)",
    ),
    (
        "quotas: {refresh: sometimes, groups: []}",
        "1:19 `refresh` must be hour, day, week, month, total or a cron expression of five fields, not `sometimes` (such as \"0 6 * * 1\", in UTC)",
    ),
    (
        "store: {url: 'sqlite:x'}\nquotas: {groups: [{name: a, models: ['*']}, {name: a, models: [b]}]}",
        "2:52 duplicate group `a` (first at line 2)",
    ),
    (
        "quotas: {groups: [{name: a, models: []}]}\nstore: {url: 'sqlite:x'}",
        "1:37 `models` is empty",
    ),
    (
        "quotas: {groups: [{name: a, models: [b], tokens: lots}]}\nstore: {url: 'sqlite:x'}",
        "1:50 `tokens` must be a whole number from 0 to 9223372036854775807, not `lots`",
    ),
    (
        "prices: [{model: a, input: cheap, output: 1}]",
        "1:28 `input` must be US dollars per million tokens, such as 2.50, not `cheap`",
    ),
    (
        "prices: [{model: a, input: 1, output: 0.0000001}]",
        "1:39 `output` must be US dollars per million tokens, such as 2.50, not `0.0000001`",
    ),
    (
        "prices: [{model: a, input: 1, output: 1}, {model: a, input: 2, output: 2}]",
        "1:51 duplicate price of `a` (first at line 1)",
    ),
    (
        "temporary_keys: {proof_of_work: low}",
        "1:17 `temporary_keys` need a `store` or an `admin` section",
    ),
    (
        "temporary_keys: {max_ips: 1}\nstore: {url: 'sqlite:x'}",
        "1:17 `temporary_keys` needs a `password` or a `proof_of_work`",
    ),
    (
        "temporary_keys: {proof_of_work: mediun}\nstore: {url: 'sqlite:x'}",
        "1:33 `proof_of_work` cannot be `mediun` (did you mean `medium`?)",
    ),
    (
        "temporary_keys: {proof_of_work: 0}\nstore: {url: 'sqlite:x'}",
        "1:33 `proof_of_work` must be a whole number from 1 to 1000000, not `0`",
    ),
    ("users: {on_max_ips: ban}", "1:21 `on_max_ips` cannot be `ban` (known: `refuse`, `disable`)"),
    (
        "store: {dynamic: true}",
        "1:8 `url` is missing in `store` (without it a file is used when there is an `admin` section)",
    ),
    (
        "store: {url: 'mysql://x'}",
        "1:14 `url` must begin with sqlite: or postgres:// or postgresql://",
    ),
    ("store: {url: 'sqlite:'}", "1:14 `url` names no database"),
    (
        "store: {url: 'sqlite:x', encryption_key: fifteen-letters}",
        "1:42 `encryption_key` must have at least 16 characters",
    ),
    ("redis: {}", "1:8 `url` is missing in `redis`"),
    ("redis: {url: 'memcached://x'}", "1:14 `url` must begin with redis:// or rediss://"),
];

#[test]
fn a_mistake_is_told_with_its_place() {
    for (text, expected) in REFUSED {
        let said = lines(&said(text, &[]), "error");
        assert_eq!(said, [format!("f:{}", expected.replacen(' ', ": error: ", 1))], "{text}");
    }
}

#[test]
fn what_is_likely_not_as_meant_is_told() {
    let mock = "providers: [{name: p, kind: mock}]\n";
    let cases = [
        (
            "keys: [{name: k, key: '${KEY}', expires: 2020-01-31}]",
            "f:2:8: warning: the key `k` has expired",
        ),
        (
            "keys: [{name: k, key: '${KEY}', allowed_models: ['gpt-[45]']}]",
            "f:2:50: warning: `[` is a letter like others in `allowed_models`: only `*` is not",
        ),
        (
            "quotas: {groups: [{name: a, models: [b]}]}",
            "f:2:9: warning: `quotas` are of users, and there are none (a `store` keeps users)",
        ),
        (
            "keys: [{name: k, key: mk-xxx}]",
            "f:2:23: warning: `key` is shorter than 16 characters: easy to guess",
        ),
    ];
    for (text, expected) in cases {
        let text = format!("{mock}{text}\nmodels: [{{name: m, targets: [{{provider: p}}]}}]");
        assert_eq!(said(&text, &[]), expected);
    }
    let text =
        format!("{mock}models: [{{name: m, targets: [{{provider: p}}], limits: {{max_ips: 1}}}}]");
    assert!(
        said(&text, &[]).ends_with("`max_ips` is for keys and users, and has no effect on a model")
    );
}
