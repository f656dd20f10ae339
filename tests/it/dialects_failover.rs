//! Failures before and within an answer, across dialects: before its first event another target of any
//! dialect may serve; after it, the client is told in its own words, and nothing ends as if it were whole.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::support::answer::{self, Answer, Body, Cue, Cues, Gate};
use crate::support::client::Reply;
use crate::support::dialects::{ALL, Dialect, read_array};
use crate::support::matrix::{only, only_at, spare, speak};
use crate::support::until;
use crate::support::upstream::{self, Upstream};
use Dialect::{Bedrock, Chat, Gemini, Messages, Responses};

/// The dialect after this one: every one has another's spare.
fn next(dialect: Dialect) -> Dialect {
    ALL[(ALL.iter().position(|it| *it == dialect).unwrap() + 1) % ALL.len()]
}

async fn well(dialect: Dialect) -> Upstream {
    upstream::with(move |call| speak(dialect, call)).await
}

/// What is called an overload in each dialect, with its status before a stream.
fn overload(client: Dialect) -> (u16, &'static str) {
    match client {
        Chat | Responses => (503, "upstream_error"),
        Messages => (529, "overloaded_error"),
        Gemini => (503, "UNAVAILABLE"),
        Bedrock => (503, "ServiceUnavailableException"),
    }
}

/// … and what in a stream.
fn overload_in_band(client: Dialect) -> &'static str {
    match client {
        Bedrock => "serviceUnavailableException",
        _ => overload(client).1,
    }
}

#[tokio::test]
async fn an_error_as_the_first_event_goes_to_a_target_of_another_dialect() {
    for first in ALL {
        let second = next(first);
        // Some begin before they know how it goes.
        let beginnings = match first {
            Messages | Bedrock | Responses => vec![vec![], first.begins()[..1].to_vec()],
            _ => vec![vec![]],
        };
        for begun in beginnings {
            let begins = !begun.is_empty();
            let events = [begun, vec![first.failing()]].concat();
            let a = upstream::always(first.streaming(events)).await;
            let b = well(second).await;
            let gateway = spare(first, &a, second, &b).await;
            // What begins a stream of the client's own dialect has reached it.
            let others = ALL.into_iter().filter(|client| !begins || *client != first);
            for client in others.clone() {
                let pair = format!("{client:?}: {first:?}, then {second:?}");
                let reply = client.ask(&gateway.client(), "m", true).send().await.ok();
                let told = client.read_stream(&reply);
                assert_eq!(told.text, "one two", "{pair}: {reply:?}");
                assert!(told.ended && told.error.is_none(), "{pair}: {reply:?}");
                assert_eq!(reply.header("x-forebay-attempts"), Some("2"), "{pair}: {reply:?}");
                assert_eq!(reply.header("x-forebay-provider"), Some("two"), "{pair}: {reply:?}");
            }
            let count = others.count();
            assert_eq!((a.count(), b.count()), (count, count), "{first:?}");
        }
    }
}

#[tokio::test]
async fn a_failure_status_goes_to_a_target_of_another_dialect() {
    for first in ALL {
        let second = next(first);
        let a = upstream::always(first.failure(503, "no room")).await;
        let b = well(second).await;
        let gateway = spare(first, &a, second, &b).await;
        for client in ALL {
            for stream in [false, true] {
                let reply = client.ask(&gateway.client(), "m", stream).send().await.ok();
                let told = if stream { client.read_stream(&reply) } else { client.read(&reply) };
                assert_eq!(told.text, "one two", "{client:?}: {first:?}, then {second:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_goes_to_a_target_of_another_dialect() {
    for first in ALL {
        let a = upstream::always(Answer::new(200, "application/json", "<html>")).await;
        let b = well(next(first)).await;
        let gateway = spare(first, &a, next(first), &b).await;
        for client in ALL.into_iter().filter(|client| *client != first) {
            let reply = client.ask(&gateway.client(), "m", false).send().await.ok();
            assert_eq!(client.read(&reply).text, "one two", "{client:?}: {first:?}");
        }
    }
}

#[tokio::test]
async fn an_error_as_the_first_event_that_nobody_mends_has_its_true_status() {
    for provider in ALL {
        let a = upstream::always(provider.streaming(vec![provider.failing()])).await;
        let gateway = only(provider, &a, "").await;
        for client in ALL {
            let pair = format!("{client:?} from {provider:?}");
            let reply = client.ask(&gateway.client(), "m", true).send().await;
            let (status, kind) = overload(client);
            assert_eq!(reply.status, status, "{pair}: {reply:?}");
            let told = client.refused(&reply);
            assert_eq!(told, (kind.to_owned(), "no room".to_owned()), "{pair}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn an_error_after_the_first_event_is_told_in_the_clients_words() {
    for provider in ALL {
        let mut events = provider.begins();
        events.extend([provider.word("one"), provider.failing()]);
        let a = upstream::always(provider.streaming(events)).await;
        let gateway = only(provider, &a, "").await;
        for client in ALL.into_iter().filter(|client| *client != provider) {
            let pair = format!("{client:?} from {provider:?}");
            let reply = client.ask(&gateway.client(), "m", true).send().await;
            let told = client.read_stream(&reply);
            assert!(reply.whole, "{pair}: {reply:?}");
            assert_eq!(told.text, "one", "{pair}: {reply:?}");
            assert!(!told.ended, "{pair}: {reply:?}");
            let (kind, said) = told.error.unwrap_or_else(|| panic!("{pair}: {reply:?}"));
            assert_eq!(kind, overload_in_band(client), "{pair}: {reply:?}");
            assert_eq!(said, "no room", "{pair}: {reply:?}");
        }
        assert_eq!(a.count(), 4, "{provider:?}");
    }
}

#[tokio::test]
async fn an_error_of_the_clients_own_dialect_passes_as_it_is() {
    for provider in ALL {
        let mut events = provider.begins();
        events.extend([provider.word("one"), provider.failing()]);
        let a = upstream::always(provider.streaming(events.clone())).await;
        let gateway = only(provider, &a, "").await;
        let reply = provider.ask(&gateway.client(), "m", true).send().await.ok();
        assert_eq!(reply.body, events.concat(), "{provider:?}: {reply:?}");
    }
}

/// A provider whose streams the test sends: the way to the cues of each in turn.
async fn live(provider: Dialect, kind: Option<&'static str>) -> (Upstream, Arc<Mutex<Vec<Cues>>>) {
    let cues = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&cues);
    let upstream = upstream::with(move |_| {
        let (cues, feed) = answer::feed();
        all.lock().unwrap().push(cues);
        let answer = Answer { body: Body::Live(feed), ..provider.streams("") };
        match kind {
            Some(kind) => Answer { headers: vec![("content-type".into(), kind.into())], ..answer },
            None => answer,
        }
    })
    .await;
    (upstream, cues)
}

/// What a client has read when `last` comes after the first word, and then the end.
async fn broken(provider: Dialect, client: Dialect, last: Option<Bytes>, end: Cue) -> Reply {
    let (upstream, cues) = live(provider, None).await;
    let gateway = only(provider, &upstream, "").await;
    let asking = client.ask(&gateway.client(), "m", true).begin().await;
    upstream.wait_for(0).await;
    until("the stream's beginning", || !cues.lock().unwrap().is_empty()).await;
    let cues = cues.lock().unwrap().pop().unwrap();
    provider.begins().into_iter().for_each(|event| cues.send(event));
    cues.send(provider.word("one"));
    let mut stream = asking.answer().await;
    let mut read = Vec::new();
    while !contains(&read, b"one") {
        let piece = stream.piece().await;
        read.extend_from_slice(&piece.unwrap_or_else(|| panic!("{client:?} from {provider:?}")));
    }
    if let Some(last) = last {
        cues.send(last);
    }
    cues.cue(end);
    let mut reply = stream.rest().await;
    reply.body = [&read[..], &reply.body].concat().into();
    reply
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

#[tokio::test]
async fn a_stream_cut_short_is_never_closed_as_whole() {
    for provider in ALL {
        for client in ALL {
            for (name, end) in [("cut", Cue::Cut), ("reset", Cue::Reset), ("ended", Cue::End)] {
                // What ends properly, and says the same as it came, is the client's to judge.
                if client == provider && name == "ended" {
                    continue;
                }
                let pair = format!("{client:?} from {provider:?}, {name}");
                let reply = broken(provider, client, None, end).await;
                let told = client.read_stream(&reply);
                assert_eq!((told.text.as_str(), told.ended), ("one", false), "{pair}: {reply:?}");
                assert!(told.error.is_some(), "{pair}: {reply:?}");
                assert!(reply.whole, "{pair}: {reply:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_cut_within_an_event_tells_nothing_of_it() {
    for provider in ALL {
        let word = provider.word(" two");
        let half = word.slice(..word.len() / 2);
        for client in ALL.into_iter().filter(|client| *client != provider) {
            let reply = broken(provider, client, Some(half.clone()), Cue::Cut).await;
            let told = client.read_stream(&reply);
            assert_eq!(told.text, "one", "{client:?} from {provider:?}: {reply:?}");
            assert!(!told.ended && told.error.is_some(), "{client:?} from {provider:?}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn an_array_cut_short_is_told_in_the_array() {
    for provider in ALL {
        let kind = (provider == Gemini).then_some("application/json");
        let (upstream, cues) = live(provider, kind).await;
        let gateway = only(provider, &upstream, "").await;
        let body = Gemini.body("", "hi", true).to_string();
        let target = "/v1beta/models/m:streamGenerateContent";
        let asking = gateway.client().post(target, body).begin().await;
        until("the stream's beginning", || !cues.lock().unwrap().is_empty()).await;
        let cues = cues.lock().unwrap().pop().unwrap();
        if provider == Gemini {
            cues.send(r#"[{"candidates":[{"content":{"parts":[{"text":"one"}]}}]}"#);
        } else {
            provider.begins().into_iter().for_each(|event| cues.send(event));
            cues.send(provider.word("one"));
        }
        let mut stream = asking.answer().await;
        let first = stream.piece().await.unwrap();
        cues.cue(Cue::Cut);
        let mut reply = stream.rest().await;
        reply.body = [first, reply.body].concat().into();
        let told = read_array(&reply);
        assert_eq!(told.text, "one", "{provider:?}: {reply:?}");
        assert!(!told.ended && told.error.is_some(), "{provider:?}: {reply:?}");
    }
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_told_in_the_clients_words() {
    let port = upstream::refusing();
    for provider in [Messages, Gemini, Bedrock] {
        let gateway = only_at(provider, &port.address(), "").start().await;
        for client in ALL {
            for stream in [false, true] {
                let reply = client.ask(&gateway.client(), "m", stream).send().await;
                assert_eq!(reply.status, 502, "{client:?}: {reply:?}");
                let (kind, said) = client.refused(&reply);
                let expected = match client {
                    Chat | Responses => "upstream_error",
                    Messages => "api_error",
                    Gemini => "INTERNAL",
                    Bedrock => "InternalServerException",
                };
                assert_eq!(kind, expected, "{client:?}: {reply:?}");
                assert!(!said.contains(&port.number.to_string()), "tells an address: {said}");
            }
        }
    }
}

#[tokio::test]
async fn a_silent_provider_is_told_in_the_clients_words() {
    for provider in [Messages, Gemini, Bedrock] {
        let a = upstream::always(Answer::silence()).await;
        let gateway = only(provider, &a, "").await;
        gateway.configure(|yaml| {
            yaml.replace("ejection: off", "ejection: off, timeouts: { first_byte: 200ms }")
        });
        assert!(gateway.reload().await);
        for client in ALL {
            let reply = client.ask(&gateway.client(), "m", true).send().await;
            assert_eq!(reply.status, 504, "{client:?}: {reply:?}");
            let (kind, _) = client.refused(&reply);
            let expected = match client {
                Chat | Responses => "upstream_error",
                Messages => "timeout_error",
                Gemini => "DEADLINE_EXCEEDED",
                Bedrock => "ModelTimeoutException",
            };
            assert_eq!(kind, expected, "{client:?}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn at_the_deadline_of_the_way_down_each_is_told_in_its_own_words() {
    for provider in [Chat, Messages, Gemini, Bedrock] {
        let (cues, feed) = answer::feed();
        let feeds = Mutex::new(vec![feed]);
        let mut all = vec![cues];
        for _ in 1..ALL.len() {
            let (cues, feed) = answer::feed();
            all.push(cues);
            feeds.lock().unwrap().push(feed);
        }
        let a = upstream::with(move |_| {
            let feed = feeds.lock().unwrap().pop().expect("a call too many");
            Answer { body: Body::Live(feed), ..provider.streams("") }
        })
        .await;
        for cues in &all {
            provider.begins().into_iter().for_each(|event| cues.send(event));
            cues.send(provider.word("one"));
        }
        let mut gateway = only(provider, &a, "timeouts: { drain: 300ms }").await;
        let mut open = Vec::new();
        for client in ALL {
            let mut stream = client.ask(&gateway.client(), "m", true).open().await;
            let first = stream.piece().await.unwrap_or_else(|| panic!("{client:?}"));
            open.push((client, first, stream));
        }
        gateway.signal("TERM");
        for (client, first, stream) in open {
            let pair = format!("{client:?} from {provider:?}");
            let mut reply = stream.rest().await;
            assert!(reply.whole, "{pair}: {reply:?}");
            reply.body = [first, reply.body].concat().into();
            let told = client.read_stream(&reply);
            assert_eq!((told.text.as_str(), told.ended), ("one", false), "{pair}: {reply:?}");
            let (kind, said) = told.error.unwrap_or_else(|| panic!("{pair}: {reply:?}"));
            let expected = match client {
                Chat | Responses => "overloaded",
                other => overload_in_band(other),
            };
            assert_eq!(kind, expected, "{pair}: {reply:?}");
            assert!(said.contains("shutting down"), "{pair}: {reply:?}");
        }
        gateway.ended().await;
        drop(all);
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_providers_work() {
    for provider in ALL {
        let (cues, feed) = answer::feed();
        let live = Answer { body: Body::Live(feed), ..provider.streams("") };
        let a = upstream::always(live).await;
        let gateway = only(provider, &a, "").await;
        provider.begins().into_iter().for_each(|event| cues.send(event));
        cues.send(provider.word("one"));
        let client = next(provider);
        let mut stream = client.ask(&gateway.client(), "m", true).open().await;
        assert!(stream.piece().await.is_some());
        drop(stream);
        let call = a.call();
        until("the provider is left", || call.gone().is_some()).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_ends_the_providers_work() {
    for provider in ALL {
        let a = upstream::always(Answer::silence()).await;
        let gateway = only(provider, &a, "").await;
        let waiting = next(provider).ask(&gateway.client(), "m", false).begin().await;
        let call = a.wait_for(0).await;
        until("the whole request", || call.is_whole()).await;
        drop(waiting);
        until("the provider is left", || call.gone().is_some()).await;
    }
}

// === heartbeats ===

#[tokio::test]
async fn clients_of_google_and_amazon_get_no_comments() {
    for client in ALL {
        let provider = next(client);
        let gate = Gate::closed();
        let a = upstream::always(provider.words(&["one"]).after(&gate)).await;
        let gateway = only(provider, &a, "heartbeat: 50ms").await;
        let asking = client.ask(&gateway.client(), "m", true).begin().await;
        let commented = matches!(client, Chat | Responses | Messages);
        if commented {
            // A beat brings the head.
            let mut stream = asking.answer().await;
            assert!(stream.event().await.unwrap().starts_with(':'), "{client:?}");
            gate.open();
            let reply = stream.rest().await.ok();
            assert_eq!(client.read_stream(&reply).text, "one", "{client:?}: {reply:?}");
            continue;
        }
        // Several beats, were there any.
        let call = a.wait_for(0).await;
        until("the whole request", || call.is_whole()).await;
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        gate.open();
        let reply = asking.answer().await.rest().await.ok();
        let told = client.read_stream(&reply);
        assert_eq!((told.text.as_str(), told.ended), ("one", true), "{client:?}: {reply:?}");
        assert!(!reply.text().contains(": keep"), "{client:?}: {reply:?}");
    }
}

#[tokio::test]
async fn a_providers_comments_do_not_reach_clients_that_know_none() {
    for client in [Gemini, Bedrock] {
        for provider in [Chat, Messages] {
            let mut events = vec![Bytes::from_static(b": keep-alive\n\n")];
            events.extend(provider.begins());
            events.push(Bytes::from_static(b": keep-alive\n\n"));
            events.push(provider.word("one"));
            events.extend(provider.ends("one"));
            let a = upstream::always(provider.streaming(events)).await;
            let gateway = only(provider, &a, "").await;
            let reply = client.ask(&gateway.client(), "m", true).send().await.ok();
            assert_eq!(client.read_stream(&reply).text, "one", "{client:?}: {reply:?}");
            assert!(!reply.text().contains("keep-alive"), "{client:?}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_whole_answer_where_a_stream_was_asked_for_is_streamed_to_the_client() {
    for provider in ALL {
        let a = upstream::always(provider.answer("one two")).await;
        let gateway = only(provider, &a, "").await;
        for client in ALL.into_iter().filter(|client| *client != provider) {
            let reply = client.ask(&gateway.client(), "m", true).send().await.ok();
            let told = client.read_stream(&reply);
            let pair = format!("{client:?} from {provider:?}: {reply:?}");
            assert_eq!((told.text.as_str(), told.ended), ("one two", true), "{pair}");
        }
    }
}
