//! Faults of our own: a panic, or an error where none was thought of, costs the request it happens
//! in and nothing else.
//!
//! The binary under test has failure points (`fault!` in the source); the environment says which of
//! them misbehaves, how, and at which passage.

use std::collections::BTreeMap;

use tokio::task::JoinSet;

use crate::support::answer::{self, Answer, DONE, Ending, content};
use crate::support::client::{CHAT, Reply, Request, chat_body, stream_body};
use crate::support::eventually;
use crate::support::gateway::{self, Gateway, Plan};
use crate::support::http2::Http2;
use crate::support::upstream::{self, Call, Upstream};

const PAIR: &str = r#"
providers:
  - name: p
    kind: vllm
    endpoints: [{ url: "http://@a" }, { url: "http://@b" }]
    health_check: { type: none }
    ejection: { after: 3, base: 50ms }
models:
  - { name: m, targets: [{ provider: p }] }
retry: { attempts: 16, budget: 100% }
"#;

/// What everybody sends.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    Chats,
    Streams,
    /// Forms whose model comes after the file.
    Forms,
}

/// How a request ended, as its caller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Answered,
    /// A 500 in the caller's dialect.
    Refused,
    /// An error event in the stream, and its proper end.
    ToldInBand,
    /// The connection, or the stream of HTTP/2, ends before its answer does.
    Cut,
}

/// Says back what it was asked.
fn parrot(call: &Call) -> Answer {
    if call.target().contains("audio") {
        return Answer::chat("heard");
    }
    let asked = call.json();
    let text = asked["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
    if asked["stream"] == true {
        let letters = text.chars().map(|letter| content(&letter.to_string()));
        return Answer::events(letters.chain([DONE.to_owned()]));
    }
    Answer::chat(&text)
}

fn form() -> String {
    let file = "w".repeat(200_000);
    format!(
        "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n{file}\r\n\
         --x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--x--\r\n"
    )
}

/// A request, and what its answer says.
fn request(gateway: &Gateway, load: Load, text: &str) -> (Request, String) {
    let client = gateway.client();
    match load {
        Load::Chats => (client.post(CHAT, chat_body(text).to_string()), text.to_owned()),
        Load::Streams => (client.post(CHAT, stream_body(text).to_string()), text.to_owned()),
        Load::Forms => {
            let form = client.request("POST", "/v1/audio/transcriptions").body(form());
            (form.header("content-type", "multipart/form-data; boundary=x"), "heard".to_owned())
        }
    }
}

/// Anything but an answer, a proper refusal, or a cut is a finding.
fn judged(reply: Option<Reply>, said: &str, load: Load) -> Seen {
    let Some(reply) = reply.filter(|reply| reply.whole) else { return Seen::Cut };
    if reply.status == 500 {
        reply.refused(500, "internal_error");
        return Seen::Refused;
    }
    assert_eq!(reply.status, 200, "{reply:?}");
    if load != Load::Streams {
        assert_eq!(reply.said(), said, "{reply:?}");
        return Seen::Answered;
    }
    let last = reply.events().pop().unwrap_or_default();
    if last == "[DONE]" {
        assert_eq!(reply.streamed(), said, "{reply:?}");
        return Seen::Answered;
    }
    assert!(last.contains("internal_error"), "{reply:?}");
    Seen::ToldInBand
}

async fn pair(fault: &str) -> (Upstream, Upstream, Gateway) {
    let (a, b) = (upstream::with(parrot).await, upstream::with(parrot).await);
    let gateway = start(gateway::with(PAIR).up("a", &a).up("b", &b), fault).await;
    (a, b, gateway)
}

async fn start(plan: Plan, fault: &str) -> Gateway {
    plan.env("FAILPOINTS", fault).start().await
}

/// Forty requests of eight callers at a time, by how they ended.
async fn traffic(gateway: &Gateway, load: Load) -> BTreeMap<Seen, usize> {
    let mut callers = JoinSet::new();
    for caller in 0..8 {
        let turn = |turn| request(gateway, load, &format!("caller {caller} turn {turn}"));
        let turns: Vec<(Request, String)> = (0..5).map(turn).collect();
        callers.spawn(async move {
            let mut seen = Vec::new();
            for (request, said) in turns {
                seen.push(judged(request.try_send().await, &said, load));
            }
            seen
        });
    }
    let mut seen = BTreeMap::new();
    while let Some(one) = callers.join_next().await {
        one.unwrap().into_iter().for_each(|one| *seen.entry(one).or_default() += 1);
    }
    seen
}

/// Nothing is left of what went wrong, and the gateway serves on.
async fn unharmed(gateway: &Gateway, panics: u64) {
    gateway.counts("forebay_panics_total", panics).await;
    gateway.counts("forebay_active_requests", 0).await;
    gateway.counts("forebay_connections", 0).await;
    gateway.counts("forebay_buffered_bytes", 0).await;
    let health = gateway.health().await;
    for replica in health["providers"][0]["replicas"].as_array().unwrap() {
        assert_eq!((&replica["in_flight"], &replica["health"]), (&0.into(), &"healthy".into()));
    }
    assert_eq!(traffic(gateway, Load::Chats).await, BTreeMap::from([(Seen::Answered, 40)]));
}

/// What `forebay_requests_total` counted with this status, but for looks at the health.
async fn requests(gateway: &Gateway, status: &str) -> u64 {
    let metrics = gateway.metrics().await;
    let status = format!("status=\"{status}\"");
    let lines = metrics.lines().filter(|line| line.starts_with("forebay_requests_total"));
    let lines = lines.filter(|line| line.contains(&status) && !line.contains("\"/health"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// One passage of `point` goes wrong amid the traffic of others.
async fn costs_one(point: &str, action: &str, load: Load, expected: Seen) {
    let (_a, _b, gateway) = pair(&format!("{point}=10*off->1*{action}")).await;
    let seen = traffic(&gateway, load).await;
    let mut wanted = BTreeMap::from([(Seen::Answered, 39)]);
    *wanted.entry(expected).or_default() += 1;
    assert_eq!(seen, wanted, "{point}: {action}");
    let panics = u64::from(action == "panic");
    unharmed(&gateway, panics).await;

    let log = gateway.log();
    if panics == 1 {
        // Where it was is told, and not what it said: that may be a caller's.
        assert_eq!(log.matches(" panicked at ").count(), 1, "{log}");
        assert!(!log.contains(&format!("failpoint {point}")), "{log}");
        // Once in the access log, whether a last phase wrote it or its want.
        let lines = log.lines().filter(|line| line.contains("request_id="));
        let lines = lines.filter(|line| line.contains("failure=")).count();
        assert_eq!(lines, 1, "{log}");
    }
    let failed = u64::from(expected != Seen::Answered);
    gateway.counts("forebay_active_requests", 0).await;
    assert_eq!(requests(&gateway, "500").await, failed);
    assert_eq!(requests(&gateway, "200").await, 80 - failed);
}

/// … and amid the streams of one connection of HTTP/2, which goes on.
async fn costs_one_stream(point: &str, expected: Seen) {
    let (_a, _b, gateway) = pair(&format!("{point}=10*off->1*panic")).await;
    let mut http2 = Http2::connect(gateway.address).await;
    let mut asked = JoinSet::new();
    for turn in 0..30 {
        let text = format!("turn {turn}");
        let answer = http2.try_post(CHAT, chat_body(&text).to_string()).await;
        asked.spawn(async move {
            match answer.await {
                Err(error) => {
                    assert!(error.is_reset(), "the connection ended: {error}");
                    Seen::Cut
                }
                Ok(reply) if reply.status == 500 => {
                    assert!(String::from_utf8_lossy(&reply.body).contains("internal_error"));
                    Seen::Refused
                }
                Ok(reply) => {
                    assert!(String::from_utf8_lossy(&reply.body).contains(&text), "{reply:?}");
                    Seen::Answered
                }
            }
        });
    }
    let mut seen: BTreeMap<Seen, usize> = BTreeMap::new();
    while let Some(one) = asked.join_next().await {
        *seen.entry(one.unwrap()).or_default() += 1;
    }
    let mut wanted = BTreeMap::from([(Seen::Answered, 29)]);
    *wanted.entry(expected).or_default() += 1;
    assert_eq!(seen, wanted, "{point}");
    let reply = http2.try_post(CHAT, chat_body("after it").to_string()).await.await.unwrap();
    assert_eq!(reply.status, 200, "the same connection serves on");
    gateway.counts("forebay_active_requests", 0).await;
    drop(http2);
    unharmed(&gateway, 1).await;
}

/// Tests by name: the failure point, what happens there, amid what, and what one caller sees of it.
macro_rules! each {
    ($($name:ident: $point:literal $action:literal $load:ident $seen:ident;)*) => {$(
        #[tokio::test]
        async fn $name() {
            costs_one($point, $action, Load::$load, Seen::$seen).await;
        }
    )*};
}

each! {
    a_panic_at_the_beginning: "proxy::begin" "panic" Chats Refused;
    a_panic_at_admission: "proxy::admit" "panic" Chats Refused;
    a_panic_while_a_body_is_read: "proxy::read_body" "panic" Chats Refused;
    a_panic_while_planning: "proxy::plan" "panic" Chats Refused;
    a_panic_while_a_replica_is_picked: "balance::pick" "panic" Chats Refused;
    a_panic_while_an_upload_is_spooled: "proxy::spool" "panic" Forms Refused;
    a_panic_while_a_spooled_upload_is_read: "proxy::read_spool" "panic" Forms Refused;
    a_panic_before_connecting: "proxy::upstream_peer" "panic" Chats Refused;
    a_panic_while_a_request_is_written: "proxy::write_request" "panic" Chats Refused;
    a_panic_while_a_request_waits: "proxy::held_session_idle" "panic" Chats Cut;
    a_panic_at_an_answers_head: "proxy::judge_head" "panic" Chats Refused;
    a_panic_while_a_head_is_written: "proxy::write_head" "panic" Streams Refused;
    a_panic_at_an_answers_body: "proxy::response_chunk" "panic" Chats Refused;
    a_panic_once_all_is_said: "proxy::finish" "panic" Chats Answered;
    a_fault_at_the_beginning: "proxy::begin" "return" Chats Refused;
    a_fault_at_admission: "proxy::admit" "return" Chats Refused;
    a_fault_while_planning: "proxy::plan" "return" Chats Refused;
    a_fault_while_an_upload_is_spooled: "proxy::spool" "return" Forms Refused;
    a_fault_while_a_spooled_upload_is_read: "proxy::read_spool" "return" Forms Refused;
    a_fault_before_connecting: "proxy::upstream_peer" "return" Chats Refused;
    a_fault_while_a_request_is_written: "proxy::write_request" "return" Chats Refused;
    a_fault_at_an_answers_head: "proxy::judge_head" "return" Chats Refused;
    a_fault_while_a_head_is_written: "proxy::write_head" "return" Chats Refused;
    a_fault_at_an_answers_body: "proxy::response_chunk" "return" Chats Refused;
    a_slow_plan: "proxy::plan" "sleep(300)" Chats Answered;
    a_slow_body: "proxy::read_body" "sleep(300)" Streams Answered;
}

#[tokio::test]
async fn a_panic_ends_one_stream_of_http2() {
    costs_one_stream("proxy::held_session_idle", Seen::Cut).await;
}

#[tokio::test]
async fn a_panic_in_a_phase_is_told_over_http2() {
    costs_one_stream("proxy::judge_head", Seen::Refused).await;
}

#[tokio::test]
async fn a_panic_within_a_stream_is_told_in_it() {
    let (cues, feed) = answer::feed();
    let (a, b) = (upstream::always(Answer::live(feed)).await, upstream::with(parrot).await);
    let yaml = gateway::SPARE;
    let plan = gateway::with(yaml).up("a", &a).up("b", &b);
    let gateway = start(plan, "proxy::response_chunk=1*off->1*panic").await;
    cues.send(content("well"));
    let mut stream = gateway.client().stream("hi").await;
    assert_eq!(stream.data().await.unwrap(), content("well").trim_end());
    cues.send(content(" then"));
    let rest = stream.rest().await;
    assert!(rest.whole && rest.text().contains("internal_error"), "{rest:?}");
    assert_eq!(b.count(), 0, "nobody else is asked");
    gateway.counts("forebay_panics_total", 1).await;
    gateway.counts("forebay_active_requests", 0).await;
    eventually("the upstream is let go", async || a.call().gone()).await;
}

/// The dialect is the caller's.
#[tokio::test]
async fn a_panic_is_told_in_the_callers_dialect() {
    let (_a, _b, gateway) = pair("proxy::plan=1*panic").await;
    let body = chat_body("hi").to_string();
    let asked = gateway.client().post("/v1/messages", body).header("anthropic-version", "x");
    let reply = asked.send().await;
    assert_eq!(reply.status, 500, "{reply:?}");
    assert_eq!(reply.json()["type"], "error", "{reply:?}");
    assert_eq!(reply.json()["error"]["type"], "api_error", "{reply:?}");
}

#[tokio::test]
async fn a_panic_while_going_on_to_another_replica_ends_that_request() {
    let (b, nobody) = (upstream::with(parrot).await, upstream::refusing());
    let plan = gateway::with(PAIR).place("a", &nobody.address()).up("b", &b);
    let gateway = start(plan, "proxy::after_connect=1*off->1*panic").await;
    let seen = traffic(&gateway, Load::Chats).await;
    assert_eq!(seen, BTreeMap::from([(Seen::Answered, 39), (Seen::Cut, 1)]));
    gateway.counts("forebay_panics_total", 1).await;
    gateway.counts("forebay_active_requests", 0).await;
    gateway.counts("forebay_connections", 0).await;
    assert_eq!(requests(&gateway, "500").await, 1);
    let health = gateway.health().await;
    for replica in health["providers"][0]["replicas"].as_array().unwrap() {
        assert_eq!(replica["in_flight"], 0, "{health}");
    }
}

#[tokio::test]
async fn a_panic_while_a_failure_is_told_ends_that_request() {
    let a = upstream::always(Answer { ending: Ending::CutBeforeHead, ..Answer::chat("") }).await;
    let plan = gateway::with(gateway::FRONT).up("up", &a);
    let gateway = start(plan, "proxy::rescue=2*off->1*panic").await;
    let client = gateway.client();
    let mut statuses = BTreeMap::new();
    for _ in 0..6 {
        let reply = client.post(CHAT, chat_body("hi").to_string()).try_send().await;
        *statuses.entry(reply.map_or(0, |reply| reply.status)).or_insert(0) += 1;
    }
    assert_eq!(statuses, BTreeMap::from([(0, 1), (502, 5)]));
    gateway.counts("forebay_active_requests", 0).await;
    a.behave(|_| Answer::chat("well"));
    assert_eq!(client.chat("hi").await.said(), "well");
    assert_eq!((requests(&gateway, "500").await, requests(&gateway, "502").await), (1, 5));
}

/// Otherwise the replica would be left out for good: nobody else may probe it.
#[tokio::test]
async fn a_probe_that_panics_is_given_back() {
    let bad = upstream::always(Answer::error(500, "in trouble")).await;
    let good = upstream::with(parrot).await;
    let plan = gateway::with(PAIR).up("a", &bad).up("b", &good);
    let gateway = start(plan, "balance::probe=1*panic").await;
    let client = gateway.client();
    while gateway.health_of(&bad).await != "ejected" {
        assert_eq!(client.chat("hi").await.said(), "hi");
    }
    bad.behave(parrot);
    let refused = eventually("the probe panics", async || {
        let reply = client.chat("hi").await;
        (reply.status != 200).then_some(reply)
    });
    refused.await.refused(500, "internal_error");
    eventually("another probe finds that it works", async || {
        assert_eq!(client.chat("hi").await.said(), "hi");
        (gateway.health_of(&bad).await == "healthy").then_some(())
    })
    .await;
    unharmed(&gateway, 1).await;
}

const CHECKED: &str = r#"
providers:
  - { name: p, kind: vllm, base_url: "http://@a", health_check: { interval: 50ms, unhealthy_after: 1 } }
models:
  - { name: m, targets: [{ provider: p }] }
"#;

/// The health of a replica goes on being known.
async fn goes_on_checking(fault: &str, panics: u64) {
    let a = upstream::with(parrot).await;
    let gateway = start(gateway::with(CHECKED).up("a", &a), fault).await;
    gateway.counts("forebay_panics_total", panics).await;
    for (well, health) in [(true, "healthy"), (false, "unhealthy"), (true, "healthy")] {
        a.set_healthy(well);
        let known = async || (gateway.health_of(&a).await == health).then_some(());
        eventually(&format!("{fault}: {health}"), known).await;
    }
    assert_eq!(gateway.client().chat("hi").await.said(), "hi");
}

#[tokio::test]
async fn a_panic_in_a_health_check_ends_no_checking() {
    goes_on_checking("balance::health_check=3*off->1*panic", 1).await;
}

#[tokio::test]
async fn a_panic_between_health_checks_ends_no_checking() {
    goes_on_checking("balance::checks=3*off->1*panic", 1).await;
}

#[tokio::test]
async fn a_panic_in_the_first_round_of_checks_ends_no_checking() {
    goes_on_checking("balance::checks=1*panic", 1).await;
    goes_on_checking("balance::health_check=1*panic", 1).await;
}

#[tokio::test]
async fn a_health_check_that_fails_for_no_reason_is_no_more_than_that() {
    goes_on_checking("balance::health_check=5*off->1*return", 0).await;
}

/// The first look-up finds nothing, the second one panics, the third one is right.
#[tokio::test]
async fn a_panic_in_a_look_up_ends_no_looking_up() {
    let a = upstream::with(parrot).await;
    let plan = gateway::with(gateway::FRONT).up("up", &a);
    let gateway = start(plan, "balance::discover=1*return->1*panic").await;
    gateway.client().chat("hi").await.refused(503, "no_healthy_upstream");
    gateway.counts("forebay_panics_total", 1).await;
    eventually("the replica is found", async || {
        (gateway.client().chat("hi").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(a.count(), 1);
}

#[tokio::test]
async fn a_panic_while_models_are_listed_ends_no_listing() {
    let a = upstream::with(parrot).await;
    a.list_models(r#"{"object":"list","data":[{"id":"tiny","max_model_len":4096}]}"#);
    let yaml = gateway::FRONT.replace("provider: p }", "provider: p, model: tiny }");
    let plan = gateway::with(&yaml).up("up", &a);
    let gateway = start(plan, "balance::list_models=1*panic").await;
    gateway.counts("forebay_panics_total", 1).await;
    eventually("the provider's word on its model", async || {
        let model = gateway.client().get("/v1/models/m").await.ok().json();
        (model["max_model_len"] == 4096).then_some(())
    })
    .await;
}
