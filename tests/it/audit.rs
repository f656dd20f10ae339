//! One row for each answered request, whatever becomes of the request, the gateway or the database.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection};
use tempfile::TempDir;

use crate::support::answer::{self, Answer, content};
use crate::support::client::{CHAT, Client, chat_body};
use crate::support::databases::Database;
use crate::support::gateway::{self, ADMIN_KEY, Gateway, Plan, UPGRADABLE};
use crate::support::relay::Relay;
use crate::support::upstream::{self, Upstream};
use crate::support::{eventually, until};

const KEY: &str = "sk-of-the-tests-0123456789";
const AUDITED: &str = r#"
keys: [{ name: team, user: ada, key: sk-of-the-tests-0123456789 }, { name: other, user: bob, key: sk-of-the-others-0123456789, privacy: strict }]
audit: { store: "@audit", @more }
"#;

fn plan(upstream: &Upstream, url: &str, more: &str) -> Plan {
    let yaml = format!("{UPGRADABLE}{AUDITED}").replace("@more", more);
    gateway::with(&yaml).up("up", upstream).place("audit", url)
}

/// A database's file in a folder that outlives a gateway.
fn file(folder: &TempDir) -> String {
    format!("sqlite:{}", folder.path().join("audit.db").display())
}

async fn list(gateway: &Gateway, query: &str) -> Vec<Value> {
    let (mut rows, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/admin/v1/audit?limit=1000&{query}{after}");
        let reply = gateway.operator().key(ADMIN_KEY).get(&path).await;
        if reply.status != 200 {
            return rows;
        }
        let page = reply.json();
        rows.extend(page["data"].as_array().unwrap().iter().cloned());
        if page["has_more"] == false {
            return rows;
        }
        after = format!("&after={}", page["last_id"].as_str().unwrap());
    }
}

/// Waits until there are so many rows; they are never more.
async fn rows(gateway: &Gateway, count: usize) -> Vec<Value> {
    let rows = eventually("the rows", async || {
        let rows = list(gateway, "").await;
        (rows.len() >= count).then_some(rows)
    });
    let rows = rows.await;
    assert_eq!(rows.len(), count, "{rows:#?}");
    rows
}

/// How often each request id is in the database at `url`.
async fn written(url: &str) -> BTreeMap<String, usize> {
    sqlx::any::install_default_drivers();
    let mut table = AnyConnection::connect(url).await.unwrap();
    let count = "SELECT request_id, COUNT(*) FROM forebay_audit GROUP BY request_id";
    let rows: Vec<(String, i64)> = sqlx::query_as(count).fetch_all(&mut table).await.unwrap();
    rows.into_iter().map(|(id, count)| (id, usize::try_from(count).unwrap())).collect()
}

/// How often each request id is there.
fn ids(rows: &[Value]) -> BTreeMap<String, usize> {
    let mut ids = BTreeMap::new();
    for row in rows {
        *ids.entry(row["request_id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    ids
}

async fn ask(client: &Client, id: &str) -> Option<u16> {
    let request = client.post(CHAT, chat_body("hi").to_string()).header("x-request-id", id);
    request.try_send().await.map(|reply| reply.status)
}

#[expect(clippy::too_many_lines, reason = "one end after another, and their rows")]
#[tokio::test]
async fn every_end_of_a_request_has_one_row() {
    let (upstream, folder) = (upstream::chat("hello").await, TempDir::new().unwrap());
    let gateway = plan(&upstream, &file(&folder), "enabled: true").start().await;
    let client = gateway.client().key(KEY);
    assert_eq!(ask(&client, "good").await, Some(200));
    upstream.behave(|_| Answer::words(&["a", "b"], true));
    let streamed = json!({"model": "m", "stream": true, "tools": [{"type": "function"}], "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]});
    let stream = client.post(CHAT, streamed.to_string()).header("x-request-id", "stream");
    stream.header("user-agent", "tester/1").send().await.ok();
    upstream.behave(|_| Answer::error(400, "no"));
    assert_eq!(ask(&client, "theirs").await, Some(400));
    upstream.behave(|_| Answer::error(500, "no"));
    assert_eq!(ask(&client, "failed").await, Some(500));
    let wrong = client.post(CHAT, r#"{"model":"nothing"}"#).header("x-request-id", "missing");
    wrong.send().await.refused(404, "model_not_found");
    assert_eq!(ask(&gateway.client().key("sk-nobody-0123456789"), "nobody").await, Some(401));
    client.post("/v1/nowhere", "{}").header("x-request-id", "nowhere").send().await;
    client.post(CHAT, "{").header("x-request-id", "broken").send().await;
    // One that leaves in the middle of its answer.
    let (cues, feed) = answer::feed();
    upstream.behave(move |_| Answer::live(feed.clone()));
    cues.send(content("one"));
    let leaves = client.post(CHAT, streamed.to_string()).header("x-request-id", "left");
    let mut incoming = leaves.open().await;
    incoming.data().await.unwrap();
    drop(incoming);
    gateway.client().get("/health").await.ok();

    let rows = rows(&gateway, 9).await;
    let row = |id: &str| rows.iter().find(|row| row["request_id"] == id).unwrap().clone();
    assert!(ids(&rows).values().all(|count| *count == 1));
    let good = row("good");
    for (name, value) in [
        ("status", json!(200)),
        ("endpoint", json!(CHAT)),
        ("method", json!("POST")),
        ("key_name", json!("team")),
        ("user_id", json!("ada")),
        ("asked_model", json!("m")),
        ("served_model", json!("m")),
        ("model", json!("m")),
        ("provider", json!("p")),
        ("client_dialect", json!("openai_chat")),
        ("provider_dialect", json!("openai_chat")),
        ("replica", json!(upstream.address.to_string())),
        ("attempts", json!(1)),
        ("stop", json!("stop")),
        ("prompt_tokens", json!(7)),
        ("completion_tokens", json!(3)),
        ("estimated", json!(false)),
        ("client", json!("127.0.0.1")),
        ("stream", json!(false)),
        ("client_gone", json!(false)),
        ("bytes_in", json!(chat_body("hi").to_string().len())),
    ] {
        assert_eq!(good[name], value, "{name}: {good:#}");
    }
    assert!(good["bytes_out"].as_i64() > Some(0) && good["duration_us"].as_i64() > Some(0));
    assert!(good.get("request").is_none() && good.get("metadata").is_none(), "{good:#}");
    let stream = row("stream");
    assert!(stream["stream"] == true && stream["tools"] == true && stream["images"] == true);
    assert!(stream["first_token_us"].is_i64() && stream["user_agent"] == "tester/1", "{stream:#}");
    assert_eq!(
        (&row("theirs")["status"], &row("theirs")["error"]),
        (&json!(400), &json!("upstream_error"))
    );
    assert_eq!(
        (&row("failed")["status"], &row("failed")["error"]),
        (&json!(500), &json!("upstream_error"))
    );
    assert_eq!(
        (&row("missing")["error"], &row("missing")["asked_model"]),
        (&json!("model_not_found"), &json!("nothing"))
    );
    assert_eq!(
        (&row("nobody")["error"], row("nobody").get("key_name")),
        (&json!("invalid_api_key"), None)
    );
    assert_eq!(row("nowhere")["endpoint"], "other");
    assert_eq!(row("broken")["error"], "invalid_json");
    assert_eq!(row("left")["client_gone"], true, "{:#}", row("left"));
    gateway.counts("forebay_audit_rows_total", 9).await;

    let some = list(&gateway, "error=upstream_error&status=500").await;
    assert_eq!(ids(&some).keys().collect::<Vec<_>>(), ["failed"]);
    assert_eq!(list(&gateway, "user=bob").await.len(), 0);
    let path = format!("/admin/v1/audit/{}", good["id"].as_str().unwrap());
    let one = gateway.operator().key(ADMIN_KEY).get(&path).await.ok().json();
    assert_eq!(one, good);
}

#[tokio::test]
async fn content_is_kept_as_far_as_is_said_and_without_keys() {
    let (upstream, folder) = (upstream::chat("answer-canary").await, TempDir::new().unwrap());
    for (more, yaml, full) in [
        ("content: full", "", true),
        ("content: none", "", false),
        ("content: metadata", "", false),
        ("content: full, sample: 0%", "", false),
        ("content: full", "privacy: strict", false),
    ] {
        let name =
            format!("sqlite:{}", folder.path().join(format!("{full}{more}{yaml}.db")).display());
        let given = format!("{UPGRADABLE}{AUDITED}\n{yaml}\n").replace("@more", more);
        let gateway = gateway::with(&given).up("up", &upstream).place("audit", &name).start().await;
        let client = gateway.client().key(KEY);
        let body = json!({"model": "m", "temperature": 0.5, "messages": [{"role": "user", "content": "prompt-canary sk-live-0123456789abcdef"}]});
        client.post(CHAT, body.to_string()).header("user-agent", "agent-canary").send().await.ok();
        upstream.behave(|_| Answer::words(&["answer-", "canary"], true));
        let mut streamed = body.clone();
        streamed["stream"] = json!(true);
        client.post(CHAT, streamed.to_string()).send().await.ok();
        upstream.behave(|_| Answer::chat("answer-canary"));
        // Of a key that is strict nothing is kept, whatever holds for others.
        let strict = gateway.client().key("sk-of-the-others-0123456789");
        strict.post(CHAT, body.to_string()).header("user-agent", "strict-canary").send().await.ok();
        let rows = rows(&gateway, 3).await;
        let text = serde_json::to_string(&rows).unwrap();
        assert!(!text.contains("strict-canary"), "{text}");
        assert!(!text.contains("0123456789abcdef"), "{more} {yaml}: {text}");
        for canary in ["prompt-canary", "answer-canary"] {
            let count = text.matches(canary).count();
            assert_eq!(count, if full { 2 } else { 0 }, "{canary} {more} {yaml}: {text}");
        }
        let metadata = more == "content: metadata" || full;
        assert_eq!(text.contains(r#""temperature":0.5"#), metadata, "{more}: {text}");
        let strict = yaml.contains("strict");
        assert_eq!(text.contains("agent-canary"), !strict, "{text}");
        assert_eq!(text.contains(r#""client":"127.0.0.1""#), !strict, "{text}");
        if full {
            let stream = rows.iter().find(|row| row["stream"] == true).unwrap();
            let message = &stream["response"]["choices"][0]["message"]["content"];
            assert_eq!(message, "answer-canary", "{stream:#}");
        }
    }
}

/// Asks one after the other until the gateway is gone: ids, and when they were answered.
async fn traffic(client: Client, name: String) -> Vec<(String, Instant)> {
    let mut answered = Vec::new();
    for number in 0_u32.. {
        let id = format!("{name}-{number}");
        match ask(&client, &id).await {
            Some(200) => answered.push((id, Instant::now())),
            _ => break,
        }
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gateway_has_written_what_was_answered_a_moment_before() {
    let (upstream, folder) = (upstream::chat("hello").await, TempDir::new().unwrap());
    let url = file(&folder);
    let mut expected = Vec::new();
    for round in 0..4_u64 {
        let gateway = plan(&upstream, &url, "enabled: true").start().await;
        let load: Vec<_> = (0..4)
            .map(|number| {
                tokio::spawn(traffic(gateway.client().key(KEY), format!("{round}-{number}")))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(300 + 170 * round)).await;
        let killed = Instant::now();
        gateway.signal("KILL");
        for load in load {
            let answered = load.await.unwrap().into_iter();
            let before = answered.filter(|(_, at)| *at + Duration::from_millis(200) < killed);
            expected.extend(before.map(|(id, _)| id));
        }
    }
    assert!(expected.len() > 20, "{}", expected.len());
    // What was on its way to the database is on the disk, and the next process delivers it.
    let _next = plan(&upstream, &url, "enabled: true").start().await;
    eventually("all rows", async || {
        let found = written(&url).await;
        let doubled = found.iter().find(|(_, count)| **count != 1);
        assert_eq!(doubled, None);
        expected.iter().all(|id| found.contains_key(id)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_and_upgrades_lose_no_row_and_double_none() {
    let (upstream, folder) = (upstream::chat("hello").await, TempDir::new().unwrap());
    let url = file(&folder);
    let mut gateway = plan(&upstream, &url, "enabled: true").start().await;
    let load: Vec<_> = (0..4)
        .map(|number| tokio::spawn(traffic(gateway.client().key(KEY), format!("{number}"))))
        .collect();
    for _ in 0..2 {
        gateway.upgrade(&[]).await.unwrap();
    }
    gateway::signal(gateway.pid(), "TERM");
    let mut expected = Vec::new();
    for load in load {
        expected.extend(load.await.unwrap().into_iter().map(|(id, _)| id));
    }
    until("all are gone", || {
        let all = gateway.predecessors();
        !all.into_iter().chain([gateway.pid()]).any(gateway::runs)
    })
    .await;
    let _next = plan(&upstream, &url, "enabled: true").start().await;
    eventually("all rows", async || {
        let found = written(&url).await;
        assert!(found.values().all(|count| *count == 1), "{found:?}");
        expected.iter().all(|id| found.contains_key(id)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_wait_on_the_disk_while_the_database_is_away_also_past_a_kill() {
    let (upstream, folder) = (upstream::chat("hello").await, TempDir::new().unwrap());
    let database = Database::create();
    let mut relay = Relay::to(&database.host()).await;
    let url = database.url_by(&relay.address.to_string());
    let more = format!("spool: {{ folder: \"{}\" }}", folder.path().join("spool").display());
    let gateway = plan(&upstream, &url, &more).start().await;
    let client = gateway.client().key(KEY);
    for number in 0..5 {
        assert_eq!(ask(&client, &format!("before-{number}")).await, Some(200));
    }
    rows(&gateway, 5).await;
    relay.cut().await;
    for number in 0..20 {
        assert_eq!(ask(&client, &format!("away-{number}")).await, Some(200));
    }
    until("they are on the disk", || spooled(&folder.path().join("spool")) > 0).await;
    gateway.counts("forebay_audit_queue", 0).await;
    gateway.signal("KILL");
    let gateway = plan(&upstream, &url, &more).start().await;
    assert_eq!(ask(&gateway.client().key(KEY), "after").await, Some(200));
    relay.mend().await;
    let rows = rows(&gateway, 26).await;
    assert!(ids(&rows).values().all(|count| *count == 1));
    gateway.counts("forebay_audit_spool_bytes", 0).await;
    gateway.counts("forebay_audit_dropped_total", 0).await;
    until("the spool is empty", || spooled(&folder.path().join("spool")) == 0).await;
}

fn spooled(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| entry.metadata().map_or(0, |it| it.len())).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_spool_drops_and_counts_or_refuses_as_it_is_said() {
    let (upstream, folder) = (upstream::chat("hello").await, TempDir::new().unwrap());
    let database = Database::create();
    for policy in ["continue", "strict"] {
        let mut relay = Relay::to(&database.host()).await;
        let url = database.url_by(&relay.address.to_string());
        let spool = folder.path().join(policy);
        let more = format!(
            "when_full: {policy}, spool: {{ folder: \"{}\", size: 2KiB }}",
            spool.display()
        );
        let gateway = plan(&upstream, &url, &more).start().await;
        let client = gateway.client().key(KEY);
        assert_eq!(ask(&client, "first").await, Some(200));
        gateway.counts("forebay_audit_rows_total", 1).await;
        relay.cut().await;
        let dropped = || async {
            let metrics = gateway.metrics().await;
            !metrics.contains("forebay_audit_dropped_total 0")
        };
        let calls = upstream.count();
        let mut asked = 0;
        while !dropped().await {
            asked += 1;
            assert!(asked < 500, "the spool is never full");
            ask(&client, &format!("{policy}-{asked}")).await;
        }
        if policy == "continue" {
            assert_eq!(upstream.count(), calls + asked);
            assert_eq!(ask(&client, "one more").await, Some(200));
        } else {
            let calls = upstream.count();
            let reply = client.chat("hi").await;
            reply.refused(503, "overloaded");
            assert_eq!(upstream.count(), calls, "nothing of it reaches a provider");
            relay.mend().await;
            eventually("it serves again", async || {
                (ask(&client, "again").await == Some(200)).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_users_rows_are_removed_when_that_is_asked_for() {
    let (upstream, folder) = (upstream::chat("hello").await, TempDir::new().unwrap());
    let gateway = plan(&upstream, &file(&folder), "enabled: true").start().await;
    for key in [KEY, KEY, "sk-of-the-others-0123456789"] {
        gateway.client().key(key).chat("hi").await.ok();
    }
    rows(&gateway, 3).await;
    let operator = gateway.operator().key(ADMIN_KEY);
    operator.request("DELETE", "/admin/v1/audit").send().await.refused(400, "invalid_request");
    let told = operator.request("DELETE", "/admin/v1/audit?user=ada").send().await;
    assert_eq!((told.status, &told.json()["removed"]), (202, &json!(2)), "{told:?}");
    let left = rows(&gateway, 1).await;
    assert_eq!(left[0]["user_id"], "bob");
    gateway
        .operator()
        .key("sk-nobody-0123456789")
        .get("/admin/v1/audit")
        .await
        .refused(401, "invalid_api_key");
}

#[tokio::test]
async fn a_reload_begins_ends_and_moves_the_audit() {
    let (upstream, folder) = (upstream::chat("hello").await, TempDir::new().unwrap());
    let gateway = plan(&upstream, &file(&folder), "enabled: false").start().await;
    let client = gateway.client().key(KEY);
    ask(&client, "off").await;
    gateway.configure(|yaml| yaml.replace("enabled: false", "enabled: true"));
    assert!(gateway.reload().await);
    eventually("it is on", async || {
        ask(&client, "on").await;
        (!list(&gateway, "request_id=on").await.is_empty()).then_some(())
    })
    .await;
    let lines = folder.path().join("lines");
    gateway
        .configure(|yaml| yaml.replace("enabled: true", &format!("file: \"{}\"", lines.display())));
    assert!(gateway.reload().await);
    eventually("lines", async || {
        ask(&client, "line").await;
        let text = std::fs::read_to_string(&lines).unwrap_or_default();
        text.contains(r#""request_id":"line""#).then_some(())
    })
    .await;
    assert!(list(&gateway, "request_id=off").await.is_empty());
    assert!(!list(&gateway, "request_id=line").await.is_empty(), "rows go to both");
}

#[tokio::test]
async fn a_webhook_is_told_of_each_row_until_it_takes_them() {
    let (upstream, folder) = (upstream::chat("hello").await, TempDir::new().unwrap());
    let receiver = upstream::with(|call| match call.index {
        0 => Answer::error(503, "later"),
        _ => Answer::json(200, &json!({})),
    })
    .await;
    let secret = "a secret of the tests";
    let more =
        format!("webhook: {{ url: \"http://{}/rows\", secret: \"{secret}\" }}", receiver.address);
    let gateway = plan(&upstream, &file(&folder), &more).start().await;
    assert_eq!(ask(&gateway.client().key(KEY), "told").await, Some(200));
    let first = receiver.wait_for(0).await;
    let second = receiver.wait_for(1).await;
    until("it is whole", || second.is_whole()).await;
    assert_eq!(first.text(), second.text(), "sent again as it was");
    let row: Value = serde_json::from_str(second.text().trim_end()).unwrap();
    assert_eq!((&row["request_id"], &row["status"]), (&json!("told"), &json!(200)));
    assert_eq!(second.target(), "/rows");
    let signature = second.header("x-forebay-signature").unwrap();
    let (at, digest) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let signed = format!("{at}.{}", second.text());
    ring::hmac::verify(&key, signed.as_bytes(), &hex::decode(digest).unwrap()).unwrap();
}
