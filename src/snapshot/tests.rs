//! What of a configuration stays when another takes its place.

use std::sync::Arc;

use super::{Origin, Snapshot};
use crate::config::{Source, load};

fn compile(yaml: &str, before: Option<&Snapshot>) -> Snapshot {
    let source = Source { text: yaml.to_owned(), ..Source::default() };
    let (config, _warnings) = load(&source).unwrap();
    Snapshot::compile(config, Origin::of(yaml), before).unwrap()
}

const TWO: &str = "\
providers:
  - { name: a, kind: vllm, base_url: \"http://127.0.0.1:1\", api_keys: [first-key] }
  - { name: b, kind: vllm, base_url: \"http://127.0.0.1:2\" }
models: [{ name: m, targets: [{ provider: a }] }]
";

#[test]
fn a_provider_that_only_moved_stays_the_same() {
    let before = compile(TWO, None);
    let moved = TWO.replace("providers:", "heartbeat: 5s\n\n\nproviders:");
    let after = compile(&moved, Some(&before));
    for (a, b) in before.upstreams.iter().zip(&after.upstreams) {
        assert!(Arc::ptr_eq(a, b), "{}", a.provider.name);
    }
}

#[test]
fn a_provider_that_changed_is_another_and_its_neighbour_stays() {
    let before = compile(TWO, None);
    let after = compile(&TWO.replace("127.0.0.1:1", "127.0.0.1:3"), Some(&before));
    assert!(!Arc::ptr_eq(&before.upstreams[0], &after.upstreams[0]));
    assert!(!Arc::ptr_eq(&before.upstreams[0].pool, &after.upstreams[0].pool));
    assert!(Arc::ptr_eq(&before.upstreams[1], &after.upstreams[1]));
}

#[test]
fn replicas_stay_when_only_the_way_they_are_called_changes() {
    let before = compile(TWO, None);
    let key = before.upstreams[0].provider.keys.any().unwrap();
    for change in ["[first-key, second-key]", "[first-key], headers: { x: y }"] {
        let after = compile(&TWO.replace("[first-key]", change), Some(&before));
        let (a, b) = (&before.upstreams[0], &after.upstreams[0]);
        assert!(!Arc::ptr_eq(a, b), "{change}");
        assert!(Arc::ptr_eq(&a.pool, &b.pool), "{change}");
        assert!(Arc::ptr_eq(&a.provider.budget, &b.provider.budget), "{change}");
        assert!(b.provider.keys.holds(key), "{change}");
    }
}

#[test]
fn a_provider_by_another_name_is_a_new_one() {
    let before = compile(TWO, None);
    let after = compile(&TWO.replace("name: b", "name: c"), Some(&before));
    assert!(!Arc::ptr_eq(&before.upstreams[1].pool, &after.upstreams[1].pool));
}

#[test]
fn new_authorities_make_another_provider() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let write = || {
        let names = vec!["ca".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        std::fs::write(&path, made.cert.pem()).unwrap();
    };
    let tls = format!("127.0.0.1:2\", tls: {{ ca_file: \"{}\" }}", path.display());
    let yaml = TWO.replace("127.0.0.1:2\"", &tls);
    write();
    let before = compile(&yaml, None);
    let same = compile(&yaml, Some(&before));
    assert!(Arc::ptr_eq(&before.upstreams[1], &same.upstreams[1]));
    write();
    let after = compile(&yaml, Some(&before));
    assert!(!Arc::ptr_eq(&before.upstreams[1], &after.upstreams[1]));
}

#[test]
fn a_version_is_the_beginning_of_what_sha256sum_shows() {
    assert_eq!(Origin::of("hello\n").version.as_deref(), Some("5891b5b522d5"));
}

#[test]
fn limits_of_what_is_only_tried_do_not_touch_what_is_in_force() {
    let limited = |most: u32| {
        let limits = format!("limits: {{ max_concurrent: {most} }}");
        let key = format!("keys: [{{ name: k, key: a-key-of-the-tests-01, {limits} }}]\n");
        TWO.replace("targets:", &format!("{limits}, targets:")) + &key
    };
    let (before, tried) = (compile(&limited(5), None), limited(1));
    let tried = compile(&tried, Some(&before));
    let digest = crate::access::Digest::of("a-key-of-the-tests-01");
    let subjects = |snapshot: &Snapshot| {
        let key = snapshot.keyring.find(&digest).unwrap().subject().unwrap();
        [Arc::clone(key), Arc::clone(snapshot.subject("m").unwrap())]
    };
    let most = |snapshot: &Snapshot| {
        subjects(snapshot).map(|subject| subject.terms().allowance.max_concurrent)
    };
    assert_eq!(most(&before), [5, 5]);
    tried.enforce();
    assert_eq!(most(&before), [1, 1], "what was counted goes on under the new limits");
    for (a, b) in subjects(&before).iter().zip(subjects(&tried)) {
        assert!(Arc::ptr_eq(a, &b));
    }
}
