//! The access log: a line for each request, which no request waits for.

use std::io::Read;
use std::path::Path;

use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::client::{CHAT, chat_body};
use crate::support::gateway::{self, FRONT, Gateway};
use crate::support::upstream::{self, Upstream};
use crate::support::{eventually, until};

const KEY: &str = "keys: [{ name: team a, key: client-canary-1 }]\n";
/// More lines than the queue and a pipe hold.
const MANY: usize = 6400;

async fn start(section: &str) -> (Upstream, Gateway) {
    let upstream = upstream::chat("answer-canary").await;
    let yaml = format!("{FRONT}{section}");
    let gateway = gateway::with(&yaml).up("up", &upstream).piped().start().await;
    (upstream, gateway)
}

/// The lines of so many requests, but for the one that the gateway asked itself before it served.
async fn lines(file: &Path, count: usize) -> Vec<String> {
    eventually(&format!("{count} lines"), async || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.contains("/health"));
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        (lines.len() == count && text.ends_with('\n')).then_some(lines)
    })
    .await
}

/// So many requests, over a few connections that live on.
async fn ask_often(gateway: &Gateway, count: usize) {
    let mut crowd = JoinSet::new();
    for _ in 0..8 {
        let client = gateway.client();
        crowd.spawn(async move {
            let mut connection = client.connect().await;
            let request = client.request("GET", "/health");
            for turn in 0..count / 8 {
                // A connection is closed after a thousand.
                if turn % 500 == 499 {
                    connection = client.connect().await;
                }
                request.over(&mut connection).await.ok();
            }
        });
    }
    while let Some(done) = crowd.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn each_request_has_a_line_of_json_without_content_or_keys() {
    let log = "access_log: { format: json, to: access.log }\n";
    let (_upstream, gateway) = start(&format!("{log}{KEY}")).await;
    let client = gateway.client().key("client-canary-1");
    let body = chat_body("prompt-canary").to_string();
    client.post(CHAT, body).header("x-request-id", "the-id").send().await.ok();
    gateway.client().post(CHAT, "{}").send().await.refused(401, "invalid_api_key");
    let lines = lines(&gateway.dir().join("access.log"), 2).await;
    assert!(!lines.join("").contains("canary"), "{lines:?}");
    let told: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let good = told.iter().find(|line| line["request_id"] == "the-id").unwrap();
    for (name, value) in [
        ("method", "POST".into()),
        ("endpoint", CHAT.into()),
        ("status", 200.into()),
        ("attempts", 1.into()),
        ("client", "127.0.0.1".into()),
        ("key", "team a".into()),
        ("model", "m".into()),
        ("provider", "p".into()),
        ("prompt_tokens", 7.into()),
        ("completion_tokens", 3.into()),
        ("stream", false.into()),
    ] {
        let value: Value = value;
        assert_eq!(good[name], value, "{good}");
    }
    good["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let bad = told.iter().find(|line| line["request_id"] != "the-id").unwrap();
    assert_eq!((&bad["status"], &bad["failure"]), (&401.into(), &"invalid_api_key".into()));
    gateway.counts("forebay_access_log_lines_total{outcome=\"written\"}", 3).await;
}

#[tokio::test]
async fn a_line_of_text_begins_with_its_time_and_goes_to_standard_output() {
    let (_upstream, mut gateway) = start("access_log: { format: text }\n").await;
    gateway.client().chat("hi").await.ok();
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    let mut text = String::new();
    gateway.take_output().read_to_string(&mut text).unwrap();
    let last = text.lines().last().unwrap();
    let (time, rest) = last.split_once(' ').unwrap();
    time.parse::<jiff::Timestamp>().unwrap();
    assert!(rest.starts_with("POST /v1/chat/completions 200 request_id="), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
}

/// Lines that were lost so far; `None` before the first.
async fn dropped(gateway: &Gateway) -> Option<usize> {
    let text = gateway.metrics().await;
    let name = "forebay_access_log_lines_total{outcome=\"dropped\"} ";
    text.lines().find_map(|line| line.strip_prefix(name)?.parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_that_nobody_reads_holds_no_request_up() {
    let (_upstream, mut gateway) = start("access_log: { to: stdout }\n").await;
    ask_often(&gateway, MANY).await;
    gateway.client().chat("hi").await.ok();
    let many = eventually("some lines are dropped", async || dropped(&gateway).await).await;
    assert!(many > 0 && many < MANY, "{many}");
    // Whoever reads at last gets whole lines, and those to come.
    let mut pipe = gateway.take_output();
    let read = std::thread::Builder::new().spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    });
    eventually("there is room again", async || {
        let before = dropped(&gateway).await;
        gateway.client().chat("hi").await.ok();
        (dropped(&gateway).await == before).then_some(())
    })
    .await;
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    let text = read.unwrap().join().unwrap();
    assert!(text.ends_with('\n'));
    assert!(text.lines().all(|line| line.contains(" request_id=")), "{text}");
    assert!(text.contains("POST /v1/chat/completions 200"));
}

#[tokio::test]
async fn a_full_disk_holds_no_request_up_and_what_is_mended_is_written_again() {
    let (_upstream, gateway) = start("access_log: { to: /dev/full }\n").await;
    for _ in 0..3 {
        gateway.client().chat("hi").await.ok();
    }
    gateway.counts("forebay_access_log_lines_total{outcome=\"dropped\"}", 4).await;
    let told = || gateway.log().matches("the access log cannot be written").count();
    assert_eq!(told(), 1, "{}", gateway.log());
    gateway.configure(|yaml| yaml.replace("/dev/full", "access.log"));
    assert!(gateway.reload().await);
    gateway.client().chat("hi").await.ok();
    lines(&gateway.dir().join("access.log"), 1).await;
    assert!(gateway.log().contains("the access log is written again"));
}

#[tokio::test]
async fn a_file_that_is_moved_or_too_large_is_begun_anew_and_no_line_is_lost() {
    let (_upstream, gateway) =
        start("access_log: { to: access.log, rotate: 1KiB, keep: 1000 }\n").await;
    for _ in 0..40 {
        gateway.client().get("/health").await.ok();
    }
    gateway.counts("forebay_access_log_lines_total{outcome=\"written\"}", 41).await;
    let path = gateway.dir().join("access.log");
    let files = || -> Vec<String> {
        let names = std::fs::read_dir(gateway.dir()).unwrap().map(|it| it.unwrap().path());
        let ours = names.filter(|it| it.to_str().unwrap().contains("access.log"));
        ours.map(|it| std::fs::read_to_string(it).unwrap()).collect()
    };
    let texts = files();
    assert!(texts.len() > 2, "{texts:?}");
    assert!(texts.iter().all(|text| text.len() <= 2048));
    assert_eq!(texts.concat().lines().count(), 41);
    std::fs::rename(&path, gateway.dir().join("moved.log")).unwrap();
    gateway.client().chat("hi").await.ok();
    until("it is there again", || path.exists()).await;
    let begun = lines(&path, 1).await;
    assert!(begun[0].contains("POST /v1/chat/completions 200"), "{begun:?}");
}

#[tokio::test]
async fn without_the_section_nothing_is_written_and_a_reload_turns_it_on_and_off() {
    let (_upstream, gateway) = start("access_log: off\n").await;
    gateway.client().chat("hi").await.ok();
    gateway.configure(|yaml| yaml.replace("access_log: off", "access_log: { to: access.log }"));
    assert!(gateway.reload().await);
    gateway.client().chat("hi").await.ok();
    let path = gateway.dir().join("access.log");
    lines(&path, 1).await;
    gateway.configure(|yaml| yaml.replace("access_log: {", "access_log: off # {"));
    assert!(gateway.reload().await);
    gateway.client().chat("hi").await.ok();
    gateway.counts("forebay_access_log_lines_total{outcome=\"written\"}", 1).await;
}

#[tokio::test]
async fn strict_privacy_writes_no_address() {
    let (_upstream, gateway) = start("access_log: { to: access.log }\nprivacy: strict\n").await;
    gateway.client().chat("hi").await.ok();
    let line = lines(&gateway.dir().join("access.log"), 1).await.remove(0);
    assert!(!line.contains("client=") && !line.contains("127.0.0.1"), "{line}");
}
