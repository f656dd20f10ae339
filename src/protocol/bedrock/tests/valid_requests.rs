//! What any conversation becomes, held to the rules by which Bedrock refuses requests.

use std::collections::HashSet;

use super::*;

fn matches(text: &str, marks: &str, longest: usize) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || marks.contains(c);
    !text.is_empty() && text.len() <= longest && text.chars().all(allowed)
}

/// The one member of a block.
fn only(block: &Value) -> (&str, &Value) {
    let members = block.as_object().unwrap();
    assert_eq!(members.len(), 1, "{block}");
    members.iter().next().map(|(name, value)| (name.as_str(), value)).unwrap()
}

fn ids<'v>(content: &'v [Value], name: &str) -> Vec<&'v str> {
    let blocks = content.iter().filter_map(|block| block.get(name));
    blocks.map(|block| block["toolUseId"].as_str().unwrap()).collect()
}

/// Fails where Bedrock would answer with a `ValidationException`.
fn validate(body: &Value) {
    let messages = body["messages"].as_array().unwrap();
    let (mut names, mut called, mut points) = (HashSet::new(), Vec::new(), 0);
    for (turn, message) in messages.iter().enumerate() {
        assert_eq!(message["role"], if turn % 2 == 0 { "user" } else { "assistant" });
        let content = message["content"].as_array().unwrap();
        assert!(!content.is_empty());
        let kinds: Vec<&str> = content.iter().map(|block| only(block).0).collect();
        for (at, block) in content.iter().enumerate() {
            match only(block) {
                ("text", text) => assert!(!text.as_str().unwrap().trim().is_empty()),
                ("toolUse", call) => {
                    assert!(matches(call["toolUseId"].as_str().unwrap(), "_.:-", 64));
                    assert!(call["input"].is_object());
                    assert!(kinds[at..].iter().all(|kind| *kind == "toolUse"));
                }
                ("toolResult", result) => {
                    assert!(!result["content"].as_array().unwrap().is_empty());
                }
                ("document", document) => {
                    let name = document["name"].as_str().unwrap();
                    assert!(matches(name, " -()[]", 200) && !name.contains("  "));
                    assert!(names.insert(name.to_owned()), "{name}");
                    assert!(kinds.contains(&"text"));
                }
                ("cachePoint", _) => {
                    assert!(at > 0 && kinds[at - 1] != "cachePoint");
                    points += 1;
                }
                ("image" | "reasoningContent", _) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(ids(content, "toolResult"), called);
        let results = kinds.iter().take_while(|kind| matches!(**kind, "toolResult" | "cachePoint"));
        assert!(results.filter(|kind| **kind == "toolResult").count() == called.len());
        called = ids(content, "toolUse");
        let unique: HashSet<_> = called.iter().collect();
        assert_eq!(unique.len(), called.len());
        if !called.is_empty() {
            assert!(!body["toolConfig"]["tools"].as_array().unwrap().is_empty());
        }
    }
    assert_eq!(messages.len() % 2, 1, "the last turn is the user's");
    assert_eq!(called, [] as [&str; 0]);
    assert!(points <= 4);
}

fn block() -> impl Strategy<Value = Block> {
    let signature = |dialect| Signature { dialect, data: "c2ln".to_owned() };
    let paper = |name: String| {
        let media_type = "text/plain".to_owned();
        Block::Document(Document { source: Source::Text("t".into()), media_type, name: Some(name) })
    };
    prop_oneof![
        4 => "[ \na]{0,3}".prop_map(Block::text),
        1 => Just(Block::Image(Image {
            source: Source::Base64("/9j/".to_owned()), media_type: None, detail: None })),
        1 => "[a.é _]{0,4}".prop_map(paper),
        1 => Just(Block::Cache(CacheMark::Long)),
        1 => Just(Block::RedactedThinking(signature(Dialect::Bedrock))),
        1 => Just(Block::RedactedThinking(signature(Dialect::Gemini))),
        1 => Just(Block::Refusal(" ".to_owned())),
    ]
}

/// Turns in any order of roles; calls have their results somewhere behind them.
fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let role = prop_oneof![Just(Role::User), Just(Role::Assistant), Just(Role::System)];
    let turn =
        (role, prop::collection::vec(block(), 0..4), prop::collection::vec("[a!]{0,2}", 0..3));
    prop::collection::vec(turn, 0..8).prop_map(|turns| {
        let mut all = Vec::new();
        for (role, mut blocks, ids) in turns {
            if role == Role::System {
                blocks.retain(|block| matches!(block, Block::Text { .. }));
            }
            let calls = ids.iter().filter(|_| role == Role::Assistant);
            let calls: Vec<_> = calls.map(|id| call(id, "f", "[")).collect();
            let mut results: Vec<_> =
                ids.iter().take(calls.len()).map(|id| result(id, " ")).collect();
            results.reverse();
            blocks.splice(0..0, calls);
            all.push(Turn { role, blocks });
            all.extend(results.into_iter().map(|result| user(vec![result])));
        }
        all.push(user(vec![Block::text("go on")]));
        all
    })
}

proptest! {
    #[test]
    fn whatever_is_asked_bedrock_finds_nothing_to_refuse(turns in turns(), claude in any::<bool>()) {
        let request = Request { turns, ..Request::default() };
        let (body, _) = write(&request, if claude { CLAUDE } else { NOVA }).unwrap();
        validate(&body);
    }
}
