//! Answers that the operator has changed on purpose: a prefix, and how thinking is shown.

use serde_json::{Value, json};

use crate::support::answer::{Answer, DONE, content, delta};
use crate::support::client::Reply;
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

async fn editing(answer: Answer, response: &str) -> (Upstream, Gateway) {
    let upstream = upstream::always(answer).await;
    let yaml =
        gateway::FRONT.replace("provider: p }]", &format!("provider: p }}], response: {response}"));
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    (upstream, gateway)
}

/// The content and the reasoning of a stream, whatever member the latter is in.
fn parts(reply: &Reply) -> (String, String, String) {
    let (mut text, mut reasoning, mut reasoning_content) = <(String, String, String)>::default();
    for event in reply.events() {
        let Ok(chunk) = serde_json::from_str::<Value>(&event) else { continue };
        let delta = &chunk["choices"][0]["delta"];
        let said = |name: &str| delta[name].as_str().unwrap_or_default().to_owned();
        text.push_str(&said("content"));
        reasoning.push_str(&said("reasoning"));
        reasoning_content.push_str(&said("reasoning_content"));
    }
    (text, reasoning, reasoning_content)
}

/// The stream's bytes in pieces of `size`.
fn cut(events: &[String], size: usize) -> Answer {
    let whole = events.concat().into_bytes();
    Answer::events(whole.chunks(size).map(<[u8]>::to_vec).collect::<Vec<_>>())
}

const SIZES: [usize; 4] = [1, 5, 33, 100_000];

fn tagged() -> Vec<String> {
    let mut events = vec![delta(&json!({"role": "assistant", "content": ""}))];
    events.extend(["<th", "ink>I ", "see", "</", "think>", "\n\nThe ", "end."].map(content));
    events.push(DONE.to_owned());
    events
}

fn reasoned() -> Vec<String> {
    let reasoning = |text: &str| delta(&json!({ "reasoning_content": text }));
    vec![
        delta(&json!({"role": "assistant", "content": ""})),
        reasoning("I "),
        reasoning("see"),
        content("The "),
        content("end."),
        DONE.to_owned(),
    ]
}

#[tokio::test]
async fn a_prefix_stands_before_the_first_content_once() {
    for size in SIZES {
        let events = [content(""), content("Hello"), content(" there"), DONE.to_owned()];
        let (_upstream, gateway) = editing(cut(&events, size), r#"{ prefix: "<think>\n" }"#).await;
        let reply = gateway.client().stream("hi").await.rest().await.ok();
        assert_eq!(reply.streamed(), "<think>\nHello there", "in pieces of {size}: {reply:?}");
        assert!(reply.text().ends_with(DONE), "{reply:?}");
    }
}

#[tokio::test]
async fn a_prefix_stands_in_a_whole_answer_too() {
    let (_upstream, gateway) = editing(Answer::chat("Hello"), r#"{ prefix: "<think>\n" }"#).await;
    let reply = gateway.client().chat("hi").await.ok();
    assert_eq!(reply.said(), "<think>\nHello");
    assert_eq!(reply.json()["usage"]["prompt_tokens"], 7, "{reply:?}");
    if let Some(length) = reply.header("content-length") {
        assert_eq!(length, reply.body.len().to_string());
    }
}

#[tokio::test]
async fn thinking_is_stripped_however_it_is_told() {
    for events in [tagged(), reasoned()] {
        for size in SIZES {
            let (_upstream, gateway) = editing(cut(&events, size), "{ thinking: strip }").await;
            let reply = gateway.client().stream("hi").await.rest().await.ok();
            let (text, reasoning, reasoning_content) = parts(&reply);
            assert_eq!(text.trim_start(), "The end.", "in pieces of {size}: {reply:?}");
            assert_eq!((reasoning, reasoning_content), Default::default(), "{reply:?}");
            assert!(!reply.text().contains("see"), "{reply:?}");
            assert!(reply.text().ends_with(DONE), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn thinking_is_told_in_the_member_that_is_asked_for() {
    for events in [tagged(), reasoned()] {
        for size in SIZES {
            let (_upstream, gateway) = editing(cut(&events, size), "{ thinking: reasoning }").await;
            let reply = gateway.client().stream("hi").await.rest().await.ok();
            let (text, reasoning, other) = parts(&reply);
            assert_eq!(text.trim_start(), "The end.", "in pieces of {size}: {reply:?}");
            assert_eq!((reasoning.trim(), other.as_str()), ("I see", ""), "{reply:?}");

            let (_upstream, gateway) =
                editing(cut(&events, size), "{ thinking: reasoning_content }").await;
            let reply = gateway.client().stream("hi").await.rest().await.ok();
            let (text, other, reasoning) = parts(&reply);
            assert_eq!(text.trim_start(), "The end.", "in pieces of {size}: {reply:?}");
            assert_eq!((reasoning.trim(), other.as_str()), ("I see", ""), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn thinking_is_told_between_tags() {
    for events in [tagged(), reasoned()] {
        for size in SIZES {
            let (_upstream, gateway) = editing(cut(&events, size), "{ thinking: tag }").await;
            let reply = gateway.client().stream("hi").await.rest().await.ok();
            let (text, reasoning, reasoning_content) = parts(&reply);
            let plain: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let plain = plain.replace("> ", ">").replace(" <", "<");
            assert_eq!(plain, "<think>I see</think>The end.", "in pieces of {size}: {reply:?}");
            assert_eq!((reasoning, reasoning_content), Default::default(), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn a_whole_answer_is_edited_the_same_way() {
    let tagged = Answer::chat("<think>I see</think>\n\nThe end.");
    let (_upstream, gateway) = editing(tagged.clone(), "{ thinking: strip }").await;
    assert_eq!(gateway.client().chat("hi").await.said().trim(), "The end.");
    let (_upstream, gateway) = editing(tagged, "{ thinking: reasoning_content }").await;
    let message = gateway.client().chat("hi").await.ok().json()["choices"][0]["message"].clone();
    assert_eq!(message["content"].as_str().unwrap().trim(), "The end.", "{message}");
    assert_eq!(message["reasoning_content"].as_str().unwrap().trim(), "I see", "{message}");
}

#[tokio::test]
async fn what_no_edit_is_about_keeps_its_bytes() {
    let event = "data: {\"id\": \"x\", \"n\":1e2,\"choices\" : [ {\"delta\":{\"content\":\"a\"},\"index\":0} ] }\n\n";
    let (_upstream, gateway) =
        editing(Answer::events([event, DONE]), "{ thinking: passthrough }").await;
    let reply = gateway.client().stream("hi").await.rest().await.ok();
    assert_eq!(reply.text(), [event, DONE].concat());
    let (_upstream, gateway) = editing(Answer::events([event, DONE]), "{ prefix: \"p\" }").await;
    let reply = gateway.client().stream("hi").await.rest().await.ok();
    assert_eq!(reply.text(), [event, DONE].concat().replace("\"a\"", "\"pa\""));
}

#[tokio::test]
async fn a_failure_is_told_even_where_answers_are_edited() {
    let (_upstream, gateway) =
        editing(Answer::error(400, "Too long."), "{ prefix: p, thinking: strip }").await;
    let reply = gateway.client().chat("hi").await;
    assert_eq!((reply.status, &reply.json()["error"]["message"]), (400, &json!("Too long.")));
}

#[tokio::test]
async fn every_choice_has_its_prefix_and_its_thinking() {
    let choice = |index: u64, text: &str| {
        let chunk = json!({"choices": [{"index": index, "delta": {"content": text}}]});
        format!("data: {chunk}\n\n")
    };
    let events = [
        choice(1, "<think>b"),
        choice(0, "<thi"),
        choice(0, "nk>a</think>A"),
        choice(1, "b</think>B"),
        DONE.to_owned(),
    ];
    for size in SIZES {
        let (_upstream, gateway) =
            editing(cut(&events, size), "{ prefix: \"> \", thinking: strip }").await;
        let reply = gateway.client().stream("hi").await.rest().await.ok();
        let mut texts = [String::new(), String::new()];
        for event in reply.events() {
            let Ok(chunk) = serde_json::from_str::<Value>(&event) else { continue };
            let Some(choice) = chunk["choices"].get(0) else { continue };
            let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
            texts[index].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        }
        assert_eq!(texts, ["> A", "> B"], "in pieces of {size}: {reply:?}");
    }
}

#[tokio::test]
async fn events_that_end_in_crlf_are_edited_too() {
    let events = [content("Hello"), content(" there"), DONE.to_owned()];
    let events = events.map(|event| event.replace('\n', "\r\n"));
    for size in SIZES {
        let (_upstream, gateway) = editing(cut(&events, size), "{ prefix: \"> \" }").await;
        let reply = gateway.client().stream("hi").await.rest().await.ok();
        let expected = events.concat().replace("Hello", "> Hello");
        assert_eq!(reply.text(), expected, "in pieces of {size}");
    }
}
