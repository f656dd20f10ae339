//! The traffic that other tests drive, with nothing going on: its report is all zeroes, and would not be
//! if anything did.

use std::time::Duration;

use tokio::time::sleep;

use crate::model::{FRONT, Model, front};
use crate::sheet::{Sheet, count};
use crate::support::until;
use crate::traffic::{Mix, Traffic};

const MIX: Mix = Mix {
    fresh: 8,
    kept: 8,
    http2: 4,
    streams: 20,
    stream: Duration::from_secs(2),
    pause: Duration::from_millis(5),
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undisturbed_traffic_is_served_whole() {
    let mut sheet = Sheet::of("traffic, undisturbed");
    let model = Model::start();
    let gateway = front(FRONT, &[&model]).await;
    let traffic = Traffic::start(gateway.address, MIX);
    sleep(Duration::from_secs(5)).await;
    let report = traffic.stop();
    sheet.at_least("answers in 5 s", 500.0, count(report.answered));
    sheet.at_least("whole streams of 2 s, 20 at once", 40.0, count(report.streams));
    sheet.none("refused, lost, failed, cut or late", report.bad());
    sheet.none("connections closed under a second request", report.closed_idle);
    eprintln!("{report:?}");
    sheet.hold();
}

/// Without this, a report of zeroes would say nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_notices_when_the_gateway_dies() {
    let model = Model::start();
    let mut gateway = front(FRONT, &[&model]).await;
    let traffic = Traffic::start(gateway.address, MIX);
    until("streams run", || traffic.report().answered > 100 && model.answering() >= MIX.streams)
        .await;
    gateway.signal("KILL");
    gateway.ended().await;
    until("every kind of client notices", || {
        let report = traffic.report();
        report.truncated >= MIX.streams as u64 && report.refused > 0 && report.closed_idle > 0
    })
    .await;
    eprintln!("{:?}", traffic.stop());
}
