use super::*;
use crate::config::{Priority, RankGiven};

fn ask(caller: &str, tokens: u64) -> Ask {
    Ask { caller: Arc::from(caller), rank: Rank::default(), tokens }
}

fn of_class(caller: &str, priority: Priority) -> Ask {
    Ask { rank: Rank { priority, ..Rank::default() }, ..ask(caller, 100) }
}

fn of_weight(caller: &str, weight: u32) -> Ask {
    let own = RankGiven { priority: None, weight: Some(weight) };
    Ask { rank: Rank::of(own, RankGiven::default()), ..ask(caller, 100) }
}

/// Serves `turns` of those who wait, each taking as many tokens as `took` says of its caller; gives what
/// each caller was served.
fn serve(line: &mut Line<Ask>, turns: usize, took: impl Fn(&str) -> u64) -> BTreeMap<String, u64> {
    let mut served = BTreeMap::new();
    for _ in 0..turns {
        let Some((of, charge)) = line.call() else { break };
        let tokens = took(&of.caller);
        *served.entry(of.caller.to_string()).or_default() += tokens;
        line.done(&charge, Some(tokens));
        // It goes on asking.
        line.join(of.clone(), false, of);
    }
    served
}

fn join(line: &mut Line<Ask>, ask: &Ask, times: usize) {
    for _ in 0..times {
        line.join(ask.clone(), false, ask.clone());
    }
}

#[test]
fn who_asks_ten_times_as_much_gets_no_more_tokens() {
    let mut line = Line::default();
    join(&mut line, &ask("large", 100), 100);
    join(&mut line, &ask("small", 100), 10);
    let served = serve(&mut line, 2000, |_| 300);
    let (large, small) = (served["large"], served["small"]);
    assert!(large.abs_diff(small) * 100 <= large, "{large} {small}");
}

#[test]
fn tokens_count_and_not_requests() {
    let mut line = Line::default();
    join(&mut line, &ask("long", 2000), 50);
    join(&mut line, &ask("short", 50), 50);
    let served = serve(&mut line, 5000, |caller| if caller == "long" { 4000 } else { 100 });
    let (long, short) = (served["long"], served["short"]);
    assert!(long.abs_diff(short) * 20 <= long, "{long} {short}");
}

#[test]
fn what_costs_no_tokens_goes_in_turns() {
    let mut line = Line::default();
    join(&mut line, &ask("a", 0), 50);
    join(&mut line, &ask("b", 0), 1);
    let mut turns = BTreeMap::<String, u32>::new();
    for _ in 0..100 {
        let (of, charge) = line.call().unwrap();
        *turns.entry(of.caller.to_string()).or_default() += 1;
        line.done(&charge, Some(0));
        line.join(of.clone(), false, of);
    }
    assert!(turns.values().all(|turns| (45..=55).contains(turns)), "{turns:?}");
}

#[test]
fn weights_divide_what_is_served() {
    let mut line = Line::default();
    join(&mut line, &of_weight("three", 3), 50);
    join(&mut line, &of_weight("one", 1), 50);
    let served = serve(&mut line, 4000, |_| 300);
    let ratio = served["three"] * 100 / served["one"];
    assert!((290..=310).contains(&ratio), "{served:?}");
}

#[test]
fn who_was_away_has_saved_nothing_and_is_next_all_the_same() {
    let mut line = Line::default();
    join(&mut line, &ask("busy", 100), 50);
    serve(&mut line, 1000, |_| 300);
    join(&mut line, &ask("back", 100), 50);
    let (first, charge) = line.call().unwrap();
    assert_eq!(&*first.caller, "back", "it waits behind nobody's hundred others");
    line.done(&charge, Some(300));
    let served = serve(&mut line, 200, |_| 300);
    assert!(served["busy"].abs_diff(served["back"]) <= 3000, "{served:?}");
}

#[test]
fn what_was_served_without_a_wait_counts_as_well() {
    let mut line: Line<Ask> = Line::default();
    for _ in 0..100 {
        let charge = line.serve(&ask("busy", 100));
        line.done(&charge, Some(1000));
    }
    let served = line.serve(&ask("quiet", 100));
    line.done(&served, Some(1000));
    join(&mut line, &ask("busy", 100), 50);
    join(&mut line, &ask("quiet", 100), 50);
    let served = serve(&mut line, 200, |_| 300);
    assert!(served["busy"].abs_diff(served["quiet"]) <= 3000, "{served:?}");
}

#[test]
fn higher_classes_come_first_and_one_caller_in_turn() {
    let mut line = Line::default();
    let mut spots = Vec::new();
    for (index, priority) in
        [Priority::LOW, Priority::default(), Priority::HIGH, Priority::default()]
            .into_iter()
            .enumerate()
    {
        let of = of_class("a", priority);
        spots.push(line.join(of, false, index));
    }
    assert_eq!(line.ahead(&of_class("b", Priority::HIGH)), 1);
    assert_eq!(line.ahead(&of_class("b", Priority::default())), 2);
    assert_eq!(line.ahead(&of_class("a", Priority::default())), 3);
    assert_eq!(line.leave(&spots[1]), Some(1));
    assert_eq!(line.leave(&spots[1]), None, "it left already");
    let order: Vec<usize> = std::iter::from_fn(|| line.call().map(|(of, _)| of)).collect();
    assert_eq!(order, [2, 3, 0]);
    assert!(line.is_empty());
}

#[test]
fn who_tries_again_stands_before_its_callers_others() {
    let mut line = Line::default();
    line.join(ask("a", 1), false, "new");
    line.join(ask("a", 1), true, "again");
    assert_eq!(line.call().unwrap().0, "again");
}

#[test]
fn a_full_line_has_room_for_higher_classes_and_for_those_with_less_in_it() {
    let mut line = Line::default();
    for index in 0..8 {
        line.join(ask("many", 1), false, index);
    }
    assert_eq!(line.displace(&ask("many", 1)), None, "not for its own");
    assert_eq!(line.displace(&ask("few", 1)), Some(7), "the last that came");
    line.join(ask("few", 1), false, 100);
    assert_eq!(line.displace(&of_class("other", Priority::LOW)), None, "not for a lower class");
    assert_eq!(line.displace(&of_class("many", Priority::HIGH)), Some(6));
    line.join(of_class("many", Priority::HIGH), false, 200);
    while line.len() > 1 {
        line.call();
    }
    assert_eq!(line.displace(&ask("few", 1)), None, "one against one");
}

#[test]
fn who_had_much_is_not_forgotten_by_coming_under_many_names() {
    let mut line: Line<Ask> = Line::default();
    let busy = ask("busy", 100);
    for _ in 0..10 {
        let charge = line.serve(&busy);
        line.done(&charge, Some(100_000));
    }
    let under_way = line.serve(&busy);
    for number in 0..3 * MOST_CALLERS {
        let charge = line.serve(&ask(&number.to_string(), 1));
        line.done(&charge, Some(1));
    }
    assert!(line.known() <= MOST_CALLERS);
    line.done(&under_way, Some(100));
    join(&mut line, &busy, 1);
    join(&mut line, &ask("other", 100), 1);
    assert_eq!(&*line.call().unwrap().0.caller, "other");
}

#[test]
fn what_failed_costs_nothing() {
    let mut line: Line<Ask> = Line::default();
    for _ in 0..100 {
        let charge = line.serve(&ask("unlucky", 100));
        line.done(&charge, None);
    }
    join(&mut line, &ask("unlucky", 100), 1);
    join(&mut line, &ask("other", 100), 1);
    let (first, _) = line.call().unwrap();
    assert!(line.counter(&first.caller) < 1000.0);
}
