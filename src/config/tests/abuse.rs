//! What keeps abuse out, and what is kept of callers.

use std::time::Duration;

use super::*;

const WHOLE: &str = r#"
providers: [{ name: p, kind: mock }]
models: [{ name: m, targets: [{ provider: p }], limits: { max_images: 2 } }]
keys: [{ name: k, key: sk-forebay-4f9a8c77b2e1, privacy: strict, limits: { max_output_tokens: 9 } }]
listen: [{ address: "127.0.0.1:1" }, { address: "127.0.0.1:2", privacy: strict }]
privacy: { log_client_ip: false, forward_device_headers: false }
abuse:
  networks: { allow: ["10.0.0.0/8", "2001:db8::1"], block: ["10.1.0.0/16"] }
  origins: { allow: ["https://*.Example.org:8443"], block: ["null"] }
  referers: { block: ["evil.example"] }
  per_address: { requests_per_minute: 60, rate_limit: { requests_per_second: 5 } }
  per_user: { requests_per_minute: 30 }
  failed_keys: { after: 5, within: 10m, delay: 1s, longest: 30s }
  limits: { max_output_tokens: 1000, max_prompt_tokens: 2000, max_images: 3 }
  rules:
    - { name: a, phrases: [one two, three], regex: "four+" }
    - { name: b, regex: ["five", "(?i)six"], action: delay, delay: 3s, models: ["m*"] }
    - { name: c, phrases: seven, action: disable, status: 403, message: "No." }
  moderation: { provider: p, model: omni, timeout: 1s, on_error: open, categories: { hate: 0.5 }, action: log }
"#;

#[test]
fn all_of_it_is_read() {
    let config = good(WHOLE);
    let abuse = &config.abuse;
    assert_eq!((abuse.networks.allow.len(), abuse.networks.block.len()), (2, 1));
    assert_eq!(abuse.origins.allow, ["https://*.example.org:8443"]);
    assert_eq!(
        (abuse.per_address.requests_per_minute, abuse.per_user.requests_per_minute),
        (60, 30)
    );
    assert_eq!(abuse.failed_keys.unwrap().longest, Duration::from_secs(30));
    let bounds = Bounds { max_output_tokens: 1000, max_prompt_tokens: 2000, max_images: 3 };
    assert_eq!(abuse.limits, bounds);
    let [key] = config.keys.as_slice() else { panic!("one key") };
    let [model] = config.models.as_slice() else { panic!("one model") };
    let all = bounds.and(key.limits.bounds()).and(model.limits.bounds());
    let least = Bounds { max_output_tokens: 9, max_prompt_tokens: 2000, max_images: 2 };
    assert_eq!((all, key.strict), (least, true));
    assert_eq!(config.listen.iter().map(|it| it.strict).collect::<Vec<_>>(), [false, true]);
    assert!(config.privacy.log_user_agent && !config.privacy.forward_device_headers);
    let actions: Vec<Action> = abuse.rules.iter().map(|rule| rule.measure.action).collect();
    assert_eq!(actions, [Action::Refuse, Action::Delay, Action::Disable]);
    let found = |text: &str| {
        let mut found = Vec::new();
        abuse.patterns.find(text, &mut found);
        found
    };
    assert_eq!(found("ONE \n two, and seven sixes"), [0, 1, 2]);
    assert_eq!(found("someone two threes"), [0; 0]);
    let moderation = abuse.moderation.as_ref().unwrap();
    assert_eq!(moderation.categories, [("hate".to_owned(), 0.5)]);
    assert_eq!(moderation.at, Moderator::Provider("p".to_owned()));
}

#[test]
fn addresses_of_the_environment_keep_the_files_privacy() {
    let config = good_in(WHOLE, &[("FOREBAY_LISTEN", "127.0.0.1:3")]);
    assert_eq!(config.listen.iter().map(|it| it.strict).collect::<Vec<_>>(), [true]);
}

#[test]
fn mistakes_are_told_with_their_places() {
    for (text, expected) in [
        (
            "abuse: { netwroks: {} }",
            "1:10 unknown key `netwroks` in `abuse` (did you mean `networks`?)",
        ),
        (
            "abuse: { networks: { block: [10.0.0.0/33] } }",
            "1:30 `block` must be a network or an address, not `10.0.0.0/33` (such as 10.0.0.0/8 or ::1)",
        ),
        (
            "abuse: { origins: { allow: [\"https://a/b\"] } }",
            "1:29 `allow` must be a host or an origin, not `https://a/b` (such as chat.example.org, *.example.org or https://chat.example.org:8443)",
        ),
        ("abuse: { rules: [{ name: r }] }", "1:18 a rule needs `phrases` or a `regex`"),
        ("abuse: { rules: [{ phrases: x }] }", "1:18 `name` is missing in `rules`"),
        (
            "abuse: { rules: [{ name: r, regex: \"a(\" }] }",
            "1:36 `regex` is not a regular expression: unclosed group",
        ),
        ("abuse: { rules: [{ name: r, regex: \"a{1000}{1000}\" }] }", "1:36 `regex` is too large"),
        (
            "abuse: { rules: [{ name: r, regex: \"a*\" }] }",
            "1:36 `regex` finds something in every text",
        ),
        (
            "abuse: { rules: [{ name: r, phrases: x, action: ban }] }",
            "1:49 `action` cannot be `ban` (known: `refuse`, `log`, `delay`, `disable`)",
        ),
        (
            "abuse: { rules: [{ name: r, phrases: x, action: log, status: 403 }] }",
            "1:18 `status` and `message` are of refusals",
        ),
        (
            "abuse: { rules: [{ name: r, phrases: x, action: delay, delay: 2m }] }",
            "1:63 `delay` must be at most 60s, not `2m`",
        ),
        ("abuse: { moderation: {} }", "1:22 `url` is missing in `moderation`"),
        (
            "abuse: { moderation: { provider: q } }",
            "1:34 unknown provider `q` (this file names no provider)",
        ),
        (
            "abuse: { moderation: { url: \"http://a\", categories: { hate: 2 } } }",
            "1:61 `hate` must be a score from 0 to 1, not `2`",
        ),
        (
            "listen: [{ address: \"127.0.0.1:1\", privacy: some }]",
            "1:45 `privacy` cannot be `some` (known: `strict`)",
        ),
    ] {
        let expected = expected.split_once(' ').unwrap();
        let expected = format!("f:{}: error: {}", expected.0, expected.1);
        assert_eq!(lines(&said(text, &[]), "error"), [expected], "{text}");
    }
}
