//! One replica of three fails every request at once: a balancer by load would love it.

use std::time::Duration;

use tokio::time::sleep;

use crate::callers::{Callers, Kind, Sample, failures};
use crate::model::{Model, TRIO, front};
use crate::sheet::{Sheet, count};

/// How many failures in a row eject a replica by default.
const EJECTED_AFTER: u64 = 5;

/// Three replicas, one of them broken, under eight clients; what they saw, and how often the broken
/// one was asked.
async fn run(policy: &str, retry: &str) -> (Vec<Sample>, usize) {
    let models = [Model::start(), Model::start(), Model::start()];
    models[1].fail_with(500);
    let yaml = format!("{}{retry}\n", TRIO.replace("@policy", policy));
    let gateway = front(&yaml, &models.each_ref()).await;
    let callers = Callers::start(gateway.address, &[Kind::Kept; 8], Duration::from_millis(5));
    sleep(Duration::from_secs(4)).await;
    (callers.stop(), models[1].asked())
}

async fn book(sheet: &mut Sheet, policy: &str) {
    let (samples, asked) = run(policy, "retry: { attempts: 1 }").await;
    assert!(asked >= 5 && samples.len() > 1000, "{asked} of {} to the broken one", samples.len());
    let after = failures(&samples).saturating_sub(EJECTED_AFTER);
    sheet.at_most(
        &format!("{policy}: client errors after the first 5, % of {}", samples.len()),
        2.0,
        count(after) * 100.0 / count(samples.len()),
    );
    let (samples, asked) = run(policy, "").await;
    assert!(asked >= 5 && samples.len() > 1000, "{asked} of {} to the broken one", samples.len());
    sheet.none(
        &format!("{policy}: client errors with retries, of {}", samples.len()),
        failures(&samples),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_fails_at_once_is_left_out() {
    let mut sheet = Sheet::of("failing_replica");
    for policy in ["round_robin", "least_requests"] {
        book(&mut sheet, policy).await;
    }
    sheet.hold();
}
