//! Traffic across hand-overs, and what becomes of it when they fail. And the way down without one.

use std::time::{Duration, Instant};

use crate::model::Model;
use crate::sheet::{Sheet, count};
use crate::support::gateway::{self, Gateway, UPGRADABLE};
use crate::support::until;
use crate::traffic::{Mix, Report, Traffic};

const UPGRADES: u32 = 10;

const MIX: Mix = Mix {
    fresh: 8,
    kept: 8,
    http2: 8,
    streams: 20,
    stream: Duration::from_secs(30),
    pause: Duration::from_millis(5),
};

/// Kills the new process once it waits with the sockets in hand.
const KILL: &str = "for _ in $(seq 1000); do grep -q 'ready to take over' stderr && break; sleep 0.01; done; kill -KILL $$";

async fn upgradable(model: &Model, more: &str) -> Gateway {
    let yaml = format!("{UPGRADABLE}\n{more}\n");
    gateway::with(&yaml).place("up", &model.address.to_string()).start().await
}

/// Traffic of which every kind is under way.
async fn traffic(gateway: &Gateway, model: &Model, mix: Mix) -> Traffic {
    let traffic = Traffic::start(gateway.address, mix);
    until("streams run", || traffic.report().answered > 100 && model.answering() >= mix.streams)
        .await;
    traffic
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_upgrades_back_to_back_are_noticed_by_nobody() {
    let mut sheet = Sheet::of("10 upgrades under traffic");
    let model = Model::start();
    let mut gateway = upgradable(&model, "").await;
    let traffic = traffic(&gateway, &model, MIX).await;
    let begun = Instant::now();
    for _ in 0..UPGRADES {
        gateway.upgrade(&[]).await.unwrap();
    }
    let took = begun.elapsed();
    assert!(took < MIX.stream, "{took:?}: the streams must outlive the upgrades");
    let report = traffic.stop();
    eprintln!("{report:?}, upgrades in {took:?}");
    sheet.at_least("whole streams of 30 s", 20.0, count(report.streams));
    sheet.none("refused connections", report.refused);
    sheet.none("connections lost before an answer", report.lost);
    sheet.none("answers 5xx", report.failed);
    sheet.none("truncated answers and streams", report.truncated);
    sheet.none("other answers, or none", report.odd + report.silent);
    // At most one for each client and upgrade is promised; idle connections linger, and see none.
    sheet.none("connections closed under a client's request", report.closed_idle);
    until("the old processes end", || !gateway.predecessors().into_iter().any(gateway::runs)).await;
    gateway.counts("forebay_active_requests", 0).await;
    let stuck = gateway.log().matches("requests do not end").count();
    sheet.none("processes that ended at their deadline, or with requests counted", stuck as u64);
    sheet.hold();
}

/// What went wrong while this upgrade, which must fail, was tried.
async fn broken(gateway: &mut Gateway, traffic: &Traffic, arguments: &[&str]) -> u64 {
    let (old, before) = (gateway.pid(), traffic.report());
    gateway.upgrade(arguments).await.expect_err("a broken upgrade");
    until("traffic goes on", || traffic.report().answered > before.answered + 50).await;
    assert_eq!(gateway.pid(), old);
    let after = traffic.report();
    let lost = |report: Report| report.bad() + report.closed_idle;
    lost(after) - lost(before)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_upgrade_costs_no_request() {
    let mut sheet = Sheet::of("broken upgrades under traffic");
    let model = Model::start();
    let mut gateway = upgradable(&model, "timeouts: { upgrade_ready: 3s }").await;
    let mix = Mix { streams: 8, stream: Duration::from_secs(2), ..MIX };
    let traffic = traffic(&gateway, &model, mix).await;

    let failed = broken(&mut gateway, &traffic, &["--binary", "/no/such/binary"]).await;
    sheet.none("a missing binary: failed requests", failed);

    let new = gateway.binary("exit 3");
    let failed = broken(&mut gateway, &traffic, &["--binary", &new]).await;
    sheet.none("a binary that ends at once: failed requests", failed);

    let file = gateway.dir().join("forebay.yaml");
    let good = std::fs::read_to_string(&file).unwrap();
    // The command would find the mistake itself: only the new process is to see it.
    let bad = gateway.dir().join("bad.yaml");
    std::fs::write(&bad, good.replace("providers:", "provoders:")).unwrap();
    let new = gateway.binary(&format!("shift 3; set -- run -c {} \"$@\"", bad.display()));
    let failed = broken(&mut gateway, &traffic, &["--binary", &new]).await;
    sheet.none("a bad file: failed requests", failed);

    let new = gateway.binary("export FAILPOINTS=server::start=panic");
    let failed = broken(&mut gateway, &traffic, &["--binary", &new]).await;
    sheet.none("a panic at the start: failed requests", failed);

    let new = gateway.binary(&format!("export FAILPOINTS=server::ready=pause; ({KILL}) &"));
    let failed = broken(&mut gateway, &traffic, &["--binary", &new]).await;
    sheet.none("a kill with the sockets in hand: failed requests", failed);

    let new = gateway.binary("export FAILPOINTS=server::ready=pause");
    let failed = broken(&mut gateway, &traffic, &["--binary", &new]).await;
    sheet.none("a hang: failed requests", failed);

    gateway.upgrade(&[]).await.expect("one that is not broken");
    let report = traffic.stop();
    eprintln!("{report:?}");
    sheet.none("in all: failed requests", report.bad());
    sheet.hold();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_it_ends_with_its_last_request() {
    let mut sheet = Sheet::of("SIGTERM");
    let model = Model::start();
    let mut gateway = upgradable(&model, "").await;
    let mut idle = gateway.client().connect().await;
    let live = gateway.client().request("GET", "/health/live");
    live.over(&mut idle).await.ok();
    let told = Instant::now();
    gateway.signal("TERM");
    gateway.ended().await;
    sheet.at_most("seconds to the end, with nothing under way", 1.0, told.elapsed().as_secs_f64());

    let mut gateway = upgradable(&model, "").await;
    let mix = Mix { fresh: 0, kept: 0, http2: 0, streams: 4, ..MIX };
    let mix = Mix { stream: Duration::from_secs(6), ..mix };
    let traffic = Traffic::start(gateway.address, mix);
    until("streams run", || model.answering() >= mix.streams).await;
    gateway.signal("TERM");
    until("it drains", || gateway.log().contains("draining")).await;
    let ended = std::thread::spawn(move || (traffic.stop(), Instant::now()));
    gateway.ended().await;
    let gone = Instant::now();
    let (report, streams_ended) = ended.join().unwrap();
    sheet.at_least("whole streams", 4.0, count(report.streams));
    sheet.none("truncated streams", report.truncated);
    let late = gone.saturating_duration_since(streams_ended).as_secs_f64();
    sheet.at_most("seconds from the last stream's end to the process's", 1.0, late);
    sheet.hold();
}
