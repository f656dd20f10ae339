//! What a reload cannot put into force, because it is read at the start only.

use std::collections::BTreeSet;
use std::path::Path;

use super::settings;
use crate::config::Config;

/// The settings in which `now` differs from what this process started with, by their names in the
/// file.
pub fn waiting(started: &Config, now: &Config) -> Vec<String> {
    let mut waiting = BTreeSet::new();
    if listeners(started) != listeners(now) {
        waiting.insert("listen".to_owned());
    }
    let admin = |config: &Config| config.admin.as_ref().map(|admin| admin.listen);
    if admin(started) != admin(now) {
        waiting.insert("admin.listen".to_owned());
    }
    // Where a default file stands follows from the folder, which stays.
    let store = |config: &Config| config.store.as_ref().and_then(|store| store.url.clone());
    let kept = |config: &Config| (store(config), config.store_url(Path::new("/")).is_some());
    if kept(started) != kept(now) {
        waiting.insert("store.url".to_owned());
    }
    if started.redis != now.redis {
        waiting.insert("redis.url".to_owned());
    }
    let (old, new) = (&started.timeouts, &now.timeouts);
    // HTTP/1.1 takes it from the configuration in force; pingora wants to know it for HTTP/2 first.
    if old.client_idle != new.client_idle {
        waiting.insert("timeouts.client_idle".to_owned());
    }
    if old.upgrade_ready != new.upgrade_ready {
        waiting.insert("timeouts.upgrade_ready".to_owned());
    }
    // Shorter ones are in force at once; pingora's own bound on a stop follows from the longest.
    let bound = settings::longest_drain(old);
    let drains = [("timeouts.drain", new.drain), ("timeouts.upgrade_drain", new.upgrade_drain)];
    for (name, _) in drains.iter().filter(|(_, drain)| *drain > bound) {
        waiting.insert((*name).to_owned());
    }
    let keys = started.pingora.keys().chain(now.pingora.keys()).filter_map(|key| key.as_str());
    for key in keys.filter(|key| *key != "version") {
        if started.pingora.get(key) != now.pingora.get(key) {
            waiting.insert(key.to_owned());
        }
    }
    waiting.into_iter().collect()
}

/// Addresses, and whether they speak TLS. Certificates can be exchanged live.
fn listeners(config: &Config) -> BTreeSet<(std::net::SocketAddr, bool)> {
    config.listen.iter().map(|listen| (listen.address, listen.tls.is_some())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, load};

    fn config(yaml: &str) -> Config {
        let text = format!("providers: [{{ name: p, kind: mock }}]\n{yaml}");
        load(&Source { text, ..Source::default() }).unwrap().0
    }

    fn waits(before: &str, after: &str) -> Vec<String> {
        waiting(&config(before), &config(after))
    }

    #[test]
    fn what_is_read_at_the_start_only_waits() {
        let at = |port: u16| format!("listen: [{{ address: \"127.0.0.1:{port}\" }}]");
        let tls = "listen: [{ address: \"127.0.0.1:1\", tls: { cert: a, key: b } }]";
        let admin =
            |port: u16, key: &str| format!("admin: {{ listen: \"127.0.0.1:{port}\", key: {key} }}");
        let (key, other) = ("0123456789abcdef", "fedcba9876543210");
        let redis = |port: u16| format!("redis: {{ url: \"redis://127.0.0.1:{port}\" }}");
        let store = |file: &str| format!("store: {{ url: \"sqlite:/tmp/{file}.db\" }}");
        for (before, after, expected) in [
            (at(1), at(2), vec!["listen"]),
            (at(1), tls.to_owned(), vec!["listen"]),
            (tls.to_owned(), tls.replace("cert: a", "cert: c"), vec![]),
            (String::new(), admin(9, key), vec!["admin.listen", "store.url"]),
            (admin(9, key), admin(9, other), vec![]),
            (admin(9, key), admin(8, key), vec!["admin.listen"]),
            (redis(1), redis(2), vec!["redis.url"]),
            (redis(1), redis(1), vec![]),
            (store("a"), store("b"), vec!["store.url"]),
            (store("a"), format!("{}\n{}", store("a"), admin(9, key)), vec!["admin.listen"]),
            ("threads: 2".to_owned(), "threads: 3".to_owned(), vec!["threads"]),
            ("threads: 2\nuser: a".to_owned(), String::new(), vec!["threads", "user"]),
            ("version: 1".to_owned(), String::new(), vec![]),
            (
                String::new(),
                "timeouts: { client_idle: 3s }".to_owned(),
                vec!["timeouts.client_idle"],
            ),
            (String::new(), "timeouts: { drain: 3s }".to_owned(), vec![]),
            (String::new(), "timeouts: { drain: 1h }".to_owned(), vec!["timeouts.drain"]),
            (String::new(), "heartbeat: 1s\nretry: { attempts: 9 }".to_owned(), vec![]),
        ] {
            assert_eq!(waits(&before, &after), expected, "{before} -> {after}");
        }
    }

    #[test]
    fn the_order_of_listeners_is_no_change() {
        let one = "{ address: \"127.0.0.1:1\" }";
        let two = "{ address: \"127.0.0.1:2\" }";
        let (before, after) =
            (format!("listen: [{one}, {two}]"), format!("listen: [{two}, {one}]"));
        assert!(waits(&before, &after).is_empty());
    }
}
