use super::*;
use crate::balance::Report;
use crate::balance::load::Claim;
use crate::balance::replica::InFlight;
use crate::config::{Percent, Priority, Rank, Url};

const RULE: Admission = Admission {
    max_concurrent: 2,
    queue: 3,
    wait: Duration::from_secs(30),
    spill_after: None,
    kv_limit: Percent(90),
    priority: false,
};

fn replica(port: u16) -> Arc<Replica> {
    let url = Url { https: false, host: "127.0.0.1".to_owned(), port, path: String::new() };
    Arc::new(Replica::new(([127, 0, 0, 1], port).into(), url))
}

fn gate(replicas: &[Arc<Replica>]) -> Arc<Gate> {
    let gate = Arc::<Gate>::default();
    gate.set_rule(Some(RULE));
    gate.set_replicas(replicas.to_vec());
    gate
}

fn ask(caller: &str) -> Ask {
    Ask { caller: Arc::from(caller), rank: Rank::default(), tokens: 10 }
}

/// A request that has begun at a replica.
fn begin(replica: &Arc<Replica>, place: Place) -> InFlight {
    let claim = Claim { prompt_tokens: 10, prefill_tokens: 10 };
    let mut begun = InFlight::begin(Arc::clone(replica), None, claim, 2).expect("room");
    begun.take(Some(place));
    begun
}

fn enter(gate: &Arc<Gate>, caller: &str) -> Option<Place> {
    match gate.enter(&ask(caller)) {
        Entry::Free(place) => Some(place.expect("places are counted")),
        Entry::Full(_) => None,
    }
}

fn waiting(gate: &Gate) -> usize {
    gate.queue().unwrap().waiting
}

#[tokio::test]
async fn there_are_as_many_places_as_replicas_have() {
    let (a, b) = (replica(1), replica(2));
    let gate = gate(&[Arc::clone(&a), Arc::clone(&b)]);
    let places: Vec<Place> = std::iter::from_fn(|| enter(&gate, "x")).take(9).collect();
    assert_eq!(places.len(), 4, "those that have not begun count");
    drop(places);
    let begun: Vec<InFlight> =
        [&a, &a, &b, &b].map(|to| begin(to, enter(&gate, "x").unwrap())).into();
    assert!(enter(&gate, "x").is_none(), "and those that have");
    drop(begun);
    assert!(enter(&gate, "x").is_some());
}

#[tokio::test]
async fn who_waits_is_called_when_a_place_is_free() {
    let a = replica(1);
    let gate = gate(std::slice::from_ref(&a));
    let mut begun: Vec<InFlight> = (0..2).map(|_| begin(&a, enter(&gate, "x").unwrap())).collect();
    let mut first = gate.join(&ask("x"), false).unwrap();
    let mut second = gate.join(&ask("x"), false).unwrap();
    begun.pop();
    let place = first.called().await.unwrap();
    assert_eq!(waiting(&gate), 1);
    let begun_again = begin(&a, place);
    drop(begun_again);
    second.called().await.unwrap();
}

#[tokio::test]
async fn who_leaves_gives_up_its_place_in_the_line_and_a_place_it_was_given() {
    let a = replica(1);
    let gate = gate(std::slice::from_ref(&a));
    let mut begun: Vec<InFlight> = (0..2).map(|_| begin(&a, enter(&gate, "x").unwrap())).collect();
    drop(gate.join(&ask("x"), false).unwrap());
    assert_eq!(waiting(&gate), 0);
    let called = gate.join(&ask("x"), false).unwrap();
    let mut next = gate.join(&ask("x"), false).unwrap();
    begun.pop();
    // It has been given a place by now, and does not take it.
    drop(called);
    next.called().await.unwrap();
}

#[tokio::test]
async fn a_full_line_refuses_and_a_higher_priority_displaces() {
    let a = replica(1);
    let gate = gate(std::slice::from_ref(&a));
    let _begun: Vec<InFlight> = (0..2).map(|_| begin(&a, enter(&gate, "x").unwrap())).collect();
    let mut tickets: Vec<Ticket> = (0..3).map(|_| gate.join(&ask("x"), false).unwrap()).collect();
    assert_eq!(gate.join(&ask("x"), false).unwrap_err().why, Why::Full);
    let high = Ask { rank: Rank { priority: Priority::HIGH, ..Rank::default() }, ..ask("y") };
    let _high = gate.join(&high, false).unwrap();
    let displaced = tickets.pop().unwrap().called().await.unwrap_err();
    assert_eq!((displaced.why, waiting(&gate)), (Why::Displaced, 3));
}

#[tokio::test]
async fn without_a_replica_in_service_nobody_is_held_up() {
    let gate = gate(&[]);
    assert!(matches!(gate.enter(&ask("x")), Entry::Free(None)));
    let a = replica(1);
    gate.set_replicas(vec![Arc::clone(&a)]);
    let _begun: Vec<InFlight> = (0..2).map(|_| begin(&a, enter(&gate, "x").unwrap())).collect();
    let mut waits = gate.join(&ask("x"), false).unwrap();
    gate.set_replicas(Vec::new());
    waits.called().await.unwrap();
}

#[tokio::test]
async fn another_rule_is_in_force_for_those_who_wait() {
    let a = replica(1);
    let gate = gate(std::slice::from_ref(&a));
    let _begun: Vec<InFlight> = (0..2).map(|_| begin(&a, enter(&gate, "x").unwrap())).collect();
    let mut first = gate.join(&ask("x"), false).unwrap();
    let mut second = gate.join(&ask("x"), false).unwrap();
    gate.set_rule(Some(Admission { max_concurrent: 3, ..RULE }));
    let _place = first.called().await.unwrap();
    assert_eq!(waiting(&gate), 1);
    gate.set_rule(None);
    second.called().await.unwrap();
    assert!(gate.queue().is_none() && matches!(gate.enter(&ask("x")), Entry::Free(None)));
}

#[tokio::test]
async fn a_replica_whose_cache_is_full_has_one_request_at_most() {
    let a = replica(1);
    let gate = gate(std::slice::from_ref(&a));
    let told = |kv_use| Report { running: Some(1.0), kv_use, ..Report::default() };
    a.note_report(told(0.95));
    let begun = begin(&a, enter(&gate, "x").unwrap());
    assert!(enter(&gate, "x").is_none());
    let mut waits = gate.join(&ask("x"), false).unwrap();
    a.note_report(told(0.5));
    // Nobody tells: it looks for itself.
    waits.called().await.unwrap();
    drop(begun);
}

#[tokio::test]
async fn a_wait_that_would_be_too_long_is_not_begun() {
    let a = replica(1);
    let gate = gate(std::slice::from_ref(&a));
    let rule = Admission { wait: Duration::from_millis(1), queue: 100, ..RULE };
    gate.set_rule(Some(rule));
    let place = enter(&gate, "x").unwrap();
    let begun = begin(&a, place);
    tokio::time::sleep(Duration::from_millis(20)).await;
    begun.settle(10);
    drop(begun);
    let _begun: Vec<InFlight> = (0..2).map(|_| begin(&a, enter(&gate, "x").unwrap())).collect();
    let shed = gate.join(&ask("x"), false).unwrap_err();
    assert_eq!((shed.why, shed.retry_after), (Why::Wait, SHORTEST));
    a.note_report(Report { running: Some(2.0), kv_use: 0.99, ..Report::default() });
    assert_eq!(gate.join(&ask("x"), false).unwrap_err().why, Why::KvCache);
}
