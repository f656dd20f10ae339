use std::collections::HashMap;
use std::net::SocketAddr;

use proptest::prelude::*;

use super::super::report::Report;
use super::super::request::{Prompt, Unknown};
use super::*;
use crate::config::{Endpoint, HealthCheck, Kind, Provider, Url};

/// A request of this session, with this text as its turns.
#[derive(Clone, Default)]
struct Chat {
    session: Option<u64>,
    turns: Vec<u8>,
}

impl Request for Chat {
    fn tokens(&self) -> u64 {
        u64::try_from(self.turns.len() / TOKEN).unwrap()
    }

    fn session(&self) -> Option<u64> {
        self.session
    }

    fn prompt(&self) -> Option<Prompt<'_>> {
        Some(Prompt { parts: [b"", b"", &self.turns], ..Prompt::default() })
    }
}

fn of_session(session: u64) -> Chat {
    Chat { session: Some(session), ..Chat::default() }
}

/// `length` bytes that begin with the same `shared` ones, and then go on in a way of their own.
fn chat(own: usize, shared: usize, length: usize) -> Chat {
    let mut turns = vec![b's'; shared];
    turns.extend(format!("{own:09}").bytes().cycle().take(length - shared));
    Chat { turns, ..Chat::default() }
}

async fn pool(policy: LoadBalancing, ports: impl IntoIterator<Item = u16>) -> Pool {
    let endpoint = |port| {
        let url = Url { https: false, host: "127.0.0.1".to_owned(), port, path: String::new() };
        Endpoint { url, weight: 1 }
    };
    let mut provider = Provider::new("p", Kind::Vllm, ports.into_iter().map(endpoint).collect());
    provider.load_balancing = policy;
    provider.health_check = HealthCheck::None;
    let pool = Pool::new(&provider, None);
    pool.refresh().await;
    pool
}

fn address(pick: &Pick) -> SocketAddr {
    pick.replica().address
}

fn most_and_mean(picks: &[Pick], replicas: u32) -> (f64, f64) {
    let mut counts: HashMap<SocketAddr, u32> = HashMap::new();
    for pick in picks {
        *counts.entry(address(pick)).or_default() += 1;
    }
    let all: u32 = counts.values().sum();
    (f64::from(*counts.values().max().unwrap()), f64::from(all) / f64::from(replicas))
}

fn count(pool: &Pool, reason: Reason) -> u64 {
    pool.choices().all().find(|(one, _)| *one == reason).unwrap().1
}

const HASH: LoadBalancing = LoadBalancing::ConsistentHash { header: None };

#[tokio::test]
async fn a_session_stays_where_it_is() {
    let pool = pool(HASH, 1..5).await;
    for session in 0..200 {
        let home = address(&pool.pick(&of_session(session)).unwrap());
        for _ in 0..3 {
            assert_eq!(address(&pool.pick(&of_session(session)).unwrap()), home);
        }
    }
    assert_eq!(count(&pool, Reason::Session), 800);
}

#[tokio::test]
async fn few_sessions_move_when_a_replica_leaves() {
    let (before, after) = (pool(HASH, 1..11).await, pool(HASH, 1..10).await);
    let homes = |pool: &Pool| -> Vec<SocketAddr> {
        (0..2000).map(|session| address(&pool.pick(&of_session(session * 7919)).unwrap())).collect()
    };
    let (before, after) = (homes(&before), homes(&after));
    let left = before.iter().filter(|home| home.port() == 10).count();
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    assert_eq!(moved, left, "only those of the one that left");
    assert!((100..350).contains(&left), "{left}");
}

#[tokio::test]
async fn a_session_that_asks_too_much_spreads() {
    let pool = pool(HASH, 1..5).await;
    let picks: Vec<Pick> = (0..100).map(|_| pool.pick(&of_session(1)).unwrap()).collect();
    let (most, mean) = most_and_mean(&picks, 4);
    assert!(most <= mean * 1.25 + 1.0, "{most} of {mean}");
    assert!(count(&pool, Reason::Overflow) > 50);
}

#[tokio::test]
async fn a_request_without_a_session_goes_where_there_is_least_to_do() {
    let pool = pool(HASH, 1..5).await;
    let picks: Vec<Pick> = (0..40).map(|_| pool.pick(&Unknown).unwrap()).collect();
    assert_eq!(most_and_mean(&picks, 4), (10.0, 10.0));
}

#[tokio::test]
async fn a_chat_goes_on_where_it_began() {
    let pool = pool(LoadBalancing::PrefixAffinity, 1..5).await;
    let mut homes = HashMap::new();
    for turn in 1..6 {
        for own in 0..40 {
            let pick = pool.pick(&chat(own, 1024, 4096 * turn)).unwrap();
            let home = *homes.entry(own).or_insert(address(&pick));
            assert_eq!(address(&pick), home, "chat {own}, turn {turn}");
        }
    }
    assert!(pool.choices().expected_share().unwrap() > 0.6);
}

#[tokio::test]
async fn what_knows_nothing_of_a_prompt_is_chosen_by_its_load() {
    let pool = pool(LoadBalancing::PrefixAffinity, 1..5).await;
    let picks: Vec<Pick> = (0..40).map(|own| pool.pick(&chat(own, 0, 4096)).unwrap()).collect();
    assert_eq!(most_and_mean(&picks, 4), (10.0, 10.0));
    assert_eq!(count(&pool, Reason::LeastLoad), 40);
}

#[tokio::test]
async fn others_load_counts_as_far_as_the_server_tells() {
    let pool = pool(LoadBalancing::PrefixAffinity, 1..3).await;
    let home = pool.pick(&chat(1, 0, 8192)).unwrap();
    // Its prompt is in the cache once it is answered.
    pool.answered(&home);
    home.replica().note_report(Report { running: Some(1.0), ..Report::default() });
    assert_eq!(address(&pool.pick(&chat(1, 0, 8448)).unwrap()), address(&home));
    let busy = Report { running: Some(60.0), waiting: 40.0, ..Report::default() };
    home.replica().note_report(busy);
    assert_ne!(address(&pool.pick(&chat(1, 0, 8448)).unwrap()), address(&home));
}

#[tokio::test]
async fn a_server_that_begins_anew_has_nothing_cached() {
    let pool = pool(LoadBalancing::PrefixAffinity, 1..3).await;
    let request = chat(1, 0, 8192);
    let home = pool.pick(&request).unwrap();
    let blocks = Blocks::of(&request.prompt().unwrap(), &pool.key);
    let up = |started| Report { started, counter: 5.0, ..Report::default() };
    home.replica().note_report(up(100.0));
    home.replica().note_report(up(100.0));
    assert_eq!(home.replica().knows(&blocks), 32);
    home.replica().note_report(up(160.0));
    assert_eq!(home.replica().knows(&blocks), 0);
}

#[tokio::test]
async fn a_replica_that_is_put_out_has_nothing_cached() {
    let pool = pool(LoadBalancing::PrefixAffinity, 1..3).await;
    let request = chat(1, 0, 8192);
    let home = pool.pick(&request).unwrap();
    for _ in 0..5 {
        pool.failed(&home, "connect");
    }
    let blocks = Blocks::of(&request.prompt().unwrap(), &pool.key);
    assert_eq!(home.replica().knows(&blocks), 0);
    assert_ne!(address(&pool.pick(&request).unwrap()), address(&home));
}

#[tokio::test]
async fn prompts_count_until_they_are_answered_and_requests_until_they_end() {
    let pool = pool(LoadBalancing::PrefixAffinity, 1..3).await;
    let pick = pool.pick(&chat(1, 0, 4096)).unwrap();
    let replica = Arc::clone(pick.replica());
    let load = || {
        let load = &replica.load;
        (load.requests(), load.unanswered(), load.prompt_tokens(), load.prefill_tokens())
    };
    assert_eq!(load(), (1, 1, 1024, 1024));
    pool.answered(&pick);
    pool.answered(&pick);
    assert_eq!(load(), (1, 0, 1024, 0));
    let again = pool.pick(&chat(1, 0, 4096)).unwrap();
    assert_eq!(load(), (2, 1, 2048, 0), "all of it is cached there");
    drop((pick, again));
    assert_eq!(load(), (0, 0, 0, 0));
}

/// Whatever the prompts have in common, nobody is given more than a bit above the mean.
#[test]
fn no_prefix_is_so_hot_that_a_replica_is_overrun() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    proptest!(ProptestConfig::with_cases(40), |(
        replicas in 2..9u16, shared in 0..12_000usize, own in 0..4000usize, requests in 16..160usize,
        answered in 0..3usize,
    )| {
        let pool = runtime.block_on(pool(LoadBalancing::PrefixAffinity, 1..=replicas));
        let requests = requests.max(usize::from(replicas) * 8);
        let mut picks = Vec::new();
        for number in 0..requests {
            let pick = pool.pick(&chat(number, shared, shared + own)).unwrap();
            if number % 3 < answered {
                pool.answered(&pick);
            }
            picks.push(pick);
        }
        let (most, mean) = most_and_mean(&picks, u32::from(replicas));
        prop_assert!(most <= mean * 1.5, "{most} of {mean} with {replicas} replicas");
    });
}
