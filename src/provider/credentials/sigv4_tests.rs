use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use proptest::prelude::*;
use ring::hmac;
use sha2::{Digest, Sha256};

use super::sigv4::AwsKeys;
use super::{Grant, Token};
use crate::config::{AccessKey, Secret};

pub fn moment(text: &str) -> SystemTime {
    text.parse::<jiff::Timestamp>().unwrap().into()
}

pub const BEDROCK: &str = "bedrock-runtime.us-east-1.amazonaws.com";
const CONVERSE: &str = r#"{"messages":[{"role":"user","content":[{"text":"hi"}]}]}"#;

/// The keys of AWS's own examples.
fn example(session_token: Option<&str>) -> AwsKeys {
    AwsKeys::new(&AccessKey {
        id: Secret::new("AKIDEXAMPLE"),
        secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        session_token: session_token.map(Secret::new),
    })
}

pub fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::try_from(*value).unwrap())
    };
    pairs.iter().map(pair).collect()
}

/// What `Authorization` says: the headers that are signed, and the signature.
fn signature(added: &[(HeaderName, HeaderValue)]) -> (String, String) {
    let value = added.iter().find(|(name, _)| name == header::AUTHORIZATION).unwrap();
    assert!(value.1.is_sensitive());
    let text = value.1.to_str().unwrap();
    let (_, rest) = text.split_once("SignedHeaders=").unwrap();
    let (signed, signature) = rest.split_once(", Signature=").unwrap();
    (signed.to_owned(), signature.to_owned())
}

#[test]
fn bedrock_requests_are_signed_as_botocore_does() {
    const SIGNED: &str = "content-type;host;x-amz-date";
    const LENT: &str = "content-type;host;x-amz-date;x-amz-security-token";
    let cases = [
        (
            "/model/us.amazon.nova-micro-v1%3A0/converse-stream",
            None,
            SIGNED,
            "4ebe062833f1d86f2c065a1eea6c69b006d454c421aac673052493c72e0c40b6",
        ),
        // A colon that is not escaped on the wire has another signature.
        (
            "/model/us.amazon.nova-micro-v1:0/converse-stream",
            None,
            SIGNED,
            "04b9bfdba873ffda5713d57550c010c46da50d84403b946427cc0b87dd1bf4ff",
        ),
        (
            "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fabc123/converse",
            Some("session-token-example"),
            LENT,
            "626e9895fabeb6fdc73c8444d0a7d28bef86038e0e7e9cd542b852a57075381c",
        ),
    ];
    for (target, token, signed, expected) in cases {
        let headers = headers(&[
            ("host", BEDROCK),
            ("content-type", "application/json"),
            ("user-agent", "a client's"),
            ("x-request-id", "ours"),
            ("connection", "keep-alive"),
        ]);
        let now = moment("2026-01-02T03:04:05Z");
        // In pieces or whole, a body is the same.
        let (one, two) = CONVERSE.as_bytes().split_at(17);
        for body in [vec![CONVERSE.as_bytes()], vec![one, two]] {
            let keys = example(token);
            let added =
                keys.sign("POST", target, &headers, body, ("us-east-1", "bedrock"), now).unwrap();
            let date = added.iter().find(|(name, _)| name == "x-amz-date").unwrap();
            assert_eq!(date.1, "20260102T030405Z");
            assert_eq!(signature(&added), (signed.to_owned(), expected.to_owned()), "{target}");
            let lent = added.iter().find(|(name, _)| name == "x-amz-security-token");
            assert_eq!(lent.map(|(_, value)| value.to_str().unwrap()), token);
            assert!(lent.is_none_or(|(_, value)| value.is_sensitive()));
        }
    }
}

#[test]
fn a_request_to_mantle_is_signed_as_openais_sdk_does() {
    let body = br#"{"model":"gpt-4o","input":"hello"}"#;
    let hash = hex::encode(Sha256::digest(body));
    let headers = headers(&[
        ("host", "bedrock-mantle.us-east-1.api.aws"),
        ("content-type", "application/json"),
        ("x-amz-content-sha256", &hash),
    ]);
    let added = example(Some("fixture-session-token"))
        .sign(
            "POST",
            "/openai/v1/responses",
            &headers,
            [&body[..]],
            ("us-east-1", "bedrock-mantle"),
            moment("2025-01-02T03:04:05Z"),
        )
        .unwrap();
    let signed = "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token";
    let expected = "dc20c8fbe516daf0ccae7e5b7a78fc2936870413a9f1af6e1b2d44b970ce411f";
    assert_eq!(signature(&added), (signed.to_owned(), expected.to_owned()));
}

/// AWS's signature, computed once more from its description.
fn signed_by_hand(target: &str, content_type: &str, body: &[u8], now: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    let path: String = target.bytes().map(encoded).collect();
    let hash = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let canonical = format!(
        "POST\n{path}\n\ncontent-type:{content_type}\nhost:{BEDROCK}\nx-amz-date:{now}\n\ncontent-type;host;x-amz-date\n{}",
        hash(body)
    );
    let (day, _) = now.split_once('T').unwrap();
    let scope = format!("{day}/eu-central-1/bedrock/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{now}\n{scope}\n{}", hash(canonical.as_bytes()));
    let sign = |key: &[u8], text: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
    };
    let mut key = b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_vec();
    for part in scope.split('/') {
        key = sign(&key, part);
    }
    hex::encode(sign(&key, &text))
}

proptest! {
    #[test]
    fn any_request_is_signed_as_the_description_says(
        model in "[a-zA-Z0-9._~-]{1,40}(%3A[0-9]|:[0-9]|%2F[a-z]+)?",
        body in proptest::collection::vec(any::<u8>(), 0..200),
        seconds in 0_i64..4_000_000_000,
    ) {
        prop_assume!(!model.bytes().all(|byte| byte == b'.'));
        let target = format!("/model/{model}/converse");
        let headers = headers(&[("host", BEDROCK), ("content-type", "application/json")]);
        let now = jiff::Timestamp::from_second(seconds).unwrap();
        let added = example(None).sign(
            "POST", &target, &headers, [&body[..]], ("eu-central-1", "bedrock"), now.into(),
        ).unwrap();
        let now = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let expected = signed_by_hand(&target, "application/json", &body, &now);
        prop_assert_eq!(signature(&added).1, expected);
    }
}

#[test]
fn keys_are_not_shown() {
    let keys = example(Some("canary"));
    let shown = format!("{keys:?} {:?}", Token::lasting(Grant::Keys(keys.clone())));
    assert!(!shown.contains("AKID") && !shown.contains("canary"), "{shown}");
}
