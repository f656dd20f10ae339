//! What it costs to let a request in and to settle it.

#![expect(clippy::expect_used, reason = "a benchmark that cannot begin ends")]
use std::hint::black_box;
use std::sync::Arc;
use std::time::SystemTime;

use criterion::{Criterion, criterion_group, criterion_main};
use forebay::access::limits::{
    Claim, Limits, Mode, Now, Quota, Reservation, Subject, Terms, Used, Who,
};
use forebay::config::{Allowance, Budget, Period, RateLimit};

const PLENTY: u64 = u64::MAX / 4;

/// A key and its user, each with a rate, three limits and concurrency; the user has a quota as well.
fn subjects() -> [Arc<Subject>; 2] {
    let budget = Budget { nanos: PLENTY, period: Period::Month };
    let allowance = Allowance {
        requests_per_minute: PLENTY,
        tokens_per_minute: PLENTY,
        max_concurrent: 1_000,
        max_ips: 0,
        budget: Some(budget),
    };
    let rate = Some(RateLimit { requests_per_second: u32::MAX, burst_size: u32::MAX });
    let quota = Quota { group: Arc::from("large"), tokens: PLENTY, refresh: Period::Day, epoch: 0 };
    let key = Terms { rate, allowance, ..Terms::default() };
    let user = Terms { quotas: vec![quota], ..key.clone() };
    [Subject::new(Who::Key, "one", key), Subject::new(Who::User, "one", user)]
}

fn reserve(limits: &Arc<Limits>, subjects: &[Arc<Subject>], now: Now) -> Reservation {
    let claim = Claim { tokens: 4_000, cost_nanos: 90_000, quota_group: Some(0) };
    limits.reserve(black_box(subjects), black_box(claim), now).expect("there is plenty")
}

fn limits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("limits");
    let used = Used { tokens: 900, cost_nanos: 20_000 };
    let now = Now::from(SystemTime::now());
    for (name, mode) in
        [("alone", Mode::Solo { nodes: 1 }), ("shared", Mode::Shared { nodes: 3, away: false })]
    {
        let (limits, subjects) = (Limits::new(), subjects());
        limits.set_mode(mode);
        group.bench_function(name, |bencher| {
            bencher.iter(|| reserve(&limits, &subjects, now).settle(black_box(used)));
        });
    }
    let (limits, subjects) = (Limits::new(), subjects());
    group.bench_function("told", |bencher| {
        bencher.iter(|| {
            reserve(&limits, &subjects, now).settle(black_box(used));
            limits.applied(&limits.collect(now));
        });
    });
    group.bench_function("refused", |bencher| {
        let claim = Claim { tokens: PLENTY, ..Claim::default() };
        bencher.iter(|| limits.reserve(&subjects, black_box(claim), now).is_err());
    });
}

criterion_group!(benches, limits);
criterion_main!(benches);
