//! `forebay status`: the running server on one screen.

use serde_json::Value;

use crate::admin_api::stored;
use crate::cli_keys::{bad, forebay, good, offline};

#[tokio::test]
async fn it_tells_of_replicas_models_and_keys() {
    let (upstream, gateway) = stored().await;
    let file = gateway.file();
    good(&forebay(&file, &["key", "create", "a"]));
    good(&forebay(&file, &["key", "create", "b"]));
    good(&forebay(&file, &["key", "revoke", "b"]));
    let screen = good(&forebay(&file, &["status"]));
    let address = upstream.address.to_string();
    for part in [
        env!("CARGO_PKG_VERSION"),
        "healthy",
        &address,
        "other",
        "2 in the store (1 disabled)",
        "store connected, redis none",
    ] {
        assert!(screen.contains(part), "{part}:\n{screen}");
    }
    assert!(!screen.contains("fake-"), "{screen}");
    let status: Value =
        serde_json::from_str(&good(&forebay(&file, &["status", "--json"]))).unwrap();
    assert_eq!(status["keys"], serde_json::json!({ "file": 0, "store": 2, "disabled": 1 }));
    assert_eq!(status["providers"][0]["state"]["replicas"][0]["in_flight"], 0);
    assert_eq!(status["models"][0]["providers"], serde_json::json!(["p"]));
}

#[test]
fn without_a_server_it_says_so() {
    let (_dir, file) = offline("");
    let said = bad(&forebay(&file, &["status"]), 2);
    assert!(said.contains("no `admin`"), "{said}");
    let yaml = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        format!("{yaml}admin: {{ listen: \"127.0.0.1:1\", key: fake-admin-key-0001 }}\n"),
    )
    .unwrap();
    let said = bad(&forebay(&file, &["status"]), 1);
    assert!(said.contains("no server answers at 127.0.0.1:1"), "{said}");
}
