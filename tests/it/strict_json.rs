//! JSON that two readers could read differently, or that costs more than it is worth: refused before
//! anything of it reaches an upstream.

use serde_json::json;

use crate::support::answer::{Answer, DONE, content};
use crate::support::client::{CHAT, Client, Reply};
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Call, Upstream};

const STRICT: &str = r#"
limits: { body: 33MiB }
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: p, model: theirs }] }
  - { name: thoughtless, targets: [{ provider: p }], request: { thinking_history: strip } }
default_provider: p
keys:
  - { name: maker, key: client-key-of-the-maker }
  - { name: other, key: client-key-of-another }
"#;

async fn strict() -> (Upstream, Gateway, Client) {
    let upstream = upstream::with(|call: &Call| match call.target() {
        "/v1/files" => Answer::json(200, &json!({"id": "file-of-the-maker", "object": "file"})),
        _ if call.text().contains(r#""stream":true"#) => {
            Answer::events([content("well"), DONE.to_owned()])
        }
        _ => Answer::chat("well"),
    })
    .await;
    let gateway = gateway::with(STRICT).up("up", &upstream).start().await;
    let client = gateway.client().key("client-key-of-the-maker");
    (upstream, gateway, client)
}

async fn ask(client: &Client, body: impl Into<bytes::Bytes>) -> Reply {
    client.post(CHAT, body).send().await
}

fn nested(levels: usize) -> String {
    format!("{{\"model\":\"m\",\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels))
}

#[tokio::test]
async fn what_is_ambiguous_or_too_complex_is_refused_unsent() {
    let (upstream, _gateway, client) = strict().await;
    let chat = r#"{"model":"m","messages":[]}"#;
    let encoded =
        |unit: fn(u16) -> [u8; 2]| chat.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let keys = (0..1_000_000).map(|at| format!(",\"k{at}\":0")).collect::<Vec<_>>().concat();
    let mut refused: Vec<(&str, Vec<u8>)> = vec![
        ("a byte order mark", [b"\xef\xbb\xbf", chat.as_bytes()].concat()),
        ("UTF-16 LE", encoded(u16::to_le_bytes)),
        ("UTF-16 BE", encoded(u16::to_be_bytes)),
        ("UTF-32", chat.chars().flat_map(|letter| u32::from(letter).to_le_bytes()).collect()),
        ("bytes that are no UTF-8", b"{\"model\":\"m\",\"x\":\"\xff\"}".to_vec()),
        ("an overlong form", b"{\"model\":\"m\",\"x\":\"\xc0\xaf\"}".to_vec()),
        ("a surrogate in UTF-8", b"{\"model\":\"m\",\"x\":\"\xed\xa0\x80\"}".to_vec()),
        ("10^6 names", format!("{{\"model\":\"m\"{keys}}}").into()),
    ];
    for (what, inside) in [
        ("a lone high surrogate", r#""\ud800""#.to_owned()),
        ("a lone low surrogate", r#""\udc00""#.to_owned()),
        ("surrogates the wrong way round", r#""\udc00\ud800""#.to_owned()),
        ("a lone surrogate in a name", r#"{"\ud800":1}"#.to_owned()),
        ("NaN", "NaN".to_owned()),
        ("Infinity", "-Infinity".to_owned()),
        ("a number beyond a double", "1e400".to_owned()),
        ("an integer of 5,000 digits", "9".repeat(5000)),
        ("a bare control character", "\"\u{1}\"".to_owned()),
        ("a comment", "1 /* x */".to_owned()),
        ("single quotes", "'x'".to_owned()),
        ("a comma too many", "[1,]".to_owned()),
        ("a leading zero", "01".to_owned()),
    ] {
        refused.push((what, format!(r#"{{"model":"m","x":{inside}}}"#).into()));
    }
    for levels in [128, 100_000, 1_000_000] {
        refused.push(("too deep", nested(levels).into()));
        refused.push(("unclosed", nested(levels).trim_end_matches([']', '}']).into()));
        let objects = format!("{{\"model\":\"m\",\"x\":{}", "{\"a\":".repeat(levels));
        refused.push(("too deep", objects.into()));
    }
    for (what, behind) in [("garbage", "x"), ("a second document", chat), ("a NUL", "\0")] {
        refused.push((what, format!("{chat}{behind}").into()));
    }
    for twice in ["model", "stream", "max_tokens", "n", "user", "messages", "nobody_knows"] {
        let value = match twice {
            "stream" => "true",
            "model" | "user" => "\"m\"",
            "messages" => "[]",
            _ => "1",
        };
        let (first, rest) = twice.split_at(1);
        let escaped = format!("\\u{:04X}{rest}", u32::from(first.as_bytes()[0]));
        for spelled in [twice, &escaped] {
            let body = format!("{{\"model\":\"m\",\"{twice}\":{value},\"{spelled}\":{value}}}");
            refused.push(("a name given twice", body.into()));
        }
    }
    for body in ["", " ", "[]", "null", "\"m\"", r#"{"model":null}"#, r#"{"model":["m"]}"#, "{}"] {
        refused.push(("no chat", body.into()));
    }
    for (what, body) in &refused {
        let reply = ask(&client, body.clone()).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(90)]).into_owned();
        assert_eq!(reply.status, 400, "{what}: {shown:?}: {reply:?}");
        assert!(reply.json()["error"]["code"].is_string(), "{what}: {reply:?}");
    }
    assert_eq!(upstream.count(), 0, "{:?}", upstream.calls());
}

#[tokio::test]
async fn what_is_only_odd_passes_as_it_is() {
    let (upstream, _gateway, client) = strict().await;
    let digits = "9".repeat(300);
    for inside in [
        r#""😀é\n""#.to_owned(),
        "1e308".to_owned(),
        digits,
        "\t[ -0 , 1.10 , 1E-7 ]\r\n".to_owned(),
        format!("{}{}", "[".repeat(127), "]".repeat(127)),
        r#"{"a":1,"a":2}"#.to_owned(),
        "\"\u{7f}\u{2028}\"".to_owned(),
    ] {
        let body =
            |model: &str| format!(r#"{{ "Model":"x","mod\u0065l" : "{model}","x":{inside}}}"#);
        assert_eq!(ask(&client, body("m")).await.said(), "well");
        assert_eq!(upstream.calls().last().unwrap().text(), body("theirs"));
    }
}

/// Members within members that something here is decided by.
#[tokio::test]
async fn a_nested_name_that_counts_here_stands_once() {
    let (upstream, _gateway, client) = strict().await;
    let refused = [
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true,"include_usage":false}}"#,
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true,"include_\u0075sage":false}}"#,
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"\u0073tream_options":{}}"#,
        r#"{"model":"thoughtless","messages":[{"role":"user","ro\u006ce":"assistant","content":"x"}]}"#,
        r#"{"model":"thoughtless","messages":[{"role":"assistant","content":"x","conten\u0074":"y"}]}"#,
        r#"{"model":"thoughtless","messages":[{"role":"assistant","content":[{"type":"text","type":"image","text":"x"}]}]}"#,
        r#"{"model":"thoughtless","messages":[{"role":"assistant","content":[{"type":"text","text":"x","\u0074ext":"y"}]}]}"#,
    ];
    for body in refused {
        let reply = ask(&client, body).await;
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        assert!(reply.text().contains("more than once"), "{body}: {reply:?}");
    }
    assert_eq!(upstream.count(), 0, "{:?}", upstream.calls());
    let passed = [
        r#"{"model":"m","messages":[{"role":"user","role":"assistant","content":"x"}]}"#,
        r#"{"model":"thoughtless","messages":[{"role":"user","content":"x","x":{"role":1,"role":2}}]}"#,
    ];
    for body in passed {
        assert_eq!(ask(&client, body).await.said(), "well", "nothing here depends on it: {body}");
    }
}

/// Neither depth, nor a number at the edge, nor a second value hides an object from its check.
#[tokio::test]
async fn somebody_elses_object_is_found_in_whatever_is_passed_on() {
    let (upstream, gateway, client) = strict().await;
    client.post("/v1/files", "{}").send().await.ok();
    let other = gateway.client().key("client-key-of-another");
    let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
    let edge = format!("0.{}1", "0".repeat(400));
    for beside in ["1", &deep, "1.7976931348623157e308", "17976931348623157e292", &edge] {
        let body = format!(r#"{{"model":"m","x":{beside},"y":{{"file_id":"file-of-the-maker"}}}}"#);
        assert_eq!(ask(&other, body).await.status, 404, "{beside}");
    }
    for body in [
        r#"{"model":"m","y":{"file_id":"file-of-the-maker","file_id":"mine"}}"#,
        r#"{"model":"m","y":{"file_id":"mine","file_id":"file-of-the-maker"}}"#,
        r#"{"model":"m","y":[[{"file_\u0069d":["mine","file-of-the-\u006daker"]}]]}"#,
    ] {
        assert_eq!(ask(&other, body).await.status, 404, "{body}");
        assert_eq!(ask(&client, body).await.said(), "well", "{body}");
    }
    assert_eq!(upstream.count(), 4);
}

#[tokio::test]
async fn large_and_dull_bodies_cost_three_times_their_size_at_most() {
    let (upstream, gateway, client) = strict().await;
    client.post("/v1/files", "{}").send().await.ok();
    ask(&client, r#"{"model":"m"}"#).await.ok();
    let before = gateway.peak_memory();
    // The peak stays: the small ones come first.
    for (what, mebibytes, unit, (open, close)) in [
        ("names", 8, "\"k\":0,", ("{", "\"k\":0}")),
        ("references", 8, "\"file-of-nobody\",", ("{\"file_ids\":[", "\"\"]}")),
        ("references to one", 8, "\"file-of-the-maker\",", ("{\"file_ids\":[", "\"\"]}")),
        ("pairs of escapes", 8, "\\ud83d\\ude00", ("\"", "\"")),
        ("lists", 32, "[],", ("[", "0]")),
        ("escapes", 32, "\\u0041", ("\"", "\"")),
    ] {
        let filling = unit.repeat(((mebibytes << 20) - 64) / unit.len());
        let body = format!("{{\"model\":\"m\",\"x\":{open}{filling}{close}}}");
        let length = body.len();
        assert_eq!(ask(&client, body).await.said(), "well", "{what}");
        // The provider's name of the model is longer.
        assert_eq!(upstream.calls().last().unwrap().body_len(), length + 5, "{what}");
        let grown = gateway.peak_memory().saturating_sub(before) / 1024;
        let grown = usize::try_from(grown).unwrap();
        assert!(grown <= 3 * mebibytes, "{what}: {grown} MiB for {mebibytes}");
    }
}
