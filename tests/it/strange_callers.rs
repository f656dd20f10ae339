//! Callers who bend the rules, by mistake or on purpose.

use crate::support::answer::Answer;
use crate::support::client::{CHAT, Connection, chat_body};
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

const ANY: &str = r#"
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none } }
  - { name: azure, kind: azure, base_url: "http://@up", api_version: "2024-10-21", api_keys: [azure-key], health_check: { type: none } }
models:
  - { match: { prefix: "dep" }, targets: [{ provider: azure }] }
  - { match: { prefix: "" }, targets: [{ provider: p }] }
default_provider: p
"#;

async fn any() -> (Upstream, Gateway) {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(ANY).up("up", &upstream).start().await;
    (upstream, gateway)
}

#[tokio::test]
async fn a_model_with_strange_letters_is_served_or_refused_and_breaks_no_header() {
    let (upstream, gateway) = any().await;
    for model in ["é", "a\r\nx-evil: 1", "a\nb", "a\tb", "a\u{0}b", "模型/7b", "a\"b", " a "] {
        eprintln!("the model {model:?}");
        let body = serde_json::json!({ "model": model }).to_string();
        let reply = gateway.client().post(CHAT, body).send().await;
        assert!(matches!(reply.status, 200 | 400 | 404), "{model:?}: {reply:?}");
        assert_eq!(reply.header("x-evil"), None, "{model:?}: {reply:?}");
        if reply.status == 200 {
            let call = upstream.calls().last().unwrap().clone();
            assert_eq!(call.json()["model"], model, "{call:?}");
        }
    }
    assert!(upstream.calls().iter().all(|call| call.header("x-evil").is_none()));
}

#[tokio::test]
async fn a_model_in_a_path_cannot_leave_its_place() {
    let (upstream, gateway) = any().await;
    for model in
        ["dep/../../x", "dep?api-version=1&x=", "dep#x", "dep x", "dep%2e%2e", "dep\r\nx: y"]
    {
        eprintln!("the model {model:?}");
        let body = serde_json::json!({ "model": model }).to_string();
        let before = upstream.count();
        let reply = gateway.client().post(CHAT, body).send().await;
        assert!(matches!(reply.status, 200 | 400 | 404), "{model:?}: {reply:?}");
        if let Some(call) = upstream.calls().get(before) {
            let target = call.target();
            let encoded =
                target.strip_prefix("/openai/deployments/").unwrap_or_else(|| panic!("{call:?}"));
            let (deployment, rest) = encoded.split_once('/').unwrap_or_else(|| panic!("{call:?}"));
            assert_eq!(rest, "chat/completions?api-version=2024-10-21", "{model:?}: {call:?}");
            assert!(!deployment.contains(['?', '#', ' ']), "{model:?}: {call:?}");
        }
    }
}

#[tokio::test]
async fn two_requests_in_one_packet_get_an_answer_each_or_the_second_none() {
    let upstream = upstream::with(|call| {
        Answer::chat(call.json()["messages"][0]["content"].as_str().unwrap_or("none"))
    })
    .await;
    let gateway = gateway::front(&upstream).await;
    let one = gateway.client().post(CHAT, chat_body("one").to_string()).bytes();
    let two = gateway.client().post(CHAT, chat_body("two").to_string()).bytes();
    let mut connection = gateway.client().connect().await;
    connection.send([one, two].concat()).await;
    assert_eq!(connection.reply().await.said(), "one");
    if let Ok(Some(head)) = connection.wire.head().await {
        assert_eq!(head.word(1), "200", "{head:?}");
        let last = upstream.calls().last().unwrap().clone();
        assert!(last.text().contains("two"), "{last:?}");
    }
}

#[tokio::test]
async fn a_second_request_hidden_behind_a_body_is_not_served_as_part_of_the_first() {
    let (upstream, gateway) = any().await;
    let hidden = "GET /v1/files/hidden HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut connection = gateway.client().connect().await;
    let body = r#"{"model":"m"}"#;
    let head = gateway.client().post(CHAT, body).head();
    connection.send(format!("{head}{body}{hidden}")).await;
    connection.reply().await;
    for call in upstream.calls() {
        assert!(!call.text().contains("hidden"), "{call:?}");
    }
}

#[tokio::test]
async fn http_1_0_is_served_and_closed() {
    let (_upstream, gateway) = any().await;
    let mut connection = gateway.client().connect().await;
    let body = r#"{"model":"m"}"#;
    let head = format!(
        "POST {CHAT} HTTP/1.0\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.send(format!("{head}{body}")).await;
    let reply = connection.reply().await;
    assert_eq!(reply.said(), "hello");
    assert_eq!(reply.header("transfer-encoding"), None, "{reply:?}");
}

#[tokio::test]
async fn a_caller_who_wants_to_close_is_closed() {
    let (_upstream, gateway) = any().await;
    let request = gateway.client().post(CHAT, r#"{"model":"m"}"#).header("connection", "close");
    let mut connection: Connection = request.begin().await;
    assert_eq!(connection.reply().await.said(), "hello");
    connection.wire.closed().await;
}

#[tokio::test]
async fn trailers_and_chunk_extensions_are_no_part_of_a_body() {
    let (upstream, gateway) = any().await;
    let mut connection = gateway.client().connect().await;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let body = "d;name=value\r\n{\"model\":\"m\"}\r\n0\r\nx-trailer: 1\r\n\r\n";
    connection.send(format!("{head}{body}")).await;
    assert_eq!(connection.reply().await.said(), "hello");
    assert_eq!(upstream.call().text(), r#"{"model":"m"}"#);
}

#[tokio::test]
async fn a_hundred_thousand_members_take_no_time() {
    let (upstream, gateway) = any().await;
    let members = (0..100_000).map(|number| format!("\"k{number}\":{number},"));
    let body = format!("{{{}\"model\":\"m\"}}", members.collect::<String>());
    let begun = std::time::Instant::now();
    let reply = gateway.client().post(CHAT, body.clone()).send().await;
    assert!(matches!(reply.status, 200 | 400), "{reply:?}");
    // A hundred times what it takes; were it quadratic, it would be minutes.
    assert!(begun.elapsed().as_secs() < 5, "it took {:?}", begun.elapsed());
    if reply.status == 200 {
        assert!(upstream.call().text() == body);
    }
}

#[tokio::test]
async fn a_form_that_names_two_models_is_refused() {
    let upstream = upstream::chat("heard").await;
    let yaml = format!(
        "{}\nkeys: [{{ name: a, key: client-key-of-a-1, allowed_models: [m] }}]\n",
        gateway::FRONT
    );
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let field = |name: &str, value: &str| {
        format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    // The servers behind take the last one.
    for padding in ["short", &"w".repeat(500_000)] {
        let body = [
            field("model", "m"),
            field("x", padding),
            field("model", "forbidden"),
            "--x--\r\n".to_owned(),
        ]
        .concat();
        let request =
            gateway.client().key("client-key-of-a-1").request("POST", "/v1/audio/transcriptions");
        let request = request.header("content-type", "multipart/form-data; boundary=x").body(body);
        let reply = request.send().await;
        let complete = upstream
            .calls()
            .iter()
            .any(|call| call.is_whole() && call.text().contains("forbidden"));
        assert!(!complete, "the second model reached the upstream");
        assert_eq!(reply.status, 400, "{reply:?}");
    }
}

#[tokio::test]
async fn a_model_cannot_hide_behind_another_content_type() {
    let upstream = upstream::chat("hello").await;
    let yaml = format!(
        "{}\ndefault_provider: p\nkeys: [{{ name: a, key: client-key-of-a-1, allowed_models: [m] }}]\n",
        gateway::FRONT
    );
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    for kind in [
        "application/json",
        "application/JSON; charset=utf-8",
        "text/plain",
        "application/vnd.api+json",
        "",
    ] {
        let request =
            gateway.client().key("client-key-of-a-1").request("POST", "/v1/fine_tuning/jobs");
        let request = request.header("content-type", kind).body(r#"{"model":"forbidden"}"#);
        let reply = request.send().await;
        assert!((400..500).contains(&reply.status), "{kind:?}: {reply:?}");
    }
    assert_eq!(upstream.count(), 0, "{:?}", upstream.calls());
}

#[tokio::test]
async fn an_offer_to_upgrade_a_chat_is_ignored() {
    // Java's own client offers HTTP/2 that way with every plain request.
    let (upstream, gateway) = any().await;
    let body = chat_body(&"x".repeat(100_000)).to_string();
    for (offer, settings) in [("h2c", true), ("websocket", false), ("foo", false)] {
        let index = upstream.count();
        let request = gateway.client().post(CHAT, body.clone()).header("upgrade", offer);
        let connection = if settings { "Upgrade, HTTP2-Settings" } else { "Upgrade" };
        let request = request.header("connection", connection);
        let request = request.header("http2-settings", "AAMAAABkAAQAAP__");
        let mut connection = gateway.client().connect().await;
        for turn in 0..2 {
            let reply = request.over(&mut connection).await;
            assert_eq!(reply.said(), "hello", "{offer}, request {turn}");
            let call = upstream.calls()[index + turn].clone();
            assert!(call.text() == body, "{offer}: {} bytes", call.body_len());
            assert_eq!(call.header("upgrade"), None, "{offer}: {call:?}");
            let named = settings.then(|| call.header("http2-settings")).flatten();
            assert_eq!(named, None, "{offer}: {call:?}");
        }
    }
}

#[tokio::test]
async fn an_offer_to_upgrade_a_stream_is_ignored() {
    let upstream = upstream::always(Answer::words(&["a", "b"], true)).await;
    let gateway = gateway::front(&upstream).await;
    let body = crate::support::client::stream_body("hi").to_string();
    let request = gateway.client().post(CHAT, body).header("upgrade", "h2c");
    let request = request.header("connection", "Upgrade, HTTP2-Settings");
    let reply = request.header("http2-settings", "AAMAAABkAAQAAP__").send().await.ok();
    assert_eq!(reply.streamed(), "ab", "{reply:?}");
}

#[tokio::test]
async fn a_question_with_a_body_is_passed_on_with_it() {
    let (upstream, gateway) = any().await;
    let request = gateway.client().request("GET", "/v1/files").body("{\"x\":1}");
    let request = request.header("content-type", "application/json");
    let reply = request.header("content-length", "7").send().await;
    assert!(matches!(reply.status, 200 | 400), "{reply:?}");
    if reply.status == 200 {
        assert_eq!(upstream.call().text(), "{\"x\":1}");
    }
}
