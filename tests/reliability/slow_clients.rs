//! Slow clients, fifteen hundred at once: they are cut when they should be, and starve nobody.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::callers::{Callers, Window, failures, p99};
use crate::memory::Memory;
use crate::model::{FRONT, Model, front};
use crate::sheet::{Sheet, milliseconds};
use crate::support::client::{CHAT, Client, Connection, chat_body};
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::tool::Tool;

/// Of each kind: slow heads, slow bodies, idle connections.
const CROWD: usize = 500;
/// Slow heads that are timed one by one.
const WITNESSES: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_cut_and_starve_nobody() {
    let mut sheet = Sheet::of("slow_clients");
    let model = Model::start();
    let yaml = format!("{FRONT}limits: {{ connections_per_ip: 4000 }}\n");
    let gateway = front(&yaml, &[&model]).await;
    let callers = Callers::normal(gateway.address);
    sleep(Duration::from_secs(1)).await;
    let memory = Memory::mark(&gateway);

    let (quiet, ()) = Window::during(sleep(Duration::from_secs(6))).await;
    let (loaded, crowd) = Window::during(crowd(&gateway)).await;
    assert_eq!(crowd.idle.len(), CROWD, "idle connections");
    drop(crowd.idle);
    // All of them hang up now; what that costs is nobody's quiet.
    eventually("the crowd leaves", async || {
        sleep(Duration::from_millis(100)).await;
        (connections(&gateway).await < 10).then_some(())
    })
    .await;
    let (quiet_again, ()) = Window::during(sleep(Duration::from_secs(6))).await;
    let samples = callers.stop();

    let seconds = |duration: Duration| duration.as_secs_f64();
    sheet.at_most(
        "slowhttptest's 500 slow headers: all cut after, s",
        11.0,
        seconds(crowd.heads_cut),
    );
    sheet.at_most("a slow head of our own: cut after, s", 11.0, seconds(crowd.longest));
    let before = p99(&samples, &[quiet, quiet_again]);
    let beside = p99(&samples, &[loaded]);
    let ratio = beside.as_secs_f64() / before.as_secs_f64();
    sheet.measured_at_most(
        &format!(
            "normal clients' p99 beside them ({:.1} ms), times the quiet one ({:.1} ms)",
            milliseconds(beside),
            milliseconds(before)
        ),
        2.0,
        ratio,
    );
    sheet.none("failed requests of normal clients", failures(&samples));
    sheet.measured_at_most("memory for 1,500 connections, MiB", 64.0, memory.grown());
    sheet.hold();
}

/// What came of the crowd.
struct Crowd {
    /// Until slowhttptest had no connection left, from when it had all of them.
    heads_cut: Duration,
    /// The longest a slow head of our own was put up with.
    longest: Duration,
    idle: Vec<Connection>,
}

async fn crowd(gateway: &Gateway) -> Crowd {
    let crowd = CROWD.to_string();
    let models = format!("http://{}/v1/models", gateway.address);
    let chat = format!("http://{}{CHAT}", gateway.address);
    let headers = ["-H", "-c", &crowd, "-r", &crowd, "-i", "3", "-x", "24", "-l", "60"];
    let slow_headers = Tool::start("slowhttptest", &[&headers[..], &["-u", &models]].concat());
    let bodies =
        ["-B", "-c", &crowd, "-r", &crowd, "-i", "5", "-s", "4096", "-x", "10", "-l", "60"];
    let json = ["-f", "application/json", "-u", &chat];
    let _slow_bodies = Tool::start("slowhttptest", &[&bodies[..], &json].concat());

    let mut witnesses = JoinSet::new();
    for _ in 0..WITNESSES {
        witnesses.spawn(slow_head(gateway.client()));
    }
    reaches(gateway, 2 * CROWD + WITNESSES).await;
    let slow_ones_there = Instant::now();
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    let mut idle = Vec::new();
    for _ in 0..CROWD {
        let mut connection = gateway.client().connect().await;
        assert_eq!(request.over(&mut connection).await.status, 200);
        idle.push(connection);
    }
    reaches(gateway, 3 * CROWD + WITNESSES).await;
    let longest = witnesses.join_all().await.into_iter().max().unwrap();
    // It ends by itself once all of its connections were closed.
    let said = slow_headers.ended("slowhttptest has no connections left").await;
    assert!(said.contains("No open connections left"), "{said}");
    Crowd { heads_cut: slow_ones_there.elapsed(), longest, idle }
}

/// Waits for the gateway to have so many connections at once. Rarely asked: asking is work, too.
async fn reaches(gateway: &Gateway, number: usize) {
    let deadline = Instant::now() + Duration::from_secs(9);
    while connections(gateway).await < number {
        assert!(Instant::now() < deadline, "never {number} connections");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Sends a head a letter at a time; how long that is put up with.
async fn slow_head(client: Client) -> Duration {
    let begun = Instant::now();
    let mut connection = client.connect().await;
    connection.send("GET /v1/models HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
    while connection.wire.send(b"a").await.is_ok() {
        let closed = timeout(Duration::from_millis(500), connection.wire.fill()).await;
        if matches!(closed, Ok(Ok(0) | Err(_))) {
            break;
        }
    }
    begun.elapsed()
}

/// What the gateway says about its connections.
async fn connections(gateway: &Gateway) -> usize {
    let metrics = gateway.metrics().await;
    let value = metrics.lines().find_map(|line| line.strip_prefix("forebay_connections "));
    value.unwrap().parse().unwrap()
}
