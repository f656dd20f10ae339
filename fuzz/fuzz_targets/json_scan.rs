//! A body is accepted when serde reads it and it keeps our stricter rules; a splice changes only
//! what it names.
#![no_main]

use bytes::Bytes;
use forebay::config::RequestEdits;
use forebay::protocol::Operation;
use forebay::protocol::edit::{ChatCap, Edits, edit_request};
use forebay::protocol::json::{ScanError, scan};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

fuzz_target!(|body: &[u8]| {
    let read = serde_json::from_slice::<Value>(body);
    let members = match (scan(body), &read) {
        (Ok(members), Ok(_)) => members,
        // Serde stops one level earlier, and rounds numbers near the end of the range otherwise.
        (Ok(_), Err(error)) => {
            let error = error.to_string();
            let known = ["recursion limit exceeded", "number out of range"];
            assert!(known.iter().any(|known| error.contains(known)), "{error}");
            return;
        }
        (Err(error), Ok(value)) => {
            let stricter = match error {
                ScanError::Duplicate(_) | ScanError::TooManyMembers => value.is_object(),
                ScanError::NumberTooLong => true,
                ScanError::NotAnObject => !value.is_object(),
                ScanError::Syntax { expected, .. } => expected == "a number within range",
                ScanError::TooDeep | ScanError::NotUtf8 { .. } => false,
            };
            assert!(stricter, "{error}");
            return;
        }
        (Err(_), Err(_)) => return,
    };
    let Ok(Value::Object(mut expected)) = read else { panic!("scanned, but not an object") };
    every_member_is_found(body, &members, &expected);

    let body = Bytes::copy_from_slice(body);
    let request = RequestEdits::default();
    let edits = Edits {
        model: Some("a \"model\""),
        request: &request,
        include_usage: false,
        chat_cap: ChatCap::MaxTokens,
        priority: None,
    };
    let Ok(splice) = edit_request(Operation::Other, &body, &members, &edits) else { return };
    let edited = splice.apply(&body);
    assert_eq!(edited.len(), splice.len(&body));
    assert_eq!(splice.pieces(&body).concat(), edited);
    let _ = expected.insert("model".to_owned(), "a \"model\"".into());
    assert_eq!(serde_json::from_slice::<Map<String, Value>>(&edited).expect("JSON"), expected);
});

fn every_member_is_found(
    body: &[u8],
    members: &forebay::protocol::json::Members,
    expected: &Map<String, Value>,
) {
    assert_eq!(members.is_empty(), expected.is_empty());
    assert_eq!(body[members.end()], b'}');
    for (name, value) in expected {
        let raw = members.raw(body, name).expect("found");
        assert_eq!(&serde_json::from_slice::<Value>(raw).expect("JSON"), value);
    }
}
