//! Who is kept out, and who has to wait: networks, web pages, requests too many, keys that are tried.

use std::time::{Duration, Instant};

use crate::support::client::{CHAT, Client, Reply, Request, chat_body};
use crate::support::gateway::{self, FRONT, Gateway};
use crate::support::upstream::{self, Upstream};

const KEYED: &str = r#"
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: p }] }
keys:
  - { name: a, key: client-key-of-somebody-a, user: ada }
  - { name: b, key: client-key-of-somebody-b, user: ada }
  - { name: c, key: client-key-of-somebody-c }
trusted_proxies: ["127.0.0.0/8"]
"#;

async fn started(yaml: &str, abuse: &str) -> (Upstream, Gateway) {
    let upstream = upstream::chat("hello").await;
    let yaml = format!("{yaml}\nabuse: {abuse}\n");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    (upstream, gateway)
}

fn chat(client: &Client) -> Request {
    client.post(CHAT, chat_body("hi").to_string())
}

async fn from(gateway: &Gateway, address: &str) -> Reply {
    let client = gateway.client().key("client-key-of-somebody-a");
    chat(&client).header("x-forwarded-for", address).send().await
}

#[tokio::test]
async fn a_blocked_network_is_refused_before_its_body_is_read() {
    let abuse = r#"{ networks: { block: ["203.0.113.0/24", "2001:db8::/32"] } }"#;
    let (upstream, gateway) = started(KEYED, abuse).await;
    for address in ["203.0.113.9", "2001:db8:7::1", "::ffff:203.0.113.9"] {
        from(&gateway, address).await.refused(403, "address_blocked");
    }
    assert_eq!(upstream.count(), 0);
    // Nothing of the body has come, and its end never will.
    let unsent = gateway.client().request("POST", CHAT).header("content-length", "1000000");
    let unsent = unsent.header("x-forwarded-for", "203.0.113.9").open().await;
    assert_eq!(unsent.status, 403);
    from(&gateway, "198.51.100.1").await.ok();
    from(&gateway, "2001:db9::1").await.ok();
    let health = gateway.client().request("GET", "/health");
    health.header("x-forwarded-for", "203.0.113.9").send().await.ok();
    gateway.counts(r#"forebay_abuse_total{action="refuse",check="network",rule=""}"#, 4).await;
}

#[tokio::test]
async fn with_allowed_networks_all_others_are_refused_and_a_reload_changes_them() {
    let (_upstream, gateway) = started(KEYED, r#"{ networks: { allow: ["10.0.0.0/8"] } }"#).await;
    from(&gateway, "198.51.100.1").await.refused(403, "address_blocked");
    // Of the networks that are trusted proxies the one before them is meant.
    from(&gateway, "10.1.2.3").await.ok();
    gateway.configure(|yaml| yaml.replace("10.0.0.0/8", "198.51.100.0/24"));
    assert!(gateway.reload().await);
    from(&gateway, "198.51.100.1").await.ok();
    from(&gateway, "10.1.2.3").await.refused(403, "address_blocked");
}

#[tokio::test]
async fn pages_of_blocked_origins_and_referers_are_refused_and_programs_are_not() {
    let abuse = r#"{ origins: { allow: ["https://*.example.org"] }, referers: { block: ["evil.example"] } }"#;
    let (_upstream, gateway) = started(FRONT, abuse).await;
    let with =
        async |name: &str, value: &str| chat(&gateway.client()).header(name, value).send().await;
    with("origin", "https://chat.example.org").await.ok();
    with("referer", "https://elsewhere.example/evil.example").await.ok();
    gateway.client().chat("hi").await.ok();
    with("origin", "https://example.com").await.refused(403, "origin_blocked");
    with("origin", "null").await.refused(403, "origin_blocked");
    with("referer", "https://EVIL.example/chat").await.refused(403, "origin_blocked");
}

#[tokio::test]
async fn an_address_that_asks_too_often_waits_and_others_do_not() {
    let (upstream, gateway) = started(KEYED, "{ per_address: { requests_per_minute: 2 } }").await;
    for _ in 0..2 {
        from(&gateway, "198.51.100.1").await.ok();
    }
    let refused = from(&gateway, "198.51.100.1").await;
    refused.refused(429, "rate_limit_exceeded");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{refused:?}");
    from(&gateway, "198.51.100.2").await.ok();
    // A network of IPv6 is one address.
    for last in 1..=2 {
        from(&gateway, &format!("2001:db8::{last}")).await.ok();
    }
    from(&gateway, "2001:db8::3").await.refused(429, "rate_limit_exceeded");
    assert_eq!(upstream.count(), 5);
}

#[tokio::test]
async fn a_user_that_asks_too_often_waits_whichever_of_its_keys_it_takes() {
    let (_upstream, gateway) = started(KEYED, "{ per_user: { requests_per_minute: 2 } }").await;
    let of = |name: &str| gateway.client().key(&format!("client-key-of-somebody-{name}"));
    of("a").chat("hi").await.ok();
    of("b").chat("hi").await.ok();
    of("a").chat("hi").await.refused(429, "rate_limit_exceeded");
    of("b").chat("hi").await.refused(429, "rate_limit_exceeded");
    of("c").chat("hi").await.ok();
}

#[tokio::test]
async fn wrong_keys_are_refused_later_and_later_and_a_right_one_from_there_is_served_at_once() {
    let abuse = "{ failed_keys: { after: 3, delay: 400ms, longest: 800ms } }";
    let (_upstream, gateway) = started(KEYED, abuse).await;
    let guess = async || {
        let begun = Instant::now();
        let client = gateway.client().key("client-key-of-nobody");
        client.chat("hi").await.refused(401, "invalid_api_key");
        begun.elapsed()
    };
    for _ in 0..3 {
        guess().await;
    }
    assert!(guess().await >= Duration::from_millis(400));
    // 800 ms, while somebody else behind the same address is served.
    let late = tokio::join!(guess(), async {
        let begun = Instant::now();
        gateway.client().key("client-key-of-somebody-a").chat("hi").await.ok();
        begun.elapsed()
    });
    assert!(late.0 >= Duration::from_millis(800), "{late:?}");
    assert!(late.1 < late.0, "{late:?}");
    let bounded = guess().await;
    assert!(bounded >= Duration::from_millis(800), "{bounded:?}");
    gateway.counts(r#"forebay_abuse_total{action="delay",check="failed_keys",rule=""}"#, 3).await;
}

#[tokio::test]
async fn a_request_that_asks_for_too_much_is_refused_in_every_dialect() {
    use crate::support::dialects::ALL;
    let (upstream, gateway) = started(FRONT, "{ limits: { max_output_tokens: 100 } }").await;
    for dialect in ALL {
        let reply = dialect.ask(&gateway.client(), "m", false).send().await;
        assert_eq!(reply.status, 400, "{dialect:?}: {reply:?}");
        assert!(reply.text().contains("at most 100 tokens"), "{dialect:?}: {reply:?}");
    }
    assert_eq!(upstream.count(), 0);
    gateway.client().chat("hi").await.ok();
    let many = r#"{"model":"m","max_tokens":60,"n":2,"messages":[{"role":"user","content":"x"}]}"#;
    gateway.client().post(CHAT, many).send().await.refused(400, "invalid_request");
}

#[tokio::test]
async fn prompts_and_images_are_bounded_for_everybody_and_for_each_key() {
    let yaml = KEYED.replace("somebody-c }", "somebody-c, limits: { max_images: 1 } }");
    let (upstream, gateway) =
        started(&yaml, "{ limits: { max_prompt_tokens: 500, max_images: 2 } }").await;
    let of = |name: &str| gateway.client().key(&format!("client-key-of-somebody-{name}"));
    let image = r#"{"type":"image_url","image_url":{"url":"https://x.example/y.png"}}"#;
    let with = async |name: &str, images: usize| {
        let images = vec![image; images].join(",");
        let body =
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{images}]}}]}}"#);
        of(name).post(CHAT, body).send().await
    };
    with("a", 2).await.ok();
    with("a", 3).await.refused(400, "too_many_images");
    with("c", 1).await.ok();
    with("c", 2).await.refused(400, "too_many_images");
    of("a").chat(&"word ".repeat(600)).await.refused(400, "context_length_exceeded");
    assert_eq!(upstream.count(), 2);
}
