use super::*;
use crate::protocol::canonical::{CacheMark, ToolKind, ToolUse};

const STRICT: Arrange = Arrange {
    merge: Merge::Everything,
    system: SystemInside::Marked,
    user_first: true,
    no_prefill: true,
    no_blank_text: true,
    calls_last: true,
    ids: IdLimits { punctuation: Some("_-"), longest: 20 },
};

fn turn(role: Role, blocks: &[Block]) -> Turn {
    Turn { role, blocks: blocks.to_vec() }
}

fn user(blocks: &[Block]) -> Turn {
    turn(Role::User, blocks)
}

fn assistant(blocks: &[Block]) -> Turn {
    turn(Role::Assistant, blocks)
}

fn call(id: &str) -> Block {
    Block::ToolUse(ToolUse {
        id: id.to_owned(),
        name: "f".to_owned(),
        namespace: None,
        kind: ToolKind::Function,
        arguments: "{}".to_owned(),
        signature: None,
    })
}

fn result(id: &str, text: &str) -> Block {
    let blocks = vec![Block::text(text)];
    Block::ToolResult(ToolResult { id: id.to_owned(), name: None, blocks, is_error: false })
}

/// A conversation in short: `u:` roles, `c1` calls, `=c1` results, texts as they are.
fn short(turns: &[Turn]) -> String {
    let block = |block: &Block| match block {
        Block::Text { text, .. } => text.clone(),
        Block::ToolUse(call) => call.id.clone(),
        Block::ToolResult(result) => format!("={}", result.id),
        Block::Cache(_) => "|".to_owned(),
        other => format!("{other:?}"),
    };
    let turn = |turn: &Turn| {
        let role = match turn.role {
            Role::User => "u",
            Role::Assistant => "a",
            Role::System => "s",
        };
        let blocks: Vec<_> = turn.blocks.iter().map(block).collect();
        format!("{role}:{}", blocks.join(","))
    };
    turns.iter().map(turn).collect::<Vec<_>>().join(" ")
}

fn arranged(turns: &[Turn], rules: Arrange) -> String {
    arrange(turns, rules).map_or_else(|error| error.to_string(), |turns| short(&turns))
}

#[test]
fn results_are_sorted_by_the_calls_and_come_before_the_users_words() {
    let turns = [
        user(&[Block::text("hi")]),
        assistant(&[Block::text("ok"), call("c1"), call("c2")]),
        user(&[Block::text("go on"), result("c2", "2")]),
        user(&[result("c1", "1")]),
    ];
    assert_eq!(arranged(&turns, STRICT), "u:hi a:ok,c1,c2 u:=c1,=c2,go on");
    assert_eq!(arranged(&turns, Arrange::default()), "u:hi a:ok,c1,c2 u:=c1,=c2 u:go on");
}

#[test]
fn a_result_is_given_the_name_of_its_call() {
    let turns = [assistant(&[call("c1")]), user(&[result("c1", "1")])];
    let turns = arrange(&turns, Arrange::default()).unwrap();
    assert!(
        matches!(&turns[1].blocks[0], Block::ToolResult(it) if it.name.as_deref() == Some("f"))
    );
}

#[test]
fn neighbours_merge_as_asked() {
    let turns = [
        user(&[Block::text("a")]),
        user(&[Block::text("b")]),
        assistant(&[Block::text("c")]),
        assistant(&[call("c1")]),
        assistant(&[call("c2")]),
        user(&[result("c1", "")]),
        user(&[result("c2", "")]),
        user(&[Block::text("d")]),
    ];
    let only_assistant = Arrange { merge: Merge::Assistant, ..Arrange::default() };
    assert_eq!(arranged(&turns, STRICT), "u:a,b a:c,c1,c2 u:=c1,=c2,d");
    assert_eq!(arranged(&turns, only_assistant), "u:a u:b a:c,c1,c2 u:=c1,=c2 u:d");
    assert_eq!(arranged(&turns, Arrange::default()), "u:a u:b a:c a:c1 u:=c1 a:c2 u:=c2 u:d");
}

#[test]
fn calls_that_results_part_stay_apart() {
    let turns = [
        user(&[Block::text("hi")]),
        assistant(&[call("c1")]),
        user(&[result("c1", "")]),
        assistant(&[call("c2")]),
        user(&[result("c2", "")]),
    ];
    assert_eq!(arranged(&turns, STRICT), "u:hi a:c1 u:=c1 a:c2 u:=c2");
}

#[test]
fn a_call_without_a_result_and_a_result_without_a_call_are_refused() {
    let none = [user(&[Block::text("hi")]), assistant(&[call("c1")])];
    assert_eq!(arranged(&none, STRICT), "call \"c1\" has no result behind it");
    let before = [user(&[result("c1", "")]), assistant(&[call("c1")])];
    assert_eq!(arranged(&before, STRICT), "call \"c1\" has no result behind it");
    let orphan = [user(&[Block::text("hi"), result("c1", "")])];
    assert_eq!(arranged(&orphan, STRICT), "the result of call \"c1\" belongs to no call before it");
    let twice = [assistant(&[call("c1")]), user(&[result("c1", ""), result("c1", "")])];
    assert_eq!(arranged(&twice, STRICT), "the result of call \"c1\" belongs to no call before it");
}

#[test]
fn an_id_used_again_is_told_apart_in_call_and_result() {
    let turns = [
        user(&[Block::text("hi")]),
        assistant(&[call("c1")]),
        user(&[result("c1", "first")]),
        assistant(&[call("c1")]),
        user(&[result("c1", "second")]),
    ];
    let turns = arrange(&turns, STRICT).unwrap();
    let Block::ToolUse(again) = &turns[3].blocks[0] else { panic!() };
    let Block::ToolResult(answer) = &turns[4].blocks[0] else { panic!() };
    assert_ne!(again.id, "c1");
    assert_eq!((&answer.id, &answer.blocks), (&again.id, &vec![Block::text("second")]));
}

#[test]
fn ids_are_cut_and_cleaned_the_same_way_each_time() {
    let limits = STRICT.ids;
    assert_eq!(limits.fit("call_1-a"), "call_1-a");
    let fit = limits.fit("call:1/ä");
    assert!(fit.starts_with("call_1___") && fit.len() == "call_1___".len() + 8, "{fit}");
    assert_eq!(fit, limits.fit("call:1/ä"));
    assert_ne!(fit, limits.fit("call:1/b"));
    assert_eq!(limits.fit(&"x".repeat(21)).len(), 20);
    assert_eq!(limits.fit("").len(), 9);
    assert_eq!(IdLimits::default().fit("any:ä"), "any:ä");
}

#[test]
fn instructions_inside_are_kept_or_marked() {
    let turns = [
        user(&[Block::text("a")]),
        turn(Role::System, &[Block::text("s")]),
        assistant(&[Block::text("b")]),
        turn(Role::System, &[Block::text("t")]),
        user(&[Block::text("c")]),
    ];
    let after_user = Arrange { system: SystemInside::KeptAfterUser, ..STRICT };
    let marked = "u:a,<system>\ns\n</system> a:b u:<system>\nt\n</system>,c";
    assert_eq!(arranged(&turns, Arrange::default()), "u:a s:s a:b s:t u:c");
    assert_eq!(arranged(&turns, after_user), "u:a s:s a:b u:<system>\nt\n</system>,c");
    assert_eq!(arranged(&turns, STRICT), marked);
}

#[test]
fn the_ends_are_what_the_provider_takes() {
    let begun = [assistant(&[Block::text("a")]), user(&[Block::text("b")])];
    assert_eq!(arranged(&begun, STRICT), "u:. a:a u:b");
    let prefilled = [user(&[Block::text("a")]), assistant(&[Block::text("b")])];
    assert!(matches!(arrange(&prefilled, STRICT), Err(Invalid::Unsupported { .. })));
    assert_eq!(arranged(&prefilled, Arrange { no_prefill: false, ..STRICT }), "u:a a:b");
    assert_eq!(arranged(&[], STRICT), "there must be at least one message of the user's");
    assert_eq!(arranged(&[], Arrange::default()), "");
}

#[test]
fn blank_text_is_left_out_and_takes_its_cache_mark_along() {
    let turns = [user(&[Block::text(" \n"), Block::Cache(CacheMark::Short), Block::text("a")])];
    assert_eq!(arranged(&turns, STRICT), "u:a");
    assert_eq!(arranged(&turns, Arrange::default()), "u: \n,|,a");
}

#[test]
fn a_results_cache_mark_moves_with_it() {
    let turns = [
        user(&[Block::text("a")]),
        assistant(&[call("c1"), Block::text("b"), call("c2")]),
        user(&[result("c2", ""), result("c1", ""), Block::Cache(CacheMark::Long)]),
        user(&[Block::text("c"), Block::Cache(CacheMark::Short)]),
    ];
    assert_eq!(arranged(&turns, STRICT), "u:a a:b,c1,c2 u:=c1,|,=c2,c,|");
}
