use super::*;
use proptest::prelude::*;

fn object(inner: &str) -> Result<Members, ScanError> {
    scan(format!("{{\"x\":{inner}}}").as_bytes())
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

#[test]
fn members_are_found_by_their_unescaped_name() {
    let body = br#" { "mod\u0065l" : "a\u0062" , "n":{"model":1} } "#;
    let members = scan(body).unwrap();
    assert_eq!(members.string(body, "model").unwrap().unwrap(), "ab");
    let member = members.find("model").unwrap();
    assert_eq!(&body[member.key.clone()], br#""mod\u0065l""#);
    assert_eq!(members.raw(body, "n").unwrap(), br#"{"model":1}"#);
    assert_eq!(body[members.end()], b'}');
    assert_eq!(members.end(), body.len() - 2);
}

#[test]
fn a_member_of_another_type_is_named() {
    let body = br#"{"s":"x","t":true,"n":7,"z":null,"f":1.0,"m":-1}"#;
    let members = scan(body).unwrap();
    assert_eq!(members.unsigned(body, "n"), Ok(Some(7)));
    assert_eq!(members.boolean(body, "t"), Ok(Some(true)));
    assert_eq!(members.boolean(body, "z"), Ok(None));
    assert_eq!(members.string(body, "absent"), Ok(None));
    let error = members.string(body, "n").unwrap_err();
    assert_eq!(error.to_string(), "`n` must be a string");
    assert!(members.boolean(body, "s").is_err());
    assert!(members.unsigned(body, "f").is_err());
    assert!(members.unsigned(body, "m").is_err());
}

#[test]
fn a_name_given_twice_is_refused_however_it_is_spelled() {
    let twice = scan(br#"{"model":"cheap","mod\u0065l":"dear"}"#);
    assert_eq!(twice, Err(ScanError::Duplicate("model".into())));
    assert!(scan(br#"{"a":{"model":1,"model":2}}"#).is_ok());
}

#[test]
fn depth_is_bounded_at_128() {
    assert!(object(&nested(127)).is_ok());
    assert_eq!(object(&nested(128)), Err(ScanError::TooDeep));
    assert_eq!(object(&nested(100_000)), Err(ScanError::TooDeep));
    assert_eq!(object(&"{\"a\":".repeat(100_000)), Err(ScanError::TooDeep));
}

#[test]
fn a_number_is_bounded_in_length_and_size() {
    let digits = |count: usize| format!("0.{}", "1".repeat(count - 2));
    assert!(object(&digits(1024)).is_ok());
    assert_eq!(object(&digits(1025)), Err(ScanError::NumberTooLong));
    assert!(object("123456789012345678901234567890").is_ok());
    assert!(object("1e308").is_ok());
    for vast in ["1e400".to_owned(), "-1e400".into(), "9".repeat(310)] {
        assert!(matches!(object(&vast), Err(ScanError::Syntax { .. })), "{vast}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused_anywhere() {
    assert_eq!(scan(b"{\"a\":\"\xff\"}"), Err(ScanError::NotUtf8 { offset: 6 }));
    assert_eq!(scan(b"\xef\xbb\xbf{}"), Err(ScanError::NotUtf8 { offset: 0 }));
    assert_eq!(scan(b"{\0\"\0}\0"), syntax(1, 2, "a string as the name of a member"));
}

#[test]
fn other_json_than_an_object_is_named_as_such() {
    for body in ["[]", "1", "\"x\"", " null "] {
        assert_eq!(scan(body.as_bytes()), Err(ScanError::NotAnObject), "{body}");
    }
}

#[test]
fn a_fault_has_its_line_and_column() {
    let body = "{\n  \"é\": tru }";
    assert_eq!(scan(body.as_bytes()), syntax(2, 8, "true"));
    assert_eq!(
        scan(body.as_bytes()).unwrap_err().to_string(),
        "not valid JSON: expected true at line 2, column 8"
    );
}

#[test]
fn what_is_not_json_is_refused() {
    let broken = [
        "",
        " ",
        "{",
        "{}x",
        "{}{}",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{'a':1}",
        "{a:1}",
        "[1,]",
        "\"",
        "nul",
        "{\"a\":NaN}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":+1}",
        "{\"a\":-}",
        "{\"a\":1e}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\udc00\"}",
        "{\"a\":\"\\ud800\\u0041\"}",
        "{\"a\":[1}",
        "{\"a\":{]}",
        "{\"a\":[1 2]}",
        "{\"a\":{\"b\" 1}}",
        "{\"a\":[,1]}",
        "{\"a\":1 /* */}",
    ];
    for body in broken {
        assert!(matches!(scan(body.as_bytes()), Err(ScanError::Syntax { .. })), "{body}");
        assert!(serde_json::from_str::<serde_json::Value>(body).is_err(), "{body}");
    }
}

#[test]
fn a_bare_control_character_is_refused_wherever_it_stands() {
    for control in (0..0x20_u8).map(char::from) {
        for place in 0..20 {
            let string = format!("\"{}{control}{}\"", "x".repeat(place), "y".repeat(20 - place));
            assert!(object(&string).is_err(), "{string:?}");
        }
    }
    assert!(object("\" !\u{7f}\u{80}\"").is_ok());
}

#[test]
fn too_many_members_are_refused() {
    let body = |count: usize| {
        let members: Vec<_> = (0..count).map(|n| format!("\"{n}\":0")).collect();
        format!("{{{}}}", members.join(","))
    };
    assert!(scan(body(256).as_bytes()).is_ok());
    assert_eq!(scan(body(257).as_bytes()), Err(ScanError::TooManyMembers));
}

fn syntax(line: usize, column: usize, expected: &'static str) -> Result<Members, ScanError> {
    Err(ScanError::Syntax { line, column, expected })
}

/// Bytes that are nearly JSON: tokens in any order, and now and then a sound document.
fn nearly_json() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"\\u0061\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "1",
        "-0",
        "1.5e3",
        "1e999",
        "true",
        "false",
        "null",
        " ",
        "\n",
        "\"é\"",
        "\"\t\"",
        "0",
        ".",
    ]);
    prop_oneof![
        prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat()),
        value().prop_map(|value| value.to_string()),
        (value(), any::<prop::sample::Index>(), any::<char>()).prop_map(|(value, at, wrong)| {
            let mut chars: Vec<char> = value.to_string().chars().collect();
            let at = at.index(chars.len());
            chars[at] = wrong;
            chars.into_iter().collect()
        }),
    ]
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-c\\n\"é]{0,3}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn it_agrees_with_serde_on_what_is_json(text in nearly_json()) {
        let body = format!("{{\"x\":{text}}}");
        let scanned = scan(body.as_bytes());
        prop_assume!(!matches!(scanned, Err(ScanError::Duplicate(_))));
        let read = serde_json::from_str::<serde_json::Value>(&body);
        prop_assert_eq!(scanned.is_ok(), read.is_ok(), "{}", body);
    }

    #[test]
    fn members_are_those_that_serde_sees(
        map in prop::collection::btree_map("[a-d\\n\"\\\\é]{0,3}", value(), 0..8),
    ) {
        let body = serde_json::to_string_pretty(&map).unwrap();
        let members = scan(body.as_bytes()).unwrap();
        prop_assert_eq!(members.is_empty(), map.is_empty());
        let whole: serde_json::Value = serde_json::from_str(&body).unwrap();
        for name in map.keys() {
            let raw = members.raw(body.as_bytes(), name).unwrap();
            let read: serde_json::Value = serde_json::from_slice(raw).unwrap();
            prop_assert_eq!(&read, &whole[name]);
        }
    }

    #[test]
    fn a_long_string_ends_where_it_ends(plain in "[ -!#-\\[\\]-~é]{0,40}", tail in "[\"\\\\\n]") {
        let body = format!("{{\"x\":\"{plain}{tail}");
        prop_assert!(scan(body.as_bytes()).is_err());
        let body = format!("{{\"x\":\"{plain}\"}}");
        let members = scan(body.as_bytes()).unwrap();
        let read = members.string(body.as_bytes(), "x").unwrap();
        prop_assert_eq!(read.as_deref(), Some(plain.as_str()));
    }
}
