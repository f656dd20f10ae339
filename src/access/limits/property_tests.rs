//! Nodes against a model of those who count for all: whatever happens in whatever order, nothing is
//! lost, nothing is counted twice, and no more is let in than is promised.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::config::{Allowance, Budget, Period};

const HOUR: i64 = 3_600_000;
/// 2026-03-02T10:00:00Z.
const TEN: i64 = 1_772_445_600_000;

/// What may happen.
#[derive(Clone, Debug)]
enum Event {
    Reserve {
        node: usize,
        claim: u64,
    },
    /// Ends one of the open requests; `None`: it is dropped.
    Settle {
        which: usize,
        part: Option<u64>,
    },
    /// An exchange with the authority; what becomes of it.
    Exchange {
        node: usize,
        fate: Fate,
    },
    /// Whether Redis can be asked.
    Away {
        node: usize,
        away: bool,
    },
    Pass {
        milliseconds: i64,
    },
    Terms {
        node: usize,
        cap: u64,
    },
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Done,
    /// Not done, which is certain.
    Refused,
    /// Done, but the answer is lost.
    AnswerLost,
    /// Not done, and nobody knows.
    QuestionLost,
}

fn event() -> impl Strategy<Value = Event> {
    let fate = prop_oneof![
        4 => Just(Fate::Done),
        1 => Just(Fate::Refused),
        1 => Just(Fate::AnswerLost),
        1 => Just(Fate::QuestionLost),
    ];
    prop_oneof![
        8 => (0..2_usize, 0..60_u64).prop_map(|(node, claim)| Event::Reserve { node, claim }),
        6 => (any::<usize>(), proptest::option::of(0..100_u64))
            .prop_map(|(which, part)| Event::Settle { which, part }),
        6 => (0..2_usize, fate).prop_map(|(node, fate)| Event::Exchange { node, fate }),
        1 => (0..2_usize, any::<bool>()).prop_map(|(node, away)| Event::Away { node, away }),
        2 => prop_oneof![0..2_000_i64, 0..HOUR].prop_map(|milliseconds| Event::Pass { milliseconds }),
        1 => (0..2_usize, prop_oneof![Just(0), Just(500_u64)])
            .prop_map(|(node, cap)| Event::Terms { node, cap }),
    ]
}

fn terms(cap: u64) -> Terms {
    let budget = (cap > 0).then_some(Budget { nanos: cap, period: Period::Hour });
    Terms { allowance: Allowance { budget, ..Allowance::default() }, ..Terms::default() }
}

/// A request under way.
struct Open {
    reservation: Reservation,
    claim: u64,
    counter: String,
}

struct Node {
    limits: Arc<Limits>,
    key: Arc<Subject>,
    /// A batch whose outcome is not known.
    pending: Option<Vec<Owed>>,
    sequence: u32,
}

impl Node {
    fn new(cap: u64) -> Self {
        let key = Subject::new(Who::Key, "a", terms(cap));
        Self { limits: Limits::new(), key, pending: None, sequence: 0 }
    }

    fn reserve(&self, claim: u64, now: Now) -> Option<Open> {
        let asked = Claim { cost_nanos: claim, ..Claim::default() };
        let reservation = self.limits.reserve(&[Arc::clone(&self.key)], asked, now).ok()?;
        Some(Open { reservation, claim, counter: counter(now) })
    }
}

fn counter(now: Now) -> String {
    format!("k:a:budget:{}", now.0.div_euclid(HOUR) * HOUR / 1000)
}

/// What was really let in and used, per counter.
#[derive(Default)]
struct Truth {
    settled: BTreeMap<String, u64>,
    open: BTreeMap<String, u64>,
}

impl Truth {
    fn admitted(&mut self, open: &Open) -> u64 {
        *self.open.entry(open.counter.clone()).or_default() += open.claim;
        self.committed(&open.counter)
    }

    fn committed(&self, counter: &str) -> u64 {
        let of = |map: &BTreeMap<String, u64>| map.get(counter).copied().unwrap_or_default();
        of(&self.settled) + of(&self.open)
    }

    /// Ends a request with `part` per cent of what it claimed.
    fn end(&mut self, open: Open, part: Option<u64>) {
        *self.open.get_mut(&open.counter).unwrap() -= open.claim;
        let Some(part) = part else { return drop(open.reservation) };
        let cost_nanos = open.claim * part / 100;
        *self.settled.entry(open.counter).or_default() += cost_nanos;
        open.reservation.settle(Used { tokens: 0, cost_nanos });
    }
}

/// The store: totals, and what each node has reserved; a batch counts once.
#[derive(Default)]
struct StoreModel {
    spent: BTreeMap<String, u64>,
    reserved: HashMap<(usize, String), u64>,
    sequences: HashMap<usize, u32>,
}

impl StoreModel {
    fn flush(&mut self, node: usize, sequence: u32, owed: &[Owed]) {
        if self.sequences.insert(node, sequence) == Some(sequence) {
            return;
        }
        for one in owed {
            *self.spent.entry(one.counter.to_string()).or_default() += one.spent;
            self.reserved.insert((node, one.counter.to_string()), one.reserved);
        }
    }

    fn exchange(&mut self, nodes: &mut [Node], index: usize, fate: Fate, now: Now) {
        let node = &mut nodes[index];
        let owed = node.pending.take().unwrap_or_else(|| {
            node.sequence += 1;
            node.limits.collect(now)
        });
        match fate {
            Fate::Done => {
                self.flush(index, node.sequence, &owed);
                node.limits.applied(&owed);
                for one in &owed {
                    let others = self.reserved.iter();
                    let others =
                        others.filter(|((of, id), _)| *of != index && **id == *one.counter);
                    let reserved = others.map(|(_, reserved)| reserved).sum();
                    let spent = self.spent[&*one.counter];
                    node.limits.learn(&one.counter, spent, reserved, one.expires_at);
                }
            }
            // Only a batch that was never sent otherwise is certain not to have counted.
            Fate::Refused if self.sequences.get(&index) != Some(&node.sequence) => {
                node.limits.give_back(&owed);
            }
            Fate::AnswerLost => {
                self.flush(index, node.sequence, &owed);
                node.pending = Some(owed);
            }
            Fate::Refused | Fate::QuestionLost => node.pending = Some(owed),
        }
    }
}

/// Redis: the script of [`super::exchange`].
#[derive(Default)]
struct RedisModel {
    counters: BTreeMap<String, Shared>,
}

struct Shared {
    used: u64,
    unclaimed: u64,
    held: HashMap<usize, u64>,
}

impl RedisModel {
    fn lease(&mut self, node: usize, ask: &Ask) -> Granted {
        let fresh = || Shared { used: ask.base, unclaimed: ask.base, held: HashMap::new() };
        let shared = self.counters.entry(ask.counter.to_string()).or_insert_with(fresh);
        let mine = shared.held.get(&node).copied().unwrap_or_else(|| {
            let mine = ask.had.min(shared.unclaimed);
            shared.unclaimed -= mine;
            mine
        });
        shared.used = shared.used - mine + ask.held;
        let granted = ask.want.min(ask.cap.saturating_sub(shared.used));
        shared.used += granted;
        shared.held.insert(node, ask.held + granted);
        Granted { granted, used: shared.used }
    }

    fn exchange(&mut self, node: usize, limits: &Limits, asks: &[Ask], fate: Fate, now: Now) {
        match fate {
            Fate::Done => {
                let answers: Vec<_> = asks.iter().map(|ask| self.lease(node, ask)).collect();
                limits.leased(asks, &answers, now);
            }
            Fate::AnswerLost => {
                for ask in asks {
                    self.lease(node, ask);
                }
                limits.unheard(asks);
            }
            Fate::Refused | Fate::QuestionLost => limits.unheard(asks),
        }
    }
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn one_node_and_its_store_agree(
        cap in 1..500_u64,
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let (mut now, mut open, mut truth) = (Now(TEN), Vec::<Open>::new(), Truth::default());
        let (mut nodes, mut store) = ([Node::new(cap)], StoreModel::default());
        for event in events {
            match event {
                Event::Reserve { claim, .. } => {
                    if let Some(admitted) = nodes[0].reserve(claim, now) {
                        prop_assert!(truth.admitted(&admitted) <= cap);
                        open.push(admitted);
                    } else {
                        prop_assert!(truth.committed(&counter(now)) + claim > cap);
                    }
                }
                Event::Settle { which, part } if !open.is_empty() => {
                    truth.end(open.swap_remove(which % open.len()), part);
                }
                Event::Exchange { fate, .. } => store.exchange(&mut nodes, 0, fate, now),
                Event::Pass { milliseconds } => now.0 += milliseconds,
                _ => {}
            }
        }
        for open in open {
            truth.end(open, Some(50));
        }
        finish(&mut nodes, &mut store, &truth, now)?;
    }

    #[test]
    fn two_nodes_and_their_store_agree(events in proptest::collection::vec(event(), 1..160)) {
        let (mut now, mut open, mut truth) = (Now(TEN), Vec::<Open>::new(), Truth::default());
        let (mut nodes, mut store) = ([Node::new(500), Node::new(500)], StoreModel::default());
        for node in &nodes {
            node.limits.set_mode(Mode::Solo { nodes: 2 });
        }
        for event in events {
            match event {
                Event::Reserve { node, claim } => {
                    if let Some(mut admitted) = nodes[node].reserve(claim, now) {
                        // Without a limit nothing is counted.
                        if nodes[node].key.is_unlimited() {
                            admitted.claim = 0;
                        }
                        truth.admitted(&admitted);
                        open.push(admitted);
                    }
                }
                Event::Settle { which, part } if !open.is_empty() => {
                    truth.end(open.swap_remove(which % open.len()), part);
                }
                Event::Exchange { node, fate } => store.exchange(&mut nodes, node, fate, now),
                Event::Pass { milliseconds } => now.0 += milliseconds,
                Event::Terms { node, cap } => nodes[node].key.set_terms(terms(cap)),
                _ => {}
            }
        }
        for open in open {
            truth.end(open, Some(50));
        }
        finish(&mut nodes, &mut store, &truth, now)?;
        // What one of them tells, the other knows.
        for node in &nodes {
            node.key.set_terms(terms(500));
        }
        let settled = truth.settled.get(&counter(now)).copied().unwrap_or_default();
        for index in [0, 1, 0, 1] {
            drop(nodes[index].reserve(1, now));
            store.exchange(&mut nodes, index, Fate::Done, now);
        }
        for node in &nodes {
            let details = node.limits.details(&[Arc::clone(&node.key)], now);
            prop_assert_eq!((details[0].used, details[0].remaining), (settled, 500_u64.saturating_sub(settled)));
        }
    }

    #[test]
    fn two_nodes_and_their_redis_agree(
        cap in 1..2_000_u64,
        away in any::<bool>(),
        events in proptest::collection::vec(event(), 1..200),
    ) {
        const LARGEST: u64 = 60;
        let (mut now, mut open, mut truth) = (Now(TEN), Vec::<Open>::new(), Truth::default());
        let (nodes, mut redis) = ([Node::new(cap), Node::new(cap)], RedisModel::default());
        let mut gone = [false; 2];
        let set_away = |node: &Node, away| node.limits.set_mode(Mode::Shared { nodes: 2, away });
        for node in &nodes {
            set_away(node, false);
        }
        let credit = LARGEST.max(cap / 20);
        // With Redis away each spends its share of what it knew to remain, and the overdraft.
        let stale = if away { cap } else { 0 };
        let bound = cap + 2 * credit + stale + cap / 100;
        for event in events {
            match event {
                Event::Reserve { node, claim } => {
                    if let Some(admitted) = nodes[node].reserve(claim, now) {
                        prop_assert!(truth.admitted(&admitted) <= bound);
                        open.push(admitted);
                    }
                }
                Event::Settle { which, part } if !open.is_empty() => {
                    truth.end(open.swap_remove(which % open.len()), part);
                }
                Event::Exchange { node, fate } if !gone[node] => {
                    let limits = &nodes[node].limits;
                    redis.exchange(node, limits, &limits.leases(now), fate, now);
                }
                Event::Away { node, away: is } if away => {
                    gone[node] = is;
                    set_away(&nodes[node], is);
                }
                Event::Pass { milliseconds } => now.0 += milliseconds,
                _ => {}
            }
        }
        for open in open {
            truth.end(open, Some(50));
        }
        for node in &nodes {
            set_away(node, false);
        }
        for _ in 0..2 {
            for (index, node) in nodes.iter().enumerate() {
                prop_assert_eq!(node.key.reserved(), 0);
                let asks = node.limits.leave(now);
                redis.exchange(index, &node.limits, &asks, Fate::Done, now);
            }
        }
        // Whatever was lost on the way: Redis knows what was used, and no more.
        let counter = counter(now);
        let used = redis.counters.get(&counter).map_or(0, |shared| shared.used);
        prop_assert_eq!(used, truth.settled.get(&counter).copied().unwrap_or_default());
    }

}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn a_limit_is_used_up_by_nodes_that_all_take_part(
        cap in 10..5_000_u64,
        nodes in 1..5_u32,
        turns in proptest::collection::vec(0..5_usize, 50),
    ) {
        let mut redis = RedisModel::default();
        let all: Vec<Node> = (0..nodes).map(|_| Node::new(cap)).collect();
        for node in &all {
            node.limits.set_mode(Mode::Shared { nodes, away: false });
        }
        let (mut now, mut admitted, mut turn) = (Now(TEN), 0, 0);
        // Again and again everybody is offered some requests, and then asks.
        while now.0 < TEN + 600_000 {
            for (index, node) in all.iter().enumerate() {
                for _ in 0..=turns[turn % turns.len()] {
                    if let Some(open) = node.reserve(1, now) {
                        admitted += 1;
                        open.reservation.settle(Used { tokens: 0, cost_nanos: 1 });
                    }
                }
                turn += 1;
                redis.exchange(index, &node.limits, &node.limits.leases(now), Fate::Done, now);
            }
            now.0 += 300;
        }
        prop_assert!(admitted <= cap + u64::from(nodes), "{} of {}", admitted, cap);
        prop_assert!(admitted + u64::from(nodes) >= cap, "{} of {}", admitted, cap);
    }
}

/// Everything is delivered: the store has what was used, and nothing is reserved.
fn finish(
    nodes: &mut [Node],
    store: &mut StoreModel,
    truth: &Truth,
    now: Now,
) -> Result<(), TestCaseError> {
    for index in 0..nodes.len() {
        prop_assert_eq!(nodes[index].key.reserved(), 0);
        // A batch of unknown fate first, then the rest.
        store.exchange(nodes, index, Fate::Done, now);
        store.exchange(nodes, index, Fate::Done, now);
        prop_assert!(!nodes[index].limits.is_dirty());
    }
    let spent: BTreeMap<_, _> = store.spent.iter().filter(|(_, spent)| **spent > 0).collect();
    let settled: BTreeMap<_, _> = truth.settled.iter().filter(|(_, spent)| **spent > 0).collect();
    prop_assert_eq!(spent, settled);
    prop_assert!(store.reserved.values().all(|reserved| *reserved == 0));
    Ok(())
}
