//! What is refused: each mistake with its place, in words that say what to do.

use super::*;

/// A configuration with one mistake, and what is said about it.
const REFUSED: &[(&str, &str)] = &[
    ("listn: []", "1:1 unknown key `listn` (did you mean `listen`?)"),
    (
        "providers:\n  - name: p\n    kind: vllm\n    base_url: http://10.0.0.1:8000\n    load_balancng: random",
        "5:5 unknown key `load_balancng` in `providers` (did you mean `load_balancing`?)",
    ),
    (
        r#"providers: [{name: p, kind: vlm, base_url: "http://a"}]"#,
        "1:29 `kind` cannot be `vlm` (did you mean `vllm`?)",
    ),
    (
        r"providers: [{name: p, kind: vllm, discovery: {type: consul}}]",
        "1:53 `type` cannot be `consul` (known: `dns`, `srv`, `file`, `kubernetes`)",
    ),
    (
        r"providers: [{name: p, kind: vllm, discovery: {type: srv}}]",
        "1:46 `name` is missing in `discovery`",
    ),
    (
        r#"providers: [{name: p, kind: vllm, discovery: {type: srv, name: "a b"}}]"#,
        "1:64 `name` must be a name of DNS, not `a b` (such as _vllm._tcp.pool.example.org)",
    ),
    (
        r"providers: [{name: p, kind: vllm, discovery: {type: file, path: a, service: b}}]",
        "1:77 `service` is only for type `kubernetes`",
    ),
    (
        r#"providers: [{name: p, kind: vllm, base_url: "http://a", discovery: {type: file, path: a}}]"#,
        "1:45 `base_url` is for `discovery` of type `dns` only",
    ),
    (
        r"providers: [{name: p, kind: openai, discovery: {type: file, path: a}}]",
        "1:48 this `discovery` is only for kinds `vllm`, `openai_compatible` and `mock`",
    ),
    (
        r"providers: [{name: p, kind: vllm, discovery: {type: dns}}]",
        "1:13 `base_url` or `endpoints` is missing in `providers`",
    ),
    (
        r#"providers: [{name: p, kind: vllm, base_url: "http://a", discovery: {type: dns, servers: [a]}}]"#,
        "1:90 `servers` must be an IP address, with a port or without, not `a`",
    ),
    (
        r#"providers: [{name: p, kind: vllm, base_url: "http://a", operations: [load_lora_adaptor]}]"#,
        "1:70 `operations` cannot be `load_lora_adaptor` (did you mean `load_lora_adapter`?)",
    ),
    ("threads: many", "1:10 `threads` must be a whole number from 1 to 1024, not `many`"),
    ("threads: 0", "1:10 `threads` must be a whole number from 1 to 1024, not `0`"),
    ("threads: [1]", "1:10 `threads` must be a whole number from 1 to 1024, not a list"),
    ("daemon: yes", "1:9 `daemon` must be true or false, not `yes`"),
    ("pid_file:", "1:9 `pid_file` has no value"),
    ("threads: ${BROKEN}", "1:10 `threads` must be a whole number from 1 to 1024"),
    ("threads: ${NOT_SET}", "1:10 the environment variable `NOT_SET` is not set"),
    (
        r#"client_bind_to_ipv4: ["::1"]"#,
        "1:23 `client_bind_to_ipv4` must be a list of IP addresses of that version, not `::1`",
    ),
    ("listen: [", "2:1 not valid YAML: while parsing a node, did not find expected node content"),
    ("a: b: c", "1:5 not valid YAML: mapping values are not allowed in this context"),
    ("listen: &x [*x]", "1:13 this alias stands inside what it repeats"),
    ("- 1", "1:1 the file must be a map of keys and values, not a list"),
    ("just text", "1:1 the file must be a map of keys and values, not `just text`"),
    (
        "threads: 1\n---\nthreads: 2",
        "2:1 a second YAML document begins here (a configuration is one document)",
    ),
    ("threads: 1\ndaemon: true\nthreads: 2", "3:1 duplicate key `threads` (first at line 1)"),
    (
        "threads: !!int 3",
        "1:10 YAML tags (`!…`) have no meaning here (quote a text that begins with `!`)",
    ),
    ("? [a]\n: b", "1:3 a key must be text, not a list or map"),
    ("listen: []", "1:9 `listen` is empty"),
    ("listen: 127.0.0.1:80", "1:9 `listen` must be a list, not `127.0.0.1:80`"),
    (
        r#"listen: [{address: "localhost:80"}]"#,
        "1:20 `address` must be an IP address and a port, not `localhost:80` (such as 127.0.0.1:8080 or [::]:8080)",
    ),
    (
        r#"listen: [{address: "0.0.0.0:80"}]"#,
        "1:1 0.0.0.0:80 can be reached from outside, and no key is needed (add a key under `keys`, or listen on 127.0.0.1 only; `anonymous: true` opens it on purpose)",
    ),
    (
        r#"listen: [{address: "127.0.0.1:80"}, {address: "127.0.0.1:80"}]"#,
        "1:1 two listeners on 127.0.0.1:80",
    ),
    (
        "audit: { content: some }",
        "1:19 `content` cannot be `some` (known: `none`, `metadata`, `full`)",
    ),
    ("audit: { content_limit: 8MiB }", "1:25 `content_limit` must be at most 4MiB"),
    (
        "audit: { webhook: { url: 'http://h/x', secret: short } }",
        "1:48 `secret` must have at least 16 characters",
    ),
    ("audit: { store: nowhere }", "1:17 `store` must be the address of a database"),
    ("audit: { rotate: montly }", "1:18 `rotate` cannot be `montly` (did you mean `monthly`?)"),
    (
        "audit: { retention: { count: 3, month: 2 } }",
        "1:33 unknown key `month` in `retention` (known: `count`, `days`, `size`)",
    ),
    (
        "access_log: { rotate: weekly }",
        "1:23 `rotate` must be `daily`, a size such as 100MiB, or `off`, not `weekly`",
    ),
    ("access_log: { format: csv }", "1:23 `format` cannot be `csv` (known: `text`, `json`)"),
    ("tracing: { sample: 10% }", "1:10 `endpoint` is missing in `tracing`"),
    (
        r#"tracing: { endpoint: "http://a:4318", headers: { Host: x } }"#,
        "1:50 `headers` cannot set `host`",
    ),
    (
        r#"tracing: { endpoint: "http://a:4318", sample: "0.1" }"#,
        "1:47 `sample` must be a percentage from 0% to 100%, not `0.1`",
    ),
    (r#"admin: { listen: "127.0.0.1:9090" }"#, "1:8 `key` is missing in `admin`"),
    (r#"admin: { listen: "127.0.0.1:9090", key: "" }"#, "1:41 an empty key would let everyone in"),
    ("providers: [{kind: mock}]", "1:13 `name` is missing in `providers`"),
    ("providers: [{name: p}]", "1:13 `kind` is missing in `providers`"),
    (
        r#"providers: [{name: "a\nb", kind: mock}]"#,
        "1:20 `name` must be printable ASCII in one line, without spaces around it",
    ),
    (
        "providers: [{name: p, kind: mock}, {name: p, kind: mock}]",
        "1:43 duplicate provider `p` (first at line 1)",
    ),
    (
        "providers: [{name: p, kind: azure}]",
        "1:13 `base_url` or `endpoints` is missing in `providers`",
    ),
    (
        r#"providers: [{name: p, kind: openai, base_url: "ftp://x"}]"#,
        "1:47 `base_url` must begin with http:// or https://",
    ),
    (
        r#"providers: [{name: p, kind: openai, base_url: "https://user:hunter2@x"}]"#,
        "1:47 `base_url` must not hold a user name or password",
    ),
    (
        r#"providers: [{name: p, kind: openai, base_url: "https://x/v1?key=hunter2"}]"#,
        "1:47 `base_url` must not hold a query or fragment",
    ),
    (
        r#"providers: [{name: p, kind: openai, base_url: "https://"}]"#,
        "1:47 `base_url` has no valid host",
    ),
    (
        r#"providers: [{name: p, kind: openai, base_url: "https://x:0"}]"#,
        "1:47 `base_url` has no valid port",
    ),
    (
        r#"providers: [{name: p, kind: openai, base_url: "https://x", endpoints: [{url: "https://y"}]}]"#,
        "1:13 `base_url` is short for one endpoint: give it or `endpoints`",
    ),
    ("providers: [{name: p, kind: vllm, endpoints: []}]", "1:46 `endpoints` is empty"),
    (
        r#"providers: [{name: p, kind: vllm, endpoints: [{url: "http://a", weight: 0}]}]"#,
        "1:73 an endpoint's `weight` must be at least 1 (to drain a replica, take it off the list)",
    ),
    (
        r#"providers: [{name: p, kind: vllm, endpoints: [{url: "http://a"}, {url: "http://A:80/"}]}]"#,
        "1:46 two endpoints have one address (give it once, with a larger `weight`)",
    ),
    (
        "providers: [{name: p, kind: vllm, endpoints: [{weight: 2}]}]",
        "1:47 `url` is missing in `endpoints`",
    ),
    (
        "providers: [{name: p, kind: mock, load_balancing: prefix}]",
        "1:51 `load_balancing` cannot be `prefix` (known: `round_robin`, `random`, `least_requests`, `consistent_hash`, `prefix_affinity`)",
    ),
    (
        "providers: [{name: p, kind: mock, load_balancing: {header: x-tenant}}]",
        "1:51 `policy` is missing in `load_balancing`",
    ),
    (
        "providers: [{name: p, kind: mock, load_balancing: {policy: random, header: x-tenant}}]",
        "1:51 `header` is only for `policy: consistent_hash`",
    ),
    (
        "providers: [{name: p, kind: mock, kv_events: {port: 5557}}]",
        "1:13 `kv_events` is only for `load_balancing: prefix_affinity`",
    ),
    (
        "providers: [{name: p, kind: mock, load_balancing: prefix_affinity, kv_events: {topic: kv}}]",
        "1:79 `port` is missing in `kv_events`",
    ),
    (
        "providers: [{name: p, kind: mock, load_balancing: prefix_affinity, kv_events: {port: 1, port_offset: 1}}]",
        "1:79 `kv_events` has either `port` or `port_offset`, not both",
    ),
    (
        "providers: [{name: p, kind: mock, load_balancing: {policy: consistent_hash, header: a b}}]",
        "1:85 not the name of a header",
    ),
    (
        "providers: [{name: p, kind: mock, health_check: {interval: 5s}}]",
        "1:49 `type` is missing in `health_check`",
    ),
    (
        "providers: [{name: p, kind: openai, health_check: {type: tcp, path: /x}}]",
        "1:51 `path` is only asked for with `type: http`",
    ),
    (
        "providers: [{name: p, kind: openai, health_check: {type: http, path: x}}]",
        "1:70 `path` must be a path such as /health, not `x`",
    ),
    (
        "providers: [{name: p, kind: openai, health_check: {type: http, interval: 0s}}]",
        "1:74 `interval` must be longer than 0",
    ),
    (
        "providers: [{name: p, kind: openai, timeouts: {connect: 5}}]",
        "1:57 `connect` must be a duration such as 250ms, 5s, 10m or 1h, not `5`",
    ),
    (
        "providers: [{name: p, kind: openai, ejection: {base: 10m}}]",
        "1:47 `base` must not be longer than `max`",
    ),
    (
        "providers: [{name: p, kind: openai, admission: {queue: 5}}]",
        "1:48 `max_concurrent` is missing in `admission`",
    ),
    (
        "providers: [{name: p, kind: openai, admission: {max_concurrent: 0}}]",
        "1:65 `max_concurrent` must be a whole number from 1 to 1000000, not `0`",
    ),
    (
        "providers: [{name: p, kind: openai, admission: {max_concurrent: 1, priority: true}}]",
        "1:48 `priority` is only for kinds `vllm` and `openai_compatible`",
    ),
    (
        "providers: [{name: p, kind: openai, admission: {max_concurrent: 1, wait: 0s}}]",
        "1:74 `wait` must be longer than 0",
    ),
    (
        "keys: [{name: k, key: kkkkkkkkkkkkkkkkkkkk, priority: urgent}]",
        "1:55 `priority` must be low, normal, high or a whole number from -100 to 100, not `urgent`",
    ),
    (
        "keys: [{name: k, key: kkkkkkkkkkkkkkkkkkkk, weight: 0}]",
        "1:53 `weight` must be a whole number from 1 to 1000, not `0`",
    ),
    (
        "providers: [{name: p, kind: openai, ejection: {share: 0.5}}]",
        "1:55 `share` must be a percentage from 0% to 100%, not `0.5`",
    ),
    (
        "providers: [{name: p, kind: openai, api_version: v1}]",
        "1:13 `api_version` is only for kind `azure`",
    ),
    (
        "providers: [{name: p, kind: openai, mock: {tokens: 5}}]",
        "1:13 `mock` is only for kind `mock` without `base_url` and `endpoints`",
    ),
    (
        "providers: [{name: p, kind: openai, headers: {Content-Length: 5}}]",
        "1:47 `headers` cannot set `content-length` (the gateway sets it for each request)",
    ),
    (
        r#"providers: [{name: p, kind: openai, headers: {"X Y": 5}}]"#,
        "1:47 not the name of a header",
    ),
    (
        r#"providers: [{name: p, kind: openai, api_keys: ["a b"]}]"#,
        "1:48 an API key holds whitespace or characters that no header can carry",
    ),
    (
        "providers: [{name: openai, kind: mock}]\nmodels: [{name: m, targets: [{provider: opnai}]}]",
        "2:41 unknown provider `opnai` (did you mean `openai`?)",
    ),
    (
        "models: [{name: m, targets: [{provider: opnai}]}]",
        "1:41 unknown provider `opnai` (this file names no provider)",
    ),
    ("default_provider: p", "1:19 unknown provider `p` (this file names no provider)"),
    (
        "providers: [{name: p, kind: mock}]\nmodels: [{name: m, targets: []}]",
        "2:29 `targets` is empty",
    ),
    (
        "providers: [{name: p, kind: mock}]\nmodels: [{name: m}]",
        "2:10 `targets` is missing in `models`",
    ),
    (
        "providers: [{name: p, kind: mock}]\nmodels:\n - {name: m, match: {exact: a}, targets: [{provider: p}]}",
        "3:4 a model has a `name` or a `match`, not both",
    ),
    ("privacy: strickt", "1:10 `privacy` must be `strict` or a map, not `strickt`"),
    (
        r#"providers: [{name: p, kind: vllm, base_url: "http://a", health_check: {type: tpc}}]"#,
        "1:78 `type` cannot be `tpc` (did you mean `tcp`?)",
    ),
    (
        "providers: [{name: p, kind: openai, client_auth: client}]",
        "1:50 `client_auth` cannot be `client` (known: `replace`, `prefer_client`, `forward`)",
    ),
    (
        "providers: [{name: p, kind: openai, retries: 3}]",
        "1:37 unknown key `retries` in `providers` (known: `name`, `kind`, `base_url`, `endpoints`, `discovery`, `api_keys`, `client_auth`, `headers`, `tls`, `load_balancing`, `health_check`, `timeouts`, …)",
    ),
    ("providers: [{name: p, kind: mock, region: eu}]", "1:43 `region` is only for kind `bedrock`"),
    (
        r#"providers: [{name: p, kind: openai_compatible, base_url: "http://a/../b"}]"#,
        "1:58 `base_url` has no valid path",
    ),
    (
        r#"providers: [{name: p, kind: openai, headers: {X-Team: "a\r\nb"}}]"#,
        "1:55 `X-Team` holds a line break or control character",
    ),
    ("providers: {name: p}", "1:12 `providers` must be a list, not a map"),
    ("metrics: true", "1:10 `metrics` must be a map of keys and values, not `true`"),
    ("anonymous: 1", "1:12 `anonymous` must be true or false, not `1`"),
    (
        "listen: [{address: \"0.0.0.0:80\"}]\nanonymous: false",
        "1:1 0.0.0.0:80 can be reached from outside, and no key is needed (add a key under `keys`, or listen on 127.0.0.1 only; `anonymous: true` opens it on purpose)",
    ),
    ("retry: {on: connect}", "1:13 `on` must be a list, not `connect`"),
    ("limits: {body: }", "1:14 `body` has no value"),
    ("limits: {buffered: 1MiB}", "1:9 `buffered` must not be smaller than `body`"),
    ("limits: {body: 1GiB}", "1:9 `buffered` must not be smaller than `body`"),
    (
        "limits: {body: 1KiB, buffered: 5x}",
        "1:32 `buffered` must be a size such as 64KiB, 32MiB or 1GiB, not `5x`",
    ),
    ("responses: { store: disk }", "1:21 `store` cannot be `disk` (known: `memory`, `off`)"),
    ("responses: { keep: 0 }", "1:20 `keep` must be longer than 0"),
    (
        "responses: { memory: 64MB }",
        "1:22 `memory` must be a size such as 64KiB, 32MiB or 1GiB, not `64MB` (sizes are counted in KiB, MiB and GiB)",
    ),
    (
        "objects: { keep: 30d }",
        "1:18 `keep` must be a duration such as 250ms, 5s, 10m or 1h, not `30d`",
    ),
];

#[test]
fn a_mistake_is_told_with_its_place() {
    for (text, expected) in REFUSED {
        let said = lines(&said(text, &[]), "error");
        assert_eq!(said, [format!("f:{}", expected.replacen(' ', ": error: ", 1))], "{text}");
    }
}

#[test]
fn a_variable_in_a_flow_map_needs_quotes() {
    let expected = "f:1:9: error: not valid YAML: while parsing a flow mapping, did not find \
                    expected ',' or '}' (quote `${…}` inside `{ }` and `[ ]`)";
    assert_eq!(said("a: {b: ${KEY}}", &[]), expected);
}

#[test]
fn every_mistake_is_told_in_one_run() {
    let text = "\
threads: some
providers:
  - { name: a, kind: vlm, base_url: \"http://a\" }
  - { name: b, kind: vllm, base_url: \"http://b\", timeout: { connect: 1s } }
  - { name: b, kind: mock, ejection: { base: soon, after: 0 } }
models:
  - { targets: [{ provider: a }] }
  - { match: { prefix: a }, aliases: [ex], targets: [{ provider: a }] }
  - { match: { prefix: a, suffix: b }, targets: [{ provider: a }] }
  - { name: x, fallback: [y, z], targets: [{ provider: aa, weight: -1 }] }
  - { name: y, aliases: [why], fallback: [x], targets: [{ provider: a }] }
  - { name: zz, fallback: [zz], targets: [] }
keys:
  - { name: k, key: \"${KEY}\" }
  - { name: l, key: \"${KEY}\", limits: { max_ips: -1 } }
limits: { body: 32MB, upload: 0 }
retry: { attempts: 0, budget: 20, on: [connect, 200] }
heartbeat: ${NOT_SET}
";
    let expected = [
        "f:1:10: error: `threads` must be a whole number from 1 to 1024, not `some`",
        "f:3:22: error: `kind` cannot be `vlm` (did you mean `vllm`?)",
        "f:4:50: error: unknown key `timeout` in `providers` (did you mean `timeouts`?)",
        "f:5:13: error: duplicate provider `b` (first at line 4)",
        "f:5:46: error: `base` must be a duration such as 250ms, 5s, 10m or 1h, not `soon`",
        "f:5:59: error: `after` must be a whole number from 1 to 1000000, not `0`",
        "f:7:5: error: a model needs a `name` or a `match`",
        "f:8:5: error: `aliases` belong to a model with a `name`",
        "f:9:14: error: `match` takes exactly one of `exact`, `prefix`, `suffix`, `keyword`, `regex`",
        "f:10:5: error: fallback runs in a circle: x -> y -> x",
        "f:10:30: error: unknown model `z` (did you mean `x`?)",
        "f:10:56: error: unknown provider `aa` (did you mean `a`?)",
        "f:10:68: error: `weight` must be a whole number from 0 to 1000, not `-1`",
        "f:12:5: error: fallback runs in a circle: zz -> zz",
        "f:12:42: error: `targets` is empty",
        "f:15:5: error: `k` and `l` are the same key (a key belongs to one name)",
        "f:15:50: error: `max_ips` must be a whole number from 0 to 4294967295, not `-1`",
        "f:16:17: error: `body` must be a size such as 64KiB, 32MiB or 1GiB, not `32MB` \
         (sizes are counted in KiB, MiB and GiB)",
        "f:16:31: error: `upload` must be larger than 0",
        "f:17:20: error: `attempts` must be a whole number from 1 to 16, not `0`",
        "f:17:31: error: `budget` must be a percentage from 0% to 100%, not `20`",
        "f:17:49: error: `on` must be `connect`, `timeout`, or a status from 400 to 599, not `200`",
        "f:18:12: error: the environment variable `NOT_SET` is not set",
    ];
    assert_eq!(lines(&said(text, &[]), "error"), expected);
}

#[test]
fn one_mistake_does_not_bring_others_with_it() {
    let cases = [
        // A name that is given is known, even when the rest of it cannot be used.
        "providers: [{name: p, kind: vlm}]\nmodels: [{name: m, targets: [{provider: p}]}]",
        "providers: [{name: p, kind: azur, api_version: v1}]",
        "providers: [{name: p, kind: vertx, project: p, location: l, credentials_file: c}]",
        "providers: [{name: p, kind: mok, mock: {tokens: 1}}]",
        "providers: [{name: '${NOT_SET}', kind: mock}]",
        "listen: [{address: \"0.0.0.0:80\"}]\nkeys: [{name: k, key: ''}]",
        "keys: [{name: k, key: '${NOT_SET}'}]",
        "limits: {'${NOT_SET}': 1}",
    ];
    for text in cases {
        let said = lines(&said(text, &[]), "error");
        assert_eq!(said.len(), 1, "{text}: {said:?}");
    }
}

#[test]
fn a_mistake_that_an_alias_repeats_is_told_once() {
    let text = "\
models:
  - { name: a, targets: &t [{ provider: gone }] }
  - { name: b, targets: *t }
";
    let expected = "f:2:41: error: unknown provider `gone` (this file names no provider)";
    assert_eq!(said(text, &[]), expected);
}

#[test]
fn a_file_of_nothing_but_mistakes_ends_somewhere() {
    let mistakes: Vec<_> = (0..1_000).map(|n| format!("mistake{n}: 1")).collect();
    let text = mistakes.join("\n");
    assert_eq!(lines(&said(&text, &[]), "error").len(), 200);
}

#[test]
fn no_number_of_warnings_hides_an_error() {
    let keys: Vec<_> = (0..300).map(|n| format!("{{ name: k{n}, key: k{n} }}")).collect();
    let text = format!("keys: [{}]\nthreads: none\n", keys.join(", "));
    assert_eq!(lines(&said(&text, &[]), "warning").len(), 200);
    assert_eq!(lines(&said(&text, &[]), "error").len(), 1);
}

#[test]
fn a_file_that_would_fill_the_memory_is_refused() {
    let first = |text: &str| said(text, &[]).lines().next().unwrap_or_default().to_owned();
    assert_eq!(first(&" ".repeat(5 << 20)), "f: error: the file is larger than 4 MiB");

    let laughs = (1..30).fold("a0: &a0 [ha, ha, ha]\n".to_owned(), |text, n| {
        let again = vec![format!("*a{}", n - 1); 10].join(", ");
        text + &format!("a{n}: &a{n} [{again}]\n")
    });
    assert!(first(&laughs).ends_with("aliases repeat more than 8 MiB"), "{}", first(&laughs));

    let deep = (1..200).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
        text + &format!("a{n}: &a{n} [[[[[*a{}]]]]]\n", n - 1)
    });
    assert!(first(&deep).ends_with("more than 32 levels deep"), "{}", first(&deep));
    assert!(first(&"[".repeat(100_000)).contains("error: not valid YAML"));
    assert!(first(&"- ".repeat(100_000)).ends_with("more than 32 levels deep"));
}

#[test]
fn a_secret_is_never_told() {
    let secret = "sk-forebay-4f9a8c77b2e1";
    let places = [
        "keys: [{name: k, key: [S]}]",
        "keys: [{name: k, key: {a: S}}]",
        "keys: [{name: k, key: 'S with spaces'}]",
        "keys: [{name: k, key: \"S\\u00e9\"}]",
        "keys: [{name: k, key: S, key_sha256: S}]",
        "keys: [{name: k, key: S}, {name: l, key: S}]",
        "keys: [{name: k, key_sha256: S}]",
        "admin: {listen: nowhere, key: \"S\\n\"}",
        "providers: [{name: p, kind: openai, api_keys: ['S S']}]",
        "providers: [{name: p, kind: openai, headers: {X-Key: \"S\\n\"}}]",
        "providers: [{name: p, kind: openai, base_url: 'https://S@x'}]",
        "providers: [{name: p, kind: openai, base_url: 'https://x/?key=S'}]",
        "providers: [{name: p, kind: openai, base_url: 'S'}]",
        "store: {url: 'mysql://root:S@x'}",
        "redis: {url: S}",
        "audit: {store: S}",
        // Where no secret belongs, one from the environment is still none to show.
        "threads: ${KEY}",
        "daemon: ${KEY}",
        "heartbeat: ${KEY}",
        "privacy: ${KEY}",
        "default_provider: ${KEY}",
        "providers: [{name: p, kind: '${KEY}'}]",
        "providers: [{name: '${KEY}', kind: mock}, {name: '${KEY}', kind: mock}]",
        "providers: [{name: '${KEY}', kind: mock}]\ndefault_provider: sk-f0rebay-4f9a8c77b2e",
        "listen: [{address: '${KEY}'}]",
        "${KEY}: 1",
        "limits: {'${KEY}': 1}",
        "providers: [{name: p, kind: openai, headers: {'${KEY}': [1]}}]",
        "models: [{name: m, request: {extra_body: {'${KEY}': 0x1}}, targets: []}]",
        "{'${KEY}': 1, '${KEY}': 2}",
        "providers: [{name: p, kind: openai, headers: {'${KEY} ': 1}}]",
        "limits: {body: '${KEY}KB'}",
    ];
    for place in places {
        let text = place.replace('S', secret);
        let said = said(&text, &[]);
        assert!(said.contains(": error: "), "{place}: {said}");
        assert!(!said.contains("sk-forebay"), "{place}: {said}");
    }
}

#[test]
fn a_short_or_missing_key_is_told() {
    let text = "keys:\n  - { name: k, key: \"${SHORT_KEY}\" }\nmodels: []\n";
    let expected = "f:2:21: warning: `key` is shorter than 16 characters: easy to guess";
    assert_eq!(lines(&said(text, &[]), "warning").last().map(String::as_str), Some(expected));
    let text = "keys: [{ name: k, key: \"${NO_KEY}\" }]";
    assert_eq!(
        lines(&said(text, &[]), "error"),
        ["f:1:24: error: an empty key would let everyone in"]
    );
}

#[test]
fn what_this_version_does_not_do_is_told() {
    let text = "\
admin: { listen: \"127.0.0.1:9090\", key: \"${KEY}\", on_data_listener: true }
providers:
  - name: p
    kind: openai_compatible
    base_url: https://llm.example.org
    tls: { verify: false }
models:
  - { name: m, targets: [{ provider: p }] }
keys:
  - name: k
    key: ${KEY}
audit: { enabled: true, content: none, rotate: monthly, retention: 12, store: \"sqlite:a.db\" }
";
    let expected = ["f:3:5: warning: `p` is called without checking its certificate"];
    assert_eq!(lines(&said(text, &[]), "warning"), expected);
    assert_eq!(
        good(text).admin.map(|admin| admin.key),
        Some(Secret::new("sk-forebay-4f9a8c77b2e1"))
    );
}
