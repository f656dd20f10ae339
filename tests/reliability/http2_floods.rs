//! HTTP/2 against its server: floods end their own connection, and nobody else's day.

use std::time::Duration;

use tokio::time::sleep;

use crate::callers::{Callers, Window, failures, p99};
use crate::frames::{Attackers, Flood, Tally};
use crate::memory::Memory;
use crate::model::{FRONT, Model, front};
use crate::sheet::{Sheet, count, milliseconds};
use crate::support::client::{CHAT, chat_body};
use crate::tool::Tool;

/// Attackers at once.
const ATTACKERS: usize = 4;
async fn measured(milliseconds: u64) -> Window {
    Window::during(sleep(Duration::from_millis(milliseconds))).await.0
}

async fn withstands(flood: Flood) {
    let mut sheet = Sheet::of("http2_floods");
    let model = Model::start();
    let gateway = front(FRONT, &[&model]).await;
    let callers = Callers::normal(gateway.address);
    measured(1000).await;
    let memory = Memory::mark(&gateway);
    // In turn, so that what else goes on on the machine is in both.
    let (mut quiet, mut loaded) = (vec![measured(1500).await], Vec::new());
    let mut tallies = Vec::new();
    for _ in 0..3 {
        let attackers = Attackers::start(gateway.address, flood, ATTACKERS);
        loaded.push(measured(2500).await);
        tallies.push(attackers.stop());
        quiet.push(measured(1500).await);
    }
    let samples = callers.stop();
    eprintln!("{flood:?}: {tallies:?}");
    let (before, beside) = (p99(&samples, &quiet), p99(&samples, &loaded));
    let sum = |count: fn(&Tally) -> u64| tallies.iter().map(count).sum::<u64>();
    sheet.none(
        &format!("{flood:?}: of {} connections, not ended", sum(|tally| tally.connections)),
        sum(|tally| tally.put_up_with),
    );
    assert!(sum(|tally| tally.ended) > 0, "nothing was ended: {tallies:?}");
    sheet.measured_at_most(
        &format!(
            "{flood:?}: others' p99 ({:.1} ms), times the quiet one ({:.1} ms)",
            milliseconds(beside),
            milliseconds(before)
        ),
        2.0,
        beside.as_secs_f64() / before.as_secs_f64(),
    );
    sheet.none(&format!("{flood:?}: others' failed requests"), failures(&samples));
    sheet.measured_at_most(&format!("{flood:?}: memory, MiB"), 32.0, memory.grown());
    gateway.counts("forebay_active_requests", 0).await;
    sheet.hold();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_taken_back_at_once_are_withstood() {
    withstands(Flood::RapidReset).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_the_server_must_take_back_are_withstood() {
    withstands(Flood::MadeReset).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_an_end_is_withstood() {
    withstands(Flood::Continuation).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_empty_pieces_is_withstood() {
    withstands(Flood::EmptyData).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_without_end_are_withstood() {
    withstands(Flood::Settings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_without_end_are_withstood() {
    withstands(Flood::Ping).await;
}

/// No attack, only far more than there is room for: 50 connections with 100 requests each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_h2load_a_normal_client_is_served() {
    let mut sheet = Sheet::of("http2_load");
    let model = Model::start();
    let gateway = front(FRONT, &[&model]).await;
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body.json");
    std::fs::write(&body, chat_body("hi").to_string()).unwrap();
    let callers = Callers::normal(gateway.address);
    measured(1000).await;
    let memory = Memory::mark(&gateway);
    let url = format!("http://{}{CHAT}", gateway.address);
    let load = ["-n", "10000", "-c", "50", "-m", "100", "-H", "content-type: application/json"];
    let body = ["-d", body.to_str().unwrap(), &url];
    let load = Tool::start("h2load", &[&load[..], &body].concat());
    let (loaded, said) = Window::during(load.ended("h2load ends")).await;
    let samples = callers.stop();
    let during = loaded.of(&samples);
    eprintln!("{said}");
    assert!(said.contains("10000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{said}");
    sheet.at_least(
        "a normal client's answers beside 5,000 streams at once",
        1.0,
        count(during.len()),
    );
    sheet.none("a normal client's failures", failures(&samples));
    sheet.measured_at_most("memory for 5,000 streams at once, MiB", 256.0, memory.grown());
    sheet.hold();
}
