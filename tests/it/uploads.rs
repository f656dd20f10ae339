//! Forms with files in them: they stream through when the model stands first, wait on disk when it
//! does not, and never fill the memory.

use crate::support::answer::{Answer, Ending};
use crate::support::client::{CHAT, Request, chat_body};
use crate::support::gateway::{self, Gateway};
use crate::support::http2::{Http2, send_all};
use crate::support::until;
use crate::support::upstream::{self, Upstream};

const RENAMED: &str = r#"
limits: { upload: 80MiB }
providers:
  - { name: one, kind: vllm, base_url: "http://@a", health_check: { type: none }, ejection: off }
  - { name: two, kind: vllm, base_url: "http://@b", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: one, model: whisper-large }, { provider: two, model: w, weight: 0 }] }
"#;
const PATH: &str = "/v1/audio/transcriptions";
const FORM: &str = "multipart/form-data; boundary=x";

async fn two() -> (Upstream, Upstream, Gateway) {
    let (a, b) = (upstream::chat("heard").await, upstream::chat("heard too").await);
    let gateway = gateway::with(RENAMED).up("a", &a).up("b", &b).start().await;
    (a, b, gateway)
}

fn model(name: &str) -> String {
    format!("--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{name}\r\n")
}

fn file(bytes: &str) -> String {
    format!(
        "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\
         Content-Type: audio/wav\r\n\r\n{bytes}\r\n"
    )
}

const END: &str = "--x--\r\n";

fn upload(gateway: &Gateway, body: impl Into<bytes::Bytes>) -> Request {
    gateway.client().request("POST", PATH).header("content-type", FORM).body(body)
}

#[tokio::test]
async fn a_form_arrives_with_the_providers_model_wherever_it_stands() {
    let (a, _b, gateway) = two().await;
    for size in [10, 100_000] {
        let wav = "w".repeat(size);
        for [first, second] in [[model("m"), file(&wav)], [file(&wav), model("m")]] {
            let body = [first, second, END.to_owned()].concat();
            let expected = body.replace("\r\n\r\nm\r\n", "\r\n\r\nwhisper-large\r\n");
            for request in [upload(&gateway, body.clone()), upload(&gateway, body).chunked(777)] {
                let reply = request.send().await.ok();
                assert_eq!(reply.said(), "heard");
                let call = a.calls().last().unwrap().clone();
                assert!(call.text() == expected, "{} bytes of {}", call.body_len(), expected.len());
                let length = call.header("content-length").map(str::to_owned);
                if let Some(length) = length {
                    assert_eq!(length, expected.len().to_string());
                }
                assert_eq!(call.header("content-type"), Some(FORM), "{call:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_form_with_the_model_first_streams_through() {
    let (a, _b, gateway) = two().await;
    let mut connection = gateway.client().connect().await;
    let wav = "w".repeat(50_000);
    let body = [model("m"), file(&wav), END.to_owned()].concat();
    connection.send(upload(&gateway, body.clone()).head()).await;
    let (first, last) = body.split_at(body.len() - 20_000);
    connection.send(first).await;
    let call = a.wait_for(0).await;
    until("the file begins to arrive", || call.body_len() > 10_000).await;
    assert!(!call.is_whole());
    connection.send(last).await;
    connection.reply().await.ok();
    assert_eq!(call.body_len(), body.len() + "whisper-large".len() - 1);
}

#[tokio::test]
async fn a_form_with_the_model_last_can_go_to_another_target() {
    let (a, b, gateway) = two().await;
    a.behave(|_| Answer::error(503, "in trouble"));
    let body = [file(&"w".repeat(500_000)), model("m"), END.to_owned()].concat();
    let reply = upload(&gateway, body.clone()).send().await;
    assert_eq!(reply.said(), "heard too");
    assert_eq!(a.call().text(), body.replace("\r\n\r\nm\r\n", "\r\n\r\nwhisper-large\r\n"));
    assert_eq!(b.call().text(), body.replace("\r\n\r\nm\r\n", "\r\n\r\nw\r\n"));
}

#[tokio::test]
async fn a_short_form_can_go_to_another_target() {
    let (a, b, gateway) = two().await;
    for failure in [Answer::error(503, "x"), Answer::chat("x").ending(Ending::CutBeforeHead)] {
        a.behave(move |_| failure.clone());
        let body = [file("short"), model("m"), END.to_owned()].concat();
        assert_eq!(upload(&gateway, body).send().await.said(), "heard too");
    }
    assert_eq!(b.count(), 2);
}

#[tokio::test]
async fn a_form_that_has_streamed_by_fails_with_the_providers_words() {
    let (a, b, gateway) = two().await;
    a.behave(|_| Answer::error(503, "in trouble"));
    let body = [model("m"), file(&"w".repeat(2_000_000)), END.to_owned()].concat();
    let reply = upload(&gateway, body).send().await;
    let error = reply.refused(503, "upstream_error");
    assert_eq!(error["message"], "in trouble");
    assert_eq!(b.count(), 0, "half a form went to the second");
}

#[tokio::test]
async fn a_form_goes_to_another_target_when_nobody_listens_at_the_first() {
    let b = upstream::chat("heard too").await;
    let port = upstream::refusing();
    let gateway = gateway::with(RENAMED).place("a", &port.address()).up("b", &b).start().await;
    let body = [model("m"), file(&"w".repeat(2_000_000)), END.to_owned()].concat();
    assert_eq!(upload(&gateway, body.clone()).send().await.said(), "heard too");
    assert!(b.call().text() == body.replace("\r\n\r\nm\r\n", "\r\n\r\nw\r\n"));
}

#[tokio::test]
async fn a_form_without_a_model_is_400() {
    let (a, _b, gateway) = two().await;
    for body in [
        [file("short"), END.to_owned()].concat(),
        [file(&"w".repeat(200_000)), END.to_owned()].concat(),
        END.to_owned(),
    ] {
        let error = upload(&gateway, body).send().await.refused(400, "invalid_request");
        assert_eq!(error["param"], "model");
    }
    assert_eq!(a.count(), 0, "{:?}", a.calls());
}

#[tokio::test]
async fn a_form_for_an_unknown_model_is_404_and_one_that_is_none_400() {
    let (a, _b, gateway) = two().await;
    let body = [model("nope"), file("short"), END.to_owned()].concat();
    upload(&gateway, body).send().await.refused(404, "model_not_found");
    let body = [model("m"), model("nope"), file("short"), END.to_owned()].concat();
    let twice = upload(&gateway, body).send().await;
    assert!(matches!(twice.status, 200 | 400), "{twice:?}");
    let request = gateway.client().request("POST", PATH).body("x");
    request
        .header("content-type", "multipart/form-data")
        .send()
        .await
        .refused(400, "invalid_request");
    assert!(a.count() <= 1, "{:?}", a.calls());
}

#[tokio::test]
async fn an_upload_beyond_its_limit_is_413() {
    let (a, b) = (upstream::chat("heard").await, upstream::chat("heard too").await);
    let yaml = RENAMED.replace("80MiB", "100KiB");
    let gateway = gateway::with(&yaml).up("a", &a).up("b", &b).start().await;
    let wav = "w".repeat(200_000);
    let last = [file(&wav), model("m"), END.to_owned()].concat();
    let first = [model("m"), file(&wav), END.to_owned()].concat();
    upload(&gateway, last.clone()).send().await.refused(413, "request_too_large");
    upload(&gateway, last).chunked(5000).send().await.refused(413, "request_too_large");
    upload(&gateway, first.clone()).send().await.refused(413, "request_too_large");
    assert_eq!((a.count(), b.count()), (0, 0));
    // This one has begun to stream when it grows beyond the limit.
    upload(&gateway, first).chunked(5000).send().await.refused(413, "request_too_large");
    assert!(a.calls().iter().all(|call| !call.is_whole()), "{:?}", a.calls());
    assert_eq!(b.count(), 0);
}

#[tokio::test]
async fn a_caller_who_asks_whether_to_go_on_is_told_to() {
    let (a, _b, gateway) = two().await;
    let chat = chat_body("hi").to_string();
    let form = [model("m"), file("short"), END.to_owned()].concat();
    let requests =
        [(gateway.client().post(CHAT, chat.clone()), chat), (upload(&gateway, form.clone()), form)];
    for (index, (request, body)) in requests.into_iter().enumerate() {
        let mut connection = gateway.client().connect().await;
        connection.send(request.header("expect", "100-continue").head()).await;
        let head = connection.head().await;
        assert_eq!(head.word(1), "100", "{head:?}");
        connection.send(&body).await;
        let reply = connection.reply().await;
        assert_eq!(reply.said(), "heard");
        assert_eq!(a.calls()[index].header("expect"), None);
    }
}

#[tokio::test]
async fn a_retry_still_works_after_100_continue() {
    let (a, _b, gateway) = two().await;
    a.behave(|_| Answer::error(503, "in trouble"));
    let body = chat_body("hi").to_string();
    let mut connection = gateway.client().connect().await;
    let request = gateway.client().post(CHAT, body.clone()).header("expect", "100-continue");
    connection.send(request.head()).await;
    assert_eq!(connection.head().await.word(1), "100");
    connection.send(&body).await;
    assert_eq!(connection.reply().await.said(), "heard too");
}

#[tokio::test]
async fn a_caller_who_asks_whether_to_go_on_with_a_bad_key_is_refused_unread() {
    let upstream = upstream::chat("x").await;
    let yaml = format!("{}\nkeys: [{{ name: a, key: client-key-of-a }}]\n", gateway::FRONT);
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let mut connection = gateway.client().connect().await;
    let request = gateway.client().post(CHAT, "x".repeat(1000)).header("expect", "100-continue");
    connection.send(request.head()).await;
    let head = connection.head().await;
    assert_eq!(head.word(1), "401", "{head:?}");
}

#[tokio::test]
async fn fifty_mebibytes_pass_without_filling_the_memory() {
    let (a, _b, gateway) = two().await;
    upload(&gateway, [model("m"), file("warm"), END.to_owned()].concat()).send().await.ok();
    upload(&gateway, [file("warm"), model("m"), END.to_owned()].concat()).send().await.ok();
    let before = gateway.peak_memory();
    let wav = "w".repeat(50 << 20);
    for [first, second] in [[model("m"), file(&wav)], [file(&wav), model("m")]] {
        let body = [first, second, END.to_owned()].concat();
        let length = body.len();
        upload(&gateway, body).send().await.ok();
        assert_eq!(a.calls().last().unwrap().body_len(), length + "whisper-large".len() - 1);
    }
    let grown = gateway.peak_memory() - before;
    assert!(grown < 16 << 10, "it grew by {grown} KiB");
}

#[tokio::test]
async fn a_form_arrives_over_http2_wherever_the_model_stands() {
    let (a, _b, gateway) = two().await;
    let wav = "w".repeat(3_000_000);
    let orders = [[model("m"), file(&wav)], [file(&wav), model("m")]];
    for (turn, [first, second]) in orders.into_iter().enumerate() {
        let body = [first, second, END.to_owned()].concat();
        let expected = body.replace("\r\n\r\nm\r\n", "\r\n\r\nwhisper-large\r\n");
        let mut http2 = Http2::connect(gateway.address).await;
        let (mut stream, answer) = http2.begin("POST", PATH, &[("content-type", FORM)]).await;
        let sending = send_all(&mut stream, body.into());
        let ((), answer) = tokio::join!(sending, answer);
        let reply = answer.rest().await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let call = a.calls()[turn].clone();
        let length = expected.len();
        assert!(call.text() == expected, "{} bytes of {length}: {call:?}", call.body_len());
        assert_eq!(a.count(), turn + 1, "stray bytes: {:?}", a.calls().last());
    }
}

#[tokio::test]
async fn an_empty_frame_within_a_form_ends_nothing() {
    let (a, _b, gateway) = two().await;
    let body = [model("m"), file(&"w".repeat(100_000)), END.to_owned()].concat();
    let expected = body.replace("\r\n\r\nm\r\n", "\r\n\r\nwhisper-large\r\n");
    let mut http2 = Http2::connect(gateway.address).await;
    for turn in 0..3 {
        let (mut stream, answer) = http2.begin("POST", PATH, &[("content-type", FORM)]).await;
        let middle = body.len() / 2;
        stream.send_data(bytes::Bytes::new(), false).unwrap();
        stream.send_data(body[..middle].to_owned().into(), false).unwrap();
        let call = a.wait_for(turn).await;
        // What was sent is there before the empty frame comes, which so is read on its own.
        until("the first half", || call.body_len() >= middle).await;
        stream.send_data(bytes::Bytes::new(), false).unwrap();
        stream.send_data(bytes::Bytes::new(), false).unwrap();
        stream.send_data(body[middle..].to_owned().into(), true).unwrap();
        assert_eq!(answer.await.rest().await.status, 200, "{call:?}");
        assert!(call.text() == expected, "{} bytes: {call:?}", call.body_len());
        assert_eq!(a.count(), turn + 1, "stray bytes: {:?}", a.calls().last());
    }
}

#[tokio::test]
async fn a_form_that_stops_arriving_is_given_up() {
    let (a, b) = (upstream::chat("heard").await, upstream::chat("heard too").await);
    let yaml = format!("{RENAMED}\ntimeouts: {{ request_body: 300ms }}\n");
    let gateway = gateway::with(&yaml).up("a", &a).up("b", &b).start().await;
    for body in [
        [file("short"), model("m"), END.to_owned()].concat(),
        [file(&"w".repeat(200_000)), model("m"), END.to_owned()].concat(),
    ] {
        let mut connection = gateway.client().connect().await;
        connection.send(upload(&gateway, body.clone()).head()).await;
        connection.send(&body[..body.len() - 60]).await;
        connection.reply().await.refused(408, "invalid_request");
    }
    assert_eq!((a.count(), b.count()), (0, 0));
    // This one's upstream is under way already: it must not wait for ever either.
    let body = [model("m"), file(&"w".repeat(200_000)), END.to_owned()].concat();
    let mut connection = gateway.client().connect().await;
    connection.send(upload(&gateway, body.clone()).head()).await;
    connection.send(&body[..body.len() - 60]).await;
    let call = a.wait_for(0).await;
    until("the upstream is let go", || call.gone().is_some()).await;
    let reply = connection.reply().await;
    assert!(reply.status >= 400, "{reply:?}");
    assert_eq!(b.count(), 0);
}

#[tokio::test]
async fn an_upload_refused_before_its_end_is_told() {
    let (a, _b, gateway) = two().await;
    a.behave(|_| Answer::error(413, "Too long a recording."));
    a.answer_early();
    let body = [model("m"), file(&"w".repeat(20 << 20)), END.to_owned()].concat();
    for request in [upload(&gateway, body.clone()), upload(&gateway, body).chunked(100_000)] {
        let reply = request.send().await;
        assert_eq!(reply.status, 413, "{reply:?}");
        assert_eq!(reply.json()["error"]["message"], "Too long a recording.", "{reply:?}");
    }
}
