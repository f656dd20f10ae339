//! What a directory finds, and what of it stays when it changes.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::*;
use crate::access::limits::{Claim, Limits, Now, Seen};
use crate::config::{Allowance, Priority, Rank, RateLimit};

const NOW: i64 = 1_800_000_000_000;

fn digest(id: &str) -> [u8; 32] {
    Sha256::digest(id).into()
}

fn key(id: &str) -> KeyRecord {
    serde_json::from_value(serde_json::json!({
        "id": id, "name": format!("name of {id}"), "hint": "…abcd", "digest": hex::encode(digest(id)),
    }))
    .unwrap()
}

fn user(id: &str) -> UserRecord {
    serde_json::from_value(serde_json::json!({ "id": id, "name": id })).unwrap()
}

fn record(id: &str, body: &impl serde::Serialize) -> Record {
    let body = serde_json::to_string(body).unwrap();
    Record { id: id.to_owned(), version: 1, handle: None, body, updated_at: 0 }
}

fn put_key(key: &KeyRecord) -> (Kind, String, Option<Record>) {
    (Kind::Keys, key.id.clone(), Some(record(&key.id, key)))
}

fn put_user(user: &UserRecord) -> (Kind, String, Option<Record>) {
    (Kind::Users, user.id.clone(), Some(record(&user.id, user)))
}

fn gone(kind: Kind, id: &str) -> (Kind, String, Option<Record>) {
    (kind, id.to_owned(), None)
}

fn apply(directory: &Directory, records: Vec<(Kind, String, Option<Record>)>) -> Directory {
    let revision = directory.revision() + 1;
    directory.apply(&Changed { revision, records }, &Rules::default())
}

fn find(directory: &Directory, id: &str) -> Lookup {
    directory.find(&Digest::from(digest(id)), NOW)
}

fn known(directory: &Directory, id: &str) -> Arc<Principal> {
    match find(directory, id) {
        Lookup::Known(principal) => principal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_is_found_by_its_digest_until_it_is_gone() {
    let one = apply(&Directory::empty(), vec![put_key(&key("a")), put_key(&key("b"))]);
    assert_eq!((&*known(&one, "a").id, &*known(&one, "a").name), ("a", "name of a"));
    assert!(matches!(find(&one, "c"), Lookup::Unknown));
    let two = apply(&one, vec![gone(Kind::Keys, "a")]);
    assert!(matches!(find(&two, "a"), Lookup::Unknown));
    assert_eq!((one.len(), two.len()), (2, 1));
    // Who still has the one before sees it as it was.
    known(&one, "a");
}

#[test]
fn a_key_with_another_digest_is_not_found_by_the_old_one() {
    let one = apply(&Directory::empty(), vec![put_key(&key("a"))]);
    let turned = KeyRecord { digest: hex::encode(digest("new")), ..key("a") };
    let two = apply(&one, vec![put_key(&turned)]);
    assert!(matches!(find(&two, "a"), Lookup::Unknown));
    assert_eq!((&*known(&two, "new").id, two.len()), ("a", 1));
}

#[test]
fn what_is_refused_says_why() {
    let disabled =
        KeyRecord { enabled: false, disabled_reason: Some("leaked".into()), ..key("disabled") };
    let expired = KeyRecord { expires_at: Some(NOW), ..key("expired") };
    let lasting = KeyRecord { expires_at: Some(NOW + 1), ..key("lasting") };
    let orphan = KeyRecord { user: Some("nobody".into()), ..key("orphan") };
    let of_disabled = KeyRecord { user: Some("u".into()), ..key("of-disabled") };
    let u = UserRecord { enabled: false, disabled_reason: Some("left".into()), ..user("u") };
    let keys = [&disabled, &expired, &lasting, &orphan, &of_disabled];
    let records = keys.into_iter().map(put_key).chain([put_user(&u)]).collect();
    let directory = apply(&Directory::empty(), records);
    for (id, expected) in [
        ("disabled", Some(Why::Disabled("leaked".into()))),
        ("expired", Some(Why::Expired)),
        ("lasting", None),
        ("orphan", Some(Why::UserGone)),
        ("of-disabled", Some(Why::UserDisabled("left".into()))),
    ] {
        match (find(&directory, id), expected) {
            (Lookup::Refused(why), Some(expected)) => assert_eq!(why, expected),
            (Lookup::Known(_), None) => {}
            (found, expected) => panic!("{id}: {found:?}, not {expected:?}"),
        }
    }
}

#[test]
fn a_user_that_comes_later_or_changes_is_seen_through_keys_that_were_there() {
    let of = |id: &str| KeyRecord { user: Some("u".into()), ..key(id) };
    let one = apply(&Directory::empty(), vec![put_key(&of("a")), put_key(&of("b"))]);
    assert!(matches!(find(&one, "a"), Lookup::Refused(Why::UserGone)));
    let two = apply(&one, vec![put_user(&user("u"))]);
    let (a, b) = (known(&two, "a"), known(&two, "b"));
    assert!(Arc::ptr_eq(a.user().unwrap(), b.user().unwrap()));
    let narrow = UserRecord { allowed_models: Some(vec!["x-*".into()]), ..user("u") };
    let three = apply(&two, vec![put_user(&narrow)]);
    assert!(a.may_use("x-1") && !a.may_use("y"));
    let four = apply(&three, vec![gone(Kind::Users, "u")]);
    assert!(matches!(find(&four, "a"), Lookup::Refused(Why::UserGone)));
    let five = apply(&four, vec![put_user(&user("u"))]);
    known(&five, "a");
}

#[test]
fn a_key_stands_among_others_as_it_and_its_user_may() {
    let of = |id: &str, priority, weight| {
        put_key(&KeyRecord { user: Some("u".into()), priority, weight, ..key(id) })
    };
    let high = Some(Priority::HIGH);
    let mut records = vec![of("plain", None, None), of("high", high, Some(3))];
    records.extend([put_key(&key("alone")), put_user(&user("u"))]);
    let one = apply(&Directory::empty(), records);
    let rank = |id: &str| {
        let Rank { priority, weight } = known(&one, id).rank();
        (priority, weight)
    };
    let normal = Priority::default();
    assert_eq!(
        (rank("alone"), rank("plain"), rank("high")),
        ((normal, 1), (normal, 1), (Priority::HIGH, 3))
    );
    let bounded = UserRecord { priority: Some(Priority::LOW), weight: Some(5), ..user("u") };
    let _two = apply(&one, vec![put_user(&bounded)]);
    assert_eq!((rank("plain"), rank("high")), ((Priority::LOW, 5), (Priority::LOW, 3)));
}

#[test]
fn users_nobody_links_to_are_forgotten() {
    let one = apply(&Directory::empty(), vec![put_user(&user("u"))]);
    let two = apply(&one, vec![gone(Kind::Users, "u")]);
    drop(one);
    let three = apply(&two, Vec::new());
    drop(two);
    assert!(apply(&three, Vec::new()).user("u").is_none());
}

#[test]
fn what_is_counted_outlives_a_change_and_a_load() {
    let limits = Limits::new();
    let limited = |most| KeyRecord {
        limits: Allowance { requests_per_minute: most, ..Allowance::default() },
        ..key("a")
    };
    let call = |directory: &Directory| {
        let subjects = [Arc::clone(known(directory, "a").subject().unwrap())];
        limits.reserve(&subjects, Claim::default(), Now(NOW)).is_ok()
    };
    let one = apply(&Directory::empty(), vec![put_key(&limited(2))]);
    assert!(call(&one) && call(&one) && !call(&one));
    let two = apply(&one, vec![put_key(&limited(3))]);
    assert!(call(&two) && !call(&two));
    let mut loading = Loading::new(Arc::new(two), Arc::default());
    loading.add(Kind::Keys, &record("a", &limited(4)));
    let three = loading.finish(9);
    assert!(call(&three) && !call(&three));
}

#[test]
fn a_load_forgets_what_is_not_there() {
    let of = KeyRecord { user: Some("u".into()), ..key("a") };
    let records = vec![put_user(&user("u")), put_key(&of), put_key(&key("b"))];
    let before = apply(&Directory::empty(), records);
    let mut loading = Loading::new(Arc::new(before), Arc::default());
    loading.add(Kind::Keys, &record("a", &of));
    let after = loading.finish(7);
    assert!(matches!(find(&after, "b"), Lookup::Unknown));
    assert!(matches!(find(&after, "a"), Lookup::Refused(Why::UserGone)));
    assert_eq!((after.len(), after.revision()), (1, 7));
}

#[test]
fn a_record_that_cannot_be_read_is_left_out() {
    let mut bad = record("a", &"no key");
    let mut loading = Loading::new(Arc::default(), Arc::default());
    loading.add(Kind::Keys, &bad);
    bad.body = serde_json::to_string(&KeyRecord { digest: "zz".into(), ..key("a") }).unwrap();
    loading.add(Kind::Keys, &bad);
    loading.add(Kind::Keys, &record("b", &key("b")));
    assert_eq!(loading.finish(1).len(), 1);
}

/// Bytes of memory in use by this process alone: nextest runs each test in its own.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Set for a test that has a process of its own.
const ALONE: &str = "FOREBAY_TEST_ALONE";

/// What a process has in memory says little of one test while others run in it: the test begins
/// itself anew, by itself.
#[test]
fn an_idle_key_takes_at_most_600_bytes() {
    const KEYS: usize = 100_000;
    if std::env::var_os(ALONE).is_none() {
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let name = "access::directory::tests::an_idle_key_takes_at_most_600_bytes";
        let output = again.args([name, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
        return;
    }
    let limited = |id: &str| KeyRecord {
        user: Some("u".into()),
        expires_at: Some(NOW * 2),
        allowed_models: Some(vec!["llama-*".into()]),
        rate_limit: Some(RateLimit { requests_per_second: 10, burst_size: 20 }),
        ..key(id)
    };
    let mut loading = Loading::new(Arc::default(), Arc::default());
    loading.add(Kind::Users, &record("u", &user("u")));
    let before = resident();
    for number in 0..KEYS {
        let id = format!("key_{number:022}");
        loading.add(Kind::Keys, &record(&id, &limited(&id)));
    }
    let directory = loading.finish(1);
    let each = (resident() - before) / KEYS;
    assert_eq!(directory.len(), KEYS);
    assert!(each <= 600, "{each} bytes");
}

#[test]
fn whoever_is_enabled_again_begins_without_addresses() {
    let limits = Allowance { max_ips: 1, ..Allowance::default() };
    let k = KeyRecord { user: Some("u".into()), limits, ..key("k") };
    let on = apply(&Directory::empty(), vec![put_key(&k), put_user(&user("u"))]);
    let subjects = |directory: &Directory| {
        let key = Arc::clone(known(directory, "k").subject().unwrap());
        [key, Arc::clone(directory.user("u").unwrap().subject())]
    };
    let [of_key, of_user] = subjects(&on);
    for subject in [&of_key, &of_user] {
        assert_eq!(subject.address_seen(1, 1, Now(NOW)), Seen::New);
    }
    // A change that does not enable anybody forgets nothing.
    let renamed = KeyRecord { name: "other".into(), ..k.clone() };
    let same = apply(&on, vec![put_key(&renamed), put_user(&user("u"))]);
    for subject in subjects(&same) {
        assert_eq!(subject.address_seen(2, 1, Now(NOW)), Seen::TooMany);
    }
    let off = UserRecord { enabled: false, ..user("u") };
    let off = vec![put_key(&KeyRecord { enabled: false, ..k.clone() }), put_user(&off)];
    let again = apply(&apply(&same, off), vec![put_key(&k), put_user(&user("u"))]);
    for subject in subjects(&again) {
        assert_eq!(subject.address_seen(2, 1, Now(NOW)), Seen::New);
    }
}
