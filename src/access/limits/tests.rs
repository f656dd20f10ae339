use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::subject::{Inner, State};
use super::*;
use crate::config::{Allowance, Budget, Period, RateLimit};

/// 2026-03-02T10:00:00Z, a Monday.
const TEN: i64 = 1_772_445_600_000;

fn at(milliseconds: i64) -> Now {
    Now(TEN + milliseconds)
}

fn key(terms: Terms) -> Arc<Subject> {
    Subject::new(Who::Key, "a", terms)
}

fn allowance(requests: u64, tokens: u64, budget: u64) -> Terms {
    let budget = (budget > 0).then_some(Budget { nanos: budget, period: Period::Day });
    let allowance = Allowance {
        requests_per_minute: requests,
        tokens_per_minute: tokens,
        budget,
        ..Allowance::default()
    };
    Terms { allowance, ..Terms::default() }
}

fn quota(tokens: u64) -> Terms {
    let quota = Quota { group: Arc::from("large"), tokens, refresh: Period::Day, epoch: 0 };
    Terms { quotas: vec![quota], ..Terms::default() }
}

fn claim(tokens: u64, cost_nanos: u64) -> Claim {
    Claim { tokens, cost_nanos, quota_group: Some(0) }
}

fn used(tokens: u64, cost_nanos: u64) -> Used {
    Used { tokens, cost_nanos }
}

fn detail(limits: &Limits, subject: &Arc<Subject>, name: &str, now: Now) -> (u64, u64) {
    let details = limits.details(&[Arc::clone(subject)], now);
    let detail = details.iter().find(|detail| detail.name == name).unwrap();
    (detail.used, detail.remaining)
}

#[test]
fn an_idle_subject_is_small() {
    let counts = 2 * size_of::<usize>();
    assert!(size_of::<Subject>() + counts <= 120, "{}", size_of::<Subject>());
    assert_eq!(size_of::<Option<Box<State>>>(), size_of::<usize>());
    assert!(key(allowance(1, 1, 1)).lock().state.is_none());
    assert!(size_of::<Inner>() <= 16);
}

#[test]
fn the_cap_itself_is_reached_and_no_more() {
    let (limits, key) = (Limits::new(), key(allowance(3, 0, 0)));
    let subjects = [Arc::clone(&key)];
    for left in [2, 1, 0] {
        let one = limits.reserve(&subjects, Claim::default(), at(1_500)).unwrap();
        let window = one.standing().requests.unwrap();
        assert_eq!((window.limit, window.remaining), (3, left));
        assert_eq!(window.resets_in, Duration::from_millis(58_500));
    }
    let refused = limits.reserve(&subjects, Claim::default(), at(1_500)).unwrap_err();
    assert_eq!(refused.limit, LimitKind::RequestsPerMinute);
    assert_eq!(refused.retry_after, Duration::from_millis(58_500));
    assert!(limits.reserve(&subjects, Claim::default(), at(59_999)).is_err());
    assert!(limits.reserve(&subjects, Claim::default(), at(60_000)).is_ok());
}

#[test]
fn nothing_per_second_blocks_and_elsewhere_nothing_is_unlimited() {
    let limits = Limits::new();
    let blocks = RateLimit { requests_per_second: 0, burst_size: 0 };
    let blocked = key(Terms { rate: Some(blocks), ..Terms::default() });
    let refused = limits.reserve(&[blocked], Claim::default(), at(0)).unwrap_err();
    assert_eq!(refused.limit, LimitKind::Blocked);
    let told = refused.standing.requests.unwrap();
    assert_eq!((told.limit, told.remaining), (0, 0), "{told:?}");
    let free = key(Terms::default());
    assert!(free.is_unlimited());
    let open: Vec<_> = (0..1000)
        .map(|_| limits.reserve(&[Arc::clone(&free)], claim(u64::MAX, u64::MAX), at(0)).unwrap())
        .collect();
    drop(open);
    assert!(free.lock().state.is_none());
}

#[test]
fn a_rate_says_when_its_next_request_may_come() {
    let limits = Limits::new();
    let rate = RateLimit { requests_per_second: 4, burst_size: 2 };
    let key = [key(Terms { rate: Some(rate), ..Terms::default() })];
    for _ in 0..2 {
        drop(limits.reserve(&key, Claim::default(), at(0)).unwrap());
    }
    let refused = limits.reserve(&key, Claim::default(), at(100)).unwrap_err();
    assert_eq!(refused.limit, LimitKind::Rate);
    assert_eq!(refused.retry_after, Duration::from_millis(150));
    assert!(limits.reserve(&key, Claim::default(), at(250)).is_ok());
}

#[test]
fn concurrency_is_freed_by_settling_and_by_dropping() {
    let limits = Limits::new();
    let allowance = Allowance { max_concurrent: 2, ..Allowance::default() };
    let key = key(Terms { allowance, ..Terms::default() });
    let subjects = [Arc::clone(&key)];
    let first = limits.reserve(&subjects, Claim::default(), at(0)).unwrap();
    let second = limits.reserve(&subjects, Claim::default(), at(0)).unwrap();
    let refused = limits.reserve(&subjects, Claim::default(), at(0)).unwrap_err();
    assert_eq!(refused.limit, LimitKind::Concurrency);
    assert_eq!(refused.retry_after, Duration::from_secs(1));
    first.settle(Used::default());
    drop(second);
    assert_eq!(key.open(), 0);
    assert!(limits.reserve(&subjects, Claim::default(), at(0)).is_ok());
}

#[test]
fn what_was_used_takes_the_place_of_what_was_reserved() {
    let (limits, key) = (Limits::new(), key(allowance(0, 1_000, 500)));
    let subjects = [Arc::clone(&key)];
    let one = limits.reserve(&subjects, claim(900, 400), at(0)).unwrap();
    let refused = limits.reserve(&subjects, claim(200, 50), at(0)).unwrap_err();
    assert_eq!(refused.limit, LimitKind::TokensPerMinute);
    assert_eq!(refused.retry_after, Duration::from_secs(1), "the first may give it back");
    one.settle(used(100, 40));
    assert_eq!(key.reserved(), 0);
    assert_eq!(detail(&limits, &key, "tokens_per_minute", at(0)), (100, 900));
    assert_eq!(detail(&limits, &key, "budget", at(0)), (40, 460));
    let refused = limits.reserve(&subjects, claim(901, 0), at(0)).unwrap_err();
    assert_eq!(refused.retry_after, Duration::from_mins(1));
}

#[test]
fn more_than_was_reserved_is_booked_as_it_is() {
    let (limits, key) = (Limits::new(), key(allowance(0, 1_000, 0)));
    let subjects = [Arc::clone(&key)];
    limits.reserve(&subjects, claim(1_000, 0), at(0)).unwrap().settle(used(5_000, 0));
    assert_eq!(detail(&limits, &key, "tokens_per_minute", at(0)), (5_000, 0));
    assert!(limits.reserve(&subjects, claim(0, 0), at(1)).is_err());
    assert!(limits.reserve(&subjects, claim(1_000, 0), at(60_000)).is_ok());
}

#[test]
fn a_dropped_reservation_gives_all_back_but_the_request() {
    let (limits, key) = (Limits::new(), key(allowance(5, 1_000, 500)));
    drop(limits.reserve(&[Arc::clone(&key)], claim(900, 400), at(0)).unwrap());
    assert_eq!(key.reserved(), 0);
    assert_eq!(detail(&limits, &key, "requests_per_minute", at(0)), (1, 4));
    assert_eq!(detail(&limits, &key, "tokens_per_minute", at(0)), (0, 1_000));
    assert_eq!(detail(&limits, &key, "budget", at(0)), (0, 500));
}

#[test]
fn the_largest_claims_neither_wrap_nor_come_in() {
    let limits = Limits::new();
    let key = Subject::new(Who::Key, "a", allowance(0, u64::MAX - 1, 500));
    let subjects = [Arc::clone(&key)];
    let one = limits.reserve(&subjects, claim(u64::MAX - 1, 0), at(0)).unwrap();
    assert!(limits.reserve(&subjects, claim(u64::MAX, 0), at(0)).is_err());
    assert!(limits.reserve(&subjects, claim(2, 0), at(0)).is_err());
    one.settle(used(u64::MAX, u64::MAX));
    assert_eq!(key.reserved(), 0);
    assert!(limits.reserve(&subjects, claim(1, 1), at(0)).is_err());
}

#[test]
fn all_subjects_take_it_or_none() {
    let limits = Limits::new();
    let key = key(allowance(10, 0, 0));
    let user = Subject::new(Who::User, "u", quota(100));
    let subjects = [Arc::clone(&key), Arc::clone(&user)];
    let refused = limits.reserve(&subjects, claim(101, 0), at(0)).unwrap_err();
    assert_eq!((refused.limit, refused.who), (LimitKind::Quota, Who::User));
    assert_eq!((refused.cap, refused.remaining), (100, 100));
    assert_eq!(detail(&limits, &key, "requests_per_minute", at(0)), (0, 10));
    assert_eq!((key.open(), user.open()), (0, 0));
    limits.reserve(&subjects, claim(100, 0), at(0)).unwrap().settle(used(60, 0));
    assert_eq!(detail(&limits, &key, "requests_per_minute", at(0)), (1, 9));
    assert_eq!(detail(&limits, &user, "quota", at(0)), (60, 40));
}

#[test]
fn of_several_reasons_the_longest_is_told() {
    let limits = Limits::new();
    let key = [key(allowance(1, 0, 10))];
    limits.reserve(&key, claim(0, 10), at(0)).unwrap().settle(used(0, 10));
    let refused = limits.reserve(&key, claim(0, 1), at(0)).unwrap_err();
    assert_eq!(refused.limit, LimitKind::Budget);
    assert_eq!(refused.retry_after, Duration::from_hours(14));
}

#[test]
fn the_same_subject_twice_counts_once() {
    let (limits, key) = (Limits::new(), key(allowance(10, 0, 0)));
    drop(limits.reserve(&[Arc::clone(&key), Arc::clone(&key)], claim(0, 0), at(0)).unwrap());
    assert_eq!(detail(&limits, &key, "requests_per_minute", at(0)), (1, 9));
}

#[test]
fn who_is_exempt_is_counted_and_not_refused() {
    let limits = Limits::new();
    let rate = Some(RateLimit { requests_per_second: 0, burst_size: 0 });
    let terms = Terms { rate, exempt: true, ..quota(100) };
    let user = Subject::new(Who::User, "u", terms);
    for _ in 0..3 {
        let one = limits.reserve(&[Arc::clone(&user)], claim(100, 0), at(0)).unwrap();
        assert_eq!(*one.standing(), Standing::default());
        one.settle(used(80, 0));
    }
    assert_eq!(detail(&limits, &user, "quota", at(0)), (240, 0));
}

#[test]
fn a_settlement_goes_to_the_window_of_its_reservation() {
    let (limits, key) = (Limits::new(), key(allowance(0, 1_000, 0)));
    let subjects = [Arc::clone(&key)];
    let old = limits.reserve(&subjects, claim(800, 0), at(59_000)).unwrap();
    let new = limits.reserve(&subjects, claim(700, 0), at(60_000)).unwrap();
    old.settle(used(900, 0));
    assert_eq!(detail(&limits, &key, "tokens_per_minute", at(60_000)), (0, 300));
    new.settle(used(600, 0));
    assert_eq!(detail(&limits, &key, "tokens_per_minute", at(60_000)), (600, 400));
    assert_eq!(key.reserved(), 0);
}

#[test]
fn a_limit_that_comes_back_within_its_window_goes_on() {
    let (limits, key) = (Limits::new(), key(allowance(0, 0, 500)));
    let subjects = [Arc::clone(&key)];
    let open = limits.reserve(&subjects, claim(0, 200), at(0)).unwrap();
    key.set_terms(allowance(9, 0, 0));
    drop(limits.reserve(&subjects, claim(0, 900), at(1)).unwrap());
    key.set_terms(allowance(9, 0, 400));
    assert_eq!(detail(&limits, &key, "budget", at(2)), (0, 200));
    open.settle(used(0, 150));
    assert_eq!(detail(&limits, &key, "budget", at(2)), (150, 250));
    assert_eq!(detail(&limits, &key, "requests_per_minute", at(2)), (1, 8));
}

#[test]
fn quotas_are_found_by_their_group_when_their_places_change() {
    let limits = Limits::new();
    let user = Subject::new(Who::User, "u", quota(100));
    limits.reserve(&[Arc::clone(&user)], claim(50, 0), at(0)).unwrap().settle(used(50, 0));
    let mut terms = quota(100);
    let small = Quota { group: Arc::from("small"), tokens: 10, refresh: Period::Day, epoch: 0 };
    terms.quotas.insert(0, small);
    user.set_terms(terms);
    let details = limits.details(&[user], at(0));
    let shown: Vec<_> = details.iter().map(|it| (it.group.as_deref(), it.used)).collect();
    assert_eq!(shown, [(Some("small"), 0), (Some("large"), 50)]);
    assert_eq!(details[0].resets_at, Some(TEN + 14 * 3_600_000));
}

#[test]
fn a_clock_that_steps_back_harms_no_window() {
    let (limits, key) = (Limits::new(), key(allowance(1, 0, 0)));
    let subjects = [key];
    drop(limits.reserve(&subjects, Claim::default(), at(60_000)).unwrap());
    assert!(limits.reserve(&subjects, Claim::default(), at(59_990)).is_err());
    assert!(limits.reserve(&subjects, Claim::default(), at(60_010)).is_err());
}

#[test]
fn addresses_are_let_in_up_to_the_most() {
    let user = Subject::new(Who::User, "u", Terms::default());
    assert_eq!(user.address_seen(9, 2, at(0)), Seen::New);
    assert_eq!(user.address_seen(9, 2, at(0)), Seen::Known);
    assert_eq!(user.address_seen(4, 2, at(0)), Seen::New);
    assert_eq!(user.address_seen(5, 2, at(0)), Seen::TooMany);
    assert_eq!(user.address_seen(5, 0, at(0)), Seen::Known);
    let other = Subject::new(Who::User, "v", Terms::default());
    other.know_addresses(&[9, 4], at(0));
    assert_eq!(other.address_seen(4, 2, at(0)), Seen::Known);
    assert_eq!(other.address_seen(5, 2, at(0)), Seen::TooMany);
    other.forget_addresses();
    assert_eq!(other.address_seen(5, 2, at(0)), Seen::New);
}

#[test]
fn two_hundred_at_once_on_a_budget_for_ten() {
    for round in 0..20 {
        let (limits, key) = (Limits::new(), key(allowance(0, 0, 1_000 + round % 100)));
        let user = Subject::new(Who::User, "u", quota(1_000_000));
        // Both orders: nobody waits for each other.
        let orders = [[&key, &user], [&user, &key]];
        let (admitted, go) = (AtomicU32::new(0), AtomicBool::new(false));
        let deadline = Instant::now() + Duration::from_secs(10);
        std::thread::scope(|scope| {
            for thread in 0..200 {
                let (limits, admitted, go) = (&limits, &admitted, &go);
                let subjects = orders[thread % 2].map(Arc::clone);
                scope.spawn(move || {
                    while !go.load(SeqCst) {
                        std::hint::spin_loop();
                        std::thread::yield_now();
                    }
                    if let Ok(one) = limits.reserve(&subjects, claim(10, 100), at(0)) {
                        admitted.fetch_add(1, SeqCst);
                        while admitted.load(SeqCst) < 10 && Instant::now() < deadline {
                            std::thread::yield_now();
                        }
                        one.settle(used(10, 100));
                    }
                });
            }
            go.store(true, SeqCst);
        });
        assert_eq!(admitted.into_inner(), 10);
        assert_eq!((key.reserved(), user.reserved(), key.open()), (0, 0, 0));
        assert_eq!(detail(&limits, &key, "budget", at(0)).0, 1_000);
        assert_eq!(detail(&limits, &user, "quota", at(0)).0, 100);
    }
}

#[test]
fn idle_counts_are_forgotten() {
    let (limits, key) = (Limits::new(), key(allowance(9, 9_000, 0)));
    limits.reserve(&[Arc::clone(&key)], claim(9, 0), at(0)).unwrap().settle(used(9, 0));
    limits.collect(at(1_000));
    assert!(key.lock().state.is_some());
    limits.collect(at(240_000));
    assert!(key.lock().state.is_none());
    assert_eq!(detail(&limits, &key, "requests_per_minute", at(240_000)), (0, 9));
}

// --- the store

#[test]
fn the_store_is_told_once() {
    let (limits, key) = (Limits::new(), key(allowance(7, 0, 500)));
    let subjects = [Arc::clone(&key)];
    limits.reserve(&subjects, claim(0, 100), at(0)).unwrap().settle(used(0, 70));
    let open = limits.reserve(&subjects, claim(0, 100), at(0)).unwrap();
    let owed = limits.collect(at(0));
    assert_eq!(owed.len(), 1);
    assert_eq!(&*owed[0].counter, "k:a:budget:1772409600");
    assert_eq!((owed[0].spent, owed[0].reserved, owed[0].durable), (70, 100, true));
    assert!(limits.collect(at(0)).is_empty());
    limits.give_back(&owed);
    let owed = limits.collect(at(0));
    assert_eq!((owed[0].spent, owed[0].reserved), (70, 100));
    open.settle(used(0, 30));
    limits.applied(&owed);
    let owed = limits.collect(at(0));
    assert_eq!((owed[0].spent, owed[0].reserved), (30, 0));
    limits.applied(&owed);
    assert!(limits.collect(at(0)).is_empty() && !limits.is_dirty());
}

#[test]
fn minutes_are_told_at_a_hand_over() {
    let (old, new) = (Limits::new(), Limits::new());
    let key_of_old = [key(allowance(5, 100, 0))];
    let one = old.reserve(&key_of_old, claim(40, 0), at(0)).unwrap();
    drop(old.reserve(&key_of_old, claim(40, 0), at(0)).unwrap());
    assert!(old.collect(at(0)).is_empty());
    for owed in old.collect_all(at(0)) {
        assert!(!owed.durable && owed.expires_at > TEN + 60_000);
        new.learn(&owed.counter, owed.spent, owed.reserved, owed.expires_at);
    }
    let key_of_new = key(allowance(5, 100, 0));
    assert_eq!(detail(&new, &key_of_new, "requests_per_minute", at(5)), (2, 3));
    assert_eq!(detail(&new, &key_of_new, "tokens_per_minute", at(5)), (0, 60));
    drop(one);
}

#[test]
fn what_the_store_knows_is_no_news_of_what_it_was_told() {
    let (limits, key) = (Limits::new(), key(allowance(0, 0, 500)));
    let counter = "k:a:budget:1772409600";
    limits.learn(counter, 100, 50, TEN + 99_999_999);
    let subjects = [Arc::clone(&key)];
    assert_eq!(detail(&limits, &key, "budget", at(0)), (100, 350));
    limits.reserve(&subjects, claim(0, 350), at(0)).unwrap().settle(used(0, 200));
    limits.applied(&limits.collect(at(0)));
    limits.learn(counter, 300, 0, TEN + 99_999_999);
    assert_eq!(detail(&limits, &key, "budget", at(0)), (300, 200));
    assert!(limits.reserve(&subjects, claim(0, 201), at(0)).is_err());
    assert!(limits.reserve(&subjects, claim(0, 200), at(0)).is_ok());
}

#[test]
fn a_refusal_asks_how_the_others_stand() {
    let (limits, key) = (Limits::new(), key(allowance(0, 0, 500)));
    limits.learn("k:a:budget:1772409600", 100, 400, TEN + 99_999_999);
    limits.applied(&limits.collect(at(0)));
    assert!(limits.reserve(&[key], claim(0, 1), at(0)).is_err());
    assert_eq!(limits.collect(at(0)).len(), 1);
}

#[test]
fn without_a_store_nothing_grows() {
    let (limits, key) = (Limits::new(), key(quota(500)));
    let terms = Quota { group: Arc::from("large"), tokens: 500, refresh: Period::Hour, epoch: 0 };
    key.set_terms(Terms { quotas: vec![terms], ..Terms::default() });
    for hour in 0..1_000 {
        let now = at(hour * 3_600_000);
        limits.reserve(&[Arc::clone(&key)], claim(9, 0), now).unwrap().settle(used(9, 0));
    }
    let inner = key.lock();
    let state = inner.state.as_ref().unwrap();
    assert!(state.current.len() + state.past.len() <= 102);
    assert_eq!(limits.dirty.take().len(), 1);
}

// --- leases

const SHARED: Mode = Mode::Shared { nodes: 3, away: false };

fn grant(limits: &Limits, used: u64, now: Now) -> Vec<Ask> {
    let asks = limits.leases(now);
    let answer = |ask: &Ask| Granted { granted: ask.want, used: used + ask.held + ask.want };
    limits.leased(&asks, &asks.iter().map(answer).collect::<Vec<_>>(), now);
    asks
}

#[test]
fn the_first_requests_are_let_in_on_credit_and_the_next_on_a_lease() {
    let (limits, key) = (Limits::new(), key(allowance(300, 0, 0)));
    limits.set_mode(SHARED);
    let subjects = [key];
    let reserve = || limits.reserve(&subjects, Claim::default(), at(0)).map(drop);
    for _ in 0..10 {
        reserve().unwrap();
    }
    let refused = reserve().unwrap_err();
    assert_eq!(refused.retry_after, Duration::from_secs(1), "the window is not spent");
    let asks = grant(&limits, 0, at(0));
    assert_eq!((asks[0].held, asks[0].cap, asks[0].base), (10, 300, 0));
    assert_eq!(asks[0].want, 25 + 1, "a slice, and what was refused");
    for _ in 0..26 {
        reserve().unwrap();
    }
}

#[test]
fn a_lease_that_runs_short_is_asked_for_again_and_once() {
    let (limits, key) = (Limits::new(), key(allowance(300, 0, 0)));
    limits.set_mode(SHARED);
    let subjects = [key];
    let reserve = || limits.reserve(&subjects, Claim::default(), at(0)).map(drop);
    reserve().unwrap();
    grant(&limits, 0, at(0));
    for _ in 0..14 {
        reserve().unwrap();
    }
    assert!(limits.leases(at(0)).is_empty());
    reserve().unwrap();
    let asks = limits.leases(at(0));
    assert_eq!(asks.len(), 1);
    reserve().unwrap();
    assert!(limits.leases(at(0)).is_empty(), "an answer is awaited");
    limits.unheard(&asks);
    assert_eq!(limits.leases(at(0)).len(), 1);
}

#[test]
fn a_window_that_is_spent_is_told_as_such_and_asked_about_once_a_second() {
    let (limits, key) = (Limits::new(), key(allowance(9, 0, 0)));
    limits.set_mode(SHARED);
    let subjects = [key];
    let reserve = |now| limits.reserve(&subjects, Claim::default(), now).map(drop);
    reserve(at(0)).unwrap();
    let asks = limits.leases(at(0));
    limits.leased(&asks, &[Granted { granted: 0, used: 9 }], at(0));
    for milliseconds in [0, 500, 999] {
        let refused = reserve(at(milliseconds)).unwrap_err();
        let left = u64::try_from(60_000 - milliseconds).unwrap();
        assert_eq!(refused.retry_after, Duration::from_millis(left));
        assert!(limits.leases(at(milliseconds)).is_empty());
    }
    assert!(reserve(at(1_000)).is_err());
    assert_eq!(limits.leases(at(1_000)).len(), 1);
}

#[test]
fn a_budget_that_is_idle_goes_back_but_for_one_claim_and_then_altogether() {
    let (limits, key) = (Limits::new(), key(allowance(0, 0, 1_200)));
    limits.set_mode(SHARED);
    let subjects = [Arc::clone(&key)];
    limits.reserve(&subjects, claim(0, 5), at(0)).unwrap().settle(used(0, 5));
    grant(&limits, 0, at(0));
    assert!(limits.leases(at(4_000)).is_empty());
    let asks = grant(&limits, 0, at(5_000));
    assert_eq!((asks[0].held, asks[0].want, asks[0].give_back()), (10, 0, 95));
    let asks = grant(&limits, 0, at(60_000));
    assert_eq!((asks[0].held, asks[0].want), (5, 0));
    limits.leases(at(61_000));
    assert!(limits.watched.take().is_empty());
    assert!(limits.reserve(&subjects, claim(0, 5), at(70_000)).is_ok());
}

#[test]
fn who_was_active_has_a_lease_asked_for_when_the_next_window_begins() {
    let (limits, key) = (Limits::new(), key(allowance(300, 0, 0)));
    limits.set_mode(SHARED);
    drop(limits.reserve(&[key], Claim::default(), at(55_000)).unwrap());
    grant(&limits, 0, at(55_000));
    let asks = limits.leases(at(60_000));
    assert_eq!(asks.len(), 1);
    assert!(asks[0].counter.ends_with(":1772445660"), "{}", asks[0].counter);
    assert_eq!((asks[0].held, asks[0].want), (0, 25));
}

#[test]
fn with_redis_away_a_share_is_left_and_budgets_have_an_overdraft() {
    let (limits, key) = (Limits::new(), key(allowance(0, 9_000, 9_000)));
    limits.set_mode(Mode::Shared { nodes: 3, away: true });
    let subjects = [Arc::clone(&key)];
    let reserve = |tokens, cost| limits.reserve(&subjects, claim(tokens, cost), at(0));
    reserve(0, 3_030).unwrap().settle(used(0, 3_030));
    assert_eq!(reserve(0, 1).unwrap_err().limit, LimitKind::Budget);
    let open = reserve(3_000, 0).unwrap();
    assert_eq!(reserve(1, 0).unwrap_err().limit, LimitKind::TokensPerMinute);
    drop(open);
    // Redis is back, and hears of all of it.
    limits.set_mode(SHARED);
    let asks = limits.leases(at(0));
    let budget = asks.iter().find(|ask| ask.counter.contains("budget")).unwrap();
    assert_eq!((budget.held, budget.base, budget.spent_on_credit()), (3_030, 0, 3_030));
}
