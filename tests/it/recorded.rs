//! Answers recorded from real servers: they reach the caller byte for byte, however the network
//! cuts them.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::support::answer::{Answer, Body};
use crate::support::client::{CHAT, Reply};
use crate::support::fixture::{self, Recorded};
use crate::support::gateway;
use crate::support::http2::Http2;
use crate::support::upstream;

const SIZES: [usize; 5] = [1, 7, 64, 1000, 1 << 20];

/// The path that makes an answer like this one.
fn path(recorded: &Recorded) -> &'static str {
    let paths = [
        ("completions", "/v1/completions"),
        ("embeddings", "/v1/embeddings"),
        ("messages_count_tokens", "/v1/messages/count_tokens"),
        ("messages", "/v1/messages"),
        ("responses", "/v1/responses"),
    ];
    let found = paths.iter().find(|(name, _)| recorded.name.starts_with(name));
    found.map_or(CHAT, |(_, path)| *path)
}

fn answer(recorded: &Recorded, size: usize) -> Answer {
    let kind = recorded.head.get("content-type").unwrap_or_default();
    let pieces = recorded.body.chunks(size).map(Bytes::copy_from_slice).collect();
    let answer = Answer::new(recorded.status(), kind, "");
    Answer { body: Body::Chunks(pieces), ..answer }
}

/// What is passed on as it is: all but the failures of the server itself.
async fn passed_on() -> Vec<Recorded> {
    let mut recordings = fixture::vllm().await;
    recordings.retain(|recorded| recorded.status() < 500);
    recordings
}

#[tokio::test]
async fn every_recorded_answer_comes_back_byte_for_byte_at_every_chunk_size() {
    let recordings = passed_on().await;
    let script = Arc::new(Mutex::new(Answer::chat("")));
    let current = Arc::clone(&script);
    let upstream = upstream::with(move |_| current.lock().unwrap().clone()).await;
    let gateway = gateway::front(&upstream).await;
    for recorded in &recordings {
        for size in SIZES {
            *script.lock().unwrap() = answer(recorded, size);
            let stream = recorded.is_stream();
            // A client that asks for usage itself: nothing is withheld from it.
            let body = format!(
                r#"{{"model":"m","stream":{stream},"stream_options":{{"include_usage":true}}}}"#
            );
            let reply = gateway.client().post(path(recorded), body).send().await;
            same(&reply, recorded, size);
        }
    }
}

fn same(reply: &Reply, recorded: &Recorded, size: usize) {
    let name = &recorded.name;
    assert_eq!(reply.status, recorded.status(), "{name} in chunks of {size}: {reply:?}");
    assert!(reply.whole, "{name} in chunks of {size}: {reply:?}");
    assert!(
        reply.body == recorded.body,
        "{name} in chunks of {size}:\n{}\n--- instead of ---\n{}",
        reply.text(),
        String::from_utf8_lossy(&recorded.body)
    );
    assert_eq!(reply.header("content-type"), recorded.head.get("content-type"), "{name}");
}

#[tokio::test]
async fn the_tokens_of_recorded_answers_are_counted() {
    let recordings = passed_on().await;
    let usage = |recorded: &Recorded| {
        let text = String::from_utf8_lossy(&recorded.body).into_owned();
        let object = text.rsplit("\"usage\":{").next()?.to_owned();
        let number = |name: &str| {
            let (_, rest) = object.split_once(&format!("\"{name}\":"))?;
            rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse::<u64>().ok()
        };
        // Anthropic's dialect counts what the cache had beside the rest.
        let beside = ["cache_creation_input_tokens", "cache_read_input_tokens"];
        let beside: u64 = beside.iter().filter_map(|name| number(name)).sum();
        let prompt = number("prompt_tokens").or(number("input_tokens"))? + beside;
        let completion = number("completion_tokens").or(number("output_tokens"))?;
        text.contains("\"usage\":{").then_some((prompt, completion))
    };
    let mut counted = 0;
    for recorded in &recordings {
        let Some((prompt, completion)) = usage(recorded) else { continue };
        let upstream = upstream::always(answer(recorded, 100)).await;
        // A model of the recording's name, so that the metric tells which one is miscounted.
        let name = recorded.name.as_str();
        let yaml = gateway::FRONT.replace("name: m", &format!("name: {name}"));
        let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
        let body = format!(r#"{{"model":"{name}","stream":{}}}"#, recorded.is_stream());
        gateway.client().post(path(recorded), body).send().await;
        let metric = |kind: &str| {
            format!(r#"forebay_tokens_total{{model="{name}",provider="p",type="{kind}"}}"#)
        };
        gateway.counts(&metric("prompt"), prompt).await;
        gateway.counts(&metric("completion"), completion).await;
        counted += 1;
    }
    assert!(counted >= 5, "only {counted} recordings tell their usage");
}

#[tokio::test]
async fn usage_that_was_not_asked_for_is_the_only_thing_withheld() {
    let recordings = passed_on().await;
    let script = Arc::new(Mutex::new(Answer::chat("")));
    let current = Arc::clone(&script);
    let upstream = upstream::with(move |_| current.lock().unwrap().clone()).await;
    let gateway = gateway::front(&upstream).await;
    let mut withheld = 0;
    for recorded in recordings.iter().filter(|recorded| recorded.is_stream()) {
        let text = String::from_utf8(recorded.body.to_vec()).unwrap();
        let is_usage =
            |event: &&str| event.contains("\"choices\":[]") && event.contains("\"usage\":{");
        let events: Vec<&str> = text.split_inclusive("\n\n").collect();
        let expected: String = events.iter().filter(|event| !is_usage(event)).copied().collect();
        withheld += events.iter().filter(|event| is_usage(event)).count();
        for size in SIZES {
            *script.lock().unwrap() = answer(recorded, size);
            let request = gateway.client().post(path(recorded), r#"{"model":"m","stream":true}"#);
            let reply = request.send().await;
            let name = &recorded.name;
            assert_eq!(reply.text(), expected, "{name} in chunks of {size}");
        }
    }
    assert!(withheld > 0, "no recording has a chunk of usage");
}

#[tokio::test]
async fn an_edit_that_finds_nothing_changes_nothing() {
    let recordings = passed_on().await;
    let script = Arc::new(Mutex::new(Answer::chat("")));
    let current = Arc::clone(&script);
    let upstream = upstream::with(move |_| current.lock().unwrap().clone()).await;
    for mode in ["strip", "tag", "reasoning", "reasoning_content"] {
        let edit = format!("provider: p }}], response: {{ thinking: {mode} }}");
        let yaml = gateway::FRONT.replace("provider: p }]", &edit);
        let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
        let plain = |recorded: &&Recorded| {
            let text = String::from_utf8_lossy(&recorded.body).into_owned();
            !text.contains("think>") && !text.contains("\"reasoning\":") && recorded.status() == 200
        };
        for recorded in recordings.iter().filter(plain) {
            for size in [7, 1 << 20] {
                *script.lock().unwrap() = answer(recorded, size);
                let stream = recorded.is_stream();
                let body = format!(
                    r#"{{"model":"m","stream":{stream},"stream_options":{{"include_usage":true}}}}"#
                );
                let reply = gateway.client().post(path(recorded), body).send().await;
                same(&reply, recorded, size);
            }
        }
    }
}

#[tokio::test]
async fn every_recorded_answer_comes_back_byte_for_byte_over_http2() {
    for recorded in passed_on().await {
        let upstream = upstream::always(answer(&recorded, 50)).await;
        let gateway = gateway::front(&upstream).await;
        let stream = recorded.is_stream();
        let body = format!(
            r#"{{"model":"m","stream":{stream},"stream_options":{{"include_usage":true}}}}"#
        );
        let mut http2 = Http2::connect(gateway.address).await;
        let reply = http2.post(path(&recorded), body).await.rest().await;
        assert_eq!(reply.status, recorded.status(), "{}: {reply:?}", recorded.name);
        assert_eq!(reply.body, recorded.body, "{}: {reply:?}", recorded.name);
    }
}

#[tokio::test]
async fn a_servers_own_failure_is_told_anew_in_its_words() {
    let mut recordings = fixture::vllm().await;
    recordings.retain(|recorded| recorded.status() >= 500);
    for recorded in recordings {
        let upstream = upstream::always(answer(&recorded, 50)).await;
        let gateway = gateway::front(&upstream).await;
        let reply = gateway.client().chat("hi").await;
        let error = reply.refused(recorded.status(), "upstream_error");
        let said: serde_json::Value = serde_json::from_slice(&recorded.body).unwrap();
        assert_eq!(error["message"], said["error"]["message"], "{}", recorded.name);
    }
}
