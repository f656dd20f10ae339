use super::*;

const ONE: &str = "aaaa-aaaa-aaaa-1111";
const TWO: &str = "bbbb-bbbb-bbbb-2222";
const REFUSED: Fault = Fault::Key(Disabled::Refused);

fn ring(keys: &[&str]) -> KeyRing {
    renewed(keys, None)
}

fn renewed(keys: &[&str], before: Option<&KeyRing>) -> KeyRing {
    let keys: Vec<Secret> = keys.iter().map(|key| Secret::from((*key).to_owned())).collect();
    KeyRing::new(&keys, AuthStyle::Bearer, before).unwrap()
}

fn named(model: &str) -> Name<'_> {
    Name { model, free: false }
}

fn limit(key: &ApiKey, model: &str) {
    key.fails(Fault::Limited, named(model), Some(Duration::from_mins(1))).unwrap();
}

/// The last characters of the keys that eight requests in a row get.
fn picked(ring: &KeyRing, model: &str) -> Vec<String> {
    let hint = |_| ring.pick(model, &[], true).map(|choice| choice.key.hint.clone());
    let mut hints: Vec<String> = (0..8).filter_map(hint).collect();
    hints.sort();
    hints.dedup();
    hints
}

fn key(ring: &KeyRing, n: usize) -> &Arc<ApiKey> {
    &ring.keys[n]
}

#[test]
fn keys_take_turns() {
    let ring = ring(&[ONE, TWO]);
    let first = ring.pick("m", &[], true).unwrap().key;
    let second = ring.pick("m", &[], true).unwrap().key;
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(ring.pick("m", &[first, second], true).is_none());
}

#[test]
fn a_limited_key_rests_for_its_model_only() {
    let ring = ring(&[ONE, TWO]);
    limit(key(&ring, 0), "m");
    assert_eq!(picked(&ring, "m"), ["…2222"]);
    assert_eq!(picked(&ring, "n"), ["…1111", "…2222"]);
    assert_eq!(picked(&ring, ""), ["…1111", "…2222"]);
    assert!(ring.rested_in("m").is_none());
    limit(key(&ring, 1), "m");
    let rest = ring.rested_in("m").unwrap();
    assert!((Duration::from_secs(59)..=Duration::from_mins(1)).contains(&rest), "{rest:?}");
    assert!(ring.pick("m", &[], true).is_none() && ring.last_resort("m", &[]).is_none());
    assert!(ring.pick("n", &[], true).is_some());
}

#[test]
fn a_disabled_key_is_used_for_nothing_but_as_the_last_resort() {
    let ring = ring(&[ONE]);
    assert_eq!(key(&ring, 0).fails(REFUSED, named("m"), None), Some(Duration::from_mins(1)));
    assert!(ring.pick("m", &[], true).is_none() && ring.pick("n", &[], true).is_none());
    let last = ring.last_resort("n", &[]).unwrap();
    assert!(last.probe.is_none(), "its back-off has not passed");
    // What comes before it is due makes no longer back-off.
    assert_eq!(key(&ring, 0).fails(REFUSED, named("m"), None), None);
    assert!(key(&ring, 0).works("n"), "it serves again");
    assert!(!key(&ring, 0).works("n"));
    assert!(ring.pick("m", &[], true).unwrap().probe.is_none());
}

#[test]
fn a_disabled_key_that_is_due_is_tried_by_one_request() {
    let ring = ring(&[ONE, TWO]);
    key(&ring, 0).fails(Fault::Key(Disabled::Quota), named("m"), None);
    assert_eq!(picked(&ring, "m"), ["…2222"]);
    assert!(ring.recheck(0) && !ring.recheck(2));
    assert!((0..4).all(|_| ring.pick("m", &[], false).unwrap().probe.is_none()), "must not");
    let picks: Vec<Choice> = (0..4).map(|_| ring.pick("m", &[], true).unwrap()).collect();
    assert_eq!(picks.iter().filter(|choice| choice.probe.is_some()).count(), 1);
    assert_eq!(ring.states()[0].state, KeyState::Probing);
    // A probe without an outcome leaves the next request to try.
    drop(picks);
    assert_eq!(ring.states()[0].state, KeyState::Disabled);
    let mut picks = (0..2).map(|_| ring.pick("m", &[], true).unwrap());
    let probe = picks.find(|choice| choice.probe.is_some()).unwrap();
    let again = probe.key.fails(Fault::Key(Disabled::Quota), named("m"), None);
    assert_eq!(again, Some(Duration::from_mins(2)), "longer, since it was in vain");
    drop(probe);
    assert_eq!(picked(&ring, "m"), ["…2222"]);
    assert!(key(&ring, 0).works("m"));
    assert_eq!(picked(&ring, "m"), ["…1111", "…2222"]);
    assert_eq!(key(&ring, 0).fails(REFUSED, named("m"), None), Some(Duration::from_mins(1)));
}

#[test]
fn a_model_that_a_key_may_not_use_leaves_it_its_other_models() {
    let ring = ring(&[ONE]);
    key(&ring, 0).fails(Fault::Model, named("m"), None).unwrap();
    assert!(ring.pick("m", &[], true).is_none());
    assert!(ring.last_resort("m", &[]).is_some());
    assert!(ring.pick("n", &[], true).is_some());
    assert_eq!(ring.states()[0].reason, Some("model_refused"));
}

#[test]
fn a_nearly_spent_key_is_used_last() {
    let ring = ring(&[ONE, TWO]);
    let name = || named("m");
    key(&ring, 0).spends(Some(Duration::from_mins(1)), name);
    assert_eq!(picked(&ring, "m"), ["…2222"]);
    assert_eq!(picked(&ring, "n"), ["…1111", "…2222"]);
    limit(key(&ring, 1), "m");
    assert_eq!(picked(&ring, "m"), ["…1111"]);
    key(&ring, 0).spends(None, name);
    key(&ring, 1).works("n");
    assert_eq!(picked(&ring, "m"), ["…1111"]);
}

#[test]
fn a_key_that_stays_keeps_its_story_and_one_that_goes_is_forgotten() {
    let before = ring(&[ONE, TWO]);
    let gone = Arc::clone(key(&before, 1));
    key(&before, 0).fails(REFUSED, named("m"), None);
    let after = renewed(&["cccc-cccc-cccc-3333", ONE], Some(&before));
    assert!(after.holds(key(&before, 0)) && !after.holds(&gone));
    assert_eq!(picked(&after, "m"), ["…3333"]);
}

#[test]
fn each_key_tells_how_it_is() {
    let ring = ring(&[ONE, TWO, "cccc-cccc-cccc-3333"]);
    limit(key(&ring, 0), "m");
    limit(key(&ring, 0), "n");
    key(&ring, 1).fails(Fault::Key(Disabled::Revoked), named("m"), None);
    let states = ring.states();
    let told = states.iter().map(|key| (&*key.hint, key.state, key.reason, key.resting_models));
    let expected = [
        ("…1111", KeyState::Resting, Some("limited"), 2),
        ("…2222", KeyState::Disabled, Some("revoked"), 0),
        ("…3333", KeyState::InUse, None, 0),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    let until = |n: usize| states[n].until.map(|it| it.duration_since(SystemTime::now()).unwrap());
    assert!(
        until(0).unwrap() > Duration::from_secs(58) && until(1).unwrap() <= Duration::from_mins(1)
    );
    assert_eq!(until(2), None);
    assert!(ring.recheck(0));
    assert_eq!(ring.states()[0].state, KeyState::InUse);
}

#[test]
fn a_question_of_our_own_takes_a_key_in_use() {
    let ring = ring(&[ONE, TWO]);
    key(&ring, 0).fails(REFUSED, named("m"), None);
    assert_eq!(ring.any().unwrap().hint, "…2222");
    key(&ring, 1).fails(REFUSED, named("m"), None);
    assert!(ring.any().is_some(), "the provider says what is wrong");
}

#[test]
fn many_at_once_leave_one_probe_and_no_key_behind() {
    let ring = ring(&[ONE, TWO]);
    key(&ring, 0).fails(REFUSED, named("m"), None);
    ring.recheck(0);
    let probes = AtomicUsize::new(0);
    let gate = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let choices: Vec<_> = (0..100).filter_map(|_| ring.pick("m", &[], true)).collect();
                let mine = choices.iter().filter(|choice| choice.probe.is_some()).count();
                probes.fetch_add(mine, Relaxed);
                // Nobody gives theirs back before all have looked.
                gate.wait();
            });
        }
    });
    assert_eq!(probes.load(Relaxed), 1);
    assert!(ring.pick("m", &[Arc::clone(key(&ring, 1))], true).unwrap().probe.is_some());
}

#[test]
fn a_key_never_shows_in_debug_output() {
    let ring = ring(&[ONE]);
    assert!(!format!("{ring:?}").contains("aaaa"));
    let choice = ring.pick("m", &[], true).unwrap();
    assert!(!format!("{choice:?} {:?}", choice.key.header()).contains("aaaa"));
}

#[test]
fn a_key_is_known_again_by_its_mark_in_another_process() {
    let (before, after) = (ring(&[ONE, TWO]), ring(&[TWO, ONE]));
    for number in 0..2 {
        let known = after.marked(key(&before, number).mark()).unwrap();
        assert_eq!(known.header(), key(&before, number).header());
        assert!(!known.mark().contains("1111") && known.mark().len() == 32);
    }
    assert!(after.marked("").is_none());
}
