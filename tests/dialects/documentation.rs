//! `docs/dialects.md`, held to what the code says.

use forebay::protocol::translate::table::{CALLS, Speaker, render};
use forebay::provider::PROFILES;
use forebay::routing::Endpoint;
use http::Method;

use crate::{golden, root};

#[test]
fn the_documentation_is_what_the_code_says() {
    let speakers: Vec<Speaker> = PROFILES
        .iter()
        .map(|it| Speaker {
            kind: it.kind,
            dialect: it.dialect,
            also: it.also,
            perhaps: it.perhaps,
        })
        .collect();
    let page = render(&speakers);
    golden::hold(&root().join("docs/dialects.md"), &page, "UPDATE_DOCS").unwrap();
}

#[test]
fn the_calls_in_it_are_endpoints() {
    for (dialect, path) in CALLS.iter().flat_map(|(_, paths)| *paths) {
        let path = path.replace("{model}", "m");
        let operation = match Endpoint::find(&Method::POST, &path) {
            Some(Endpoint::ByModel(call) | Endpoint::ByPath { call, .. }) => call.operation,
            other => panic!("{path} is {other:?}"),
        };
        // What is invoked is Claude's, or embeds: only the model tells.
        let is_invoked = path.ends_with("/invoke");
        assert!(is_invoked || operation.dialect() == Some(*dialect), "{path} is {operation:?}");
    }
}
