//! What it costs to know a key, to let a request in, and to settle it.

#![expect(clippy::expect_used, reason = "a benchmark that cannot begin ends")]
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use forebay::access::limits::{
    Claim, Limits, Mode, Now, Quota, Reservation, Subject, Terms, Used, Who,
};
use forebay::access::{Digest, Directory, Loading};
use forebay::config::{Allowance, Budget, Period, RateLimit};
use forebay::store::{Kind, Record};
use sha2::{Digest as _, Sha256};

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
        ..Allowance::default()
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
    let now = Now::by_clock();
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

/// The keys of a store, by number.
fn directory(keys: u32) -> Directory {
    let mut loading = Loading::new(Arc::default(), Arc::default());
    for number in 0..keys {
        let (id, digest) = (format!("key_{number}"), hex::encode(digest(number)));
        let limits = r#"{"requests_per_minute":60}"#;
        let body = format!(
            r#"{{"id":"{id}","name":"{id}","hint":"…","digest":"{digest}","limits":{limits}}}"#
        );
        let record = Record { id, version: 1, handle: None, body, updated_at: 0 };
        loading.add(Kind::Keys, &record);
    }
    loading.finish(1)
}

fn digest(number: u32) -> [u8; 32] {
    Sha256::digest(number.to_be_bytes()).into()
}

/// What every request with a key of the store begins with: the same however many keys there are, but
/// for what no longer lies in the processor's cache.
fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("keys");
    let now = Now::by_clock().0;
    for keys in [10, 100_000] {
        let directory = directory(keys);
        let digests: Vec<Digest> = (0..keys).map(|number| digest(number).into()).collect();
        // One after the other as they come by chance, and always the same.
        for (name, step) in [("any", 7919), ("same", 0)] {
            let mut next = 0_usize;
            group.bench_function(format!("{name} of {keys}"), |bencher| {
                bencher.iter(|| {
                    next = (next + step) % digests.len();
                    directory.find(black_box(digests.get(next).expect("there is one")), now)
                });
            });
        }
    }
}

criterion_group!(benches, limits, keys);
criterion_main!(benches);
