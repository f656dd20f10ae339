//! Other providers' seals, cut out of a body that goes to a provider of the caller's own dialect.
//!
//! What signs the reasoning of a model elsewhere is given to callers marked, and comes back with their
//! next call. To its own provider it goes through the form in the middle; any other would refuse it.

use bytes::Bytes;
use memchr::memmem;
use serde_json::value::RawValue;

use crate::config::{Dialect, Kind};
use crate::protocol::canonical::{MARK, MARK_IN_BASE64};
use crate::protocol::json::{Members, Object, Splice};
use crate::protocol::openai_chat::dialect_of;

/// Where chats have signed reasoning.
const DETAILS: &str = "reasoning_details";

/// The body without what is sealed for others; `None` when nothing is. Every other byte stays.
///
/// `kind`: whose server gets it. Of chat servers `OpenAI`'s own and Azure's know no sealed reasoning; others
/// may, and leave aside what is not theirs.
pub fn unseal(dialect: Dialect, kind: Kind, body: &Bytes, members: &Members) -> Option<Bytes> {
    if dialect == Dialect::OpenaiChat {
        let strict = matches!(kind, Kind::Openai | Kind::Azure);
        return if strict { without_details(body, members) } else { None };
    }
    let (turns, blocks, marks): (_, _, &[&str]) = match dialect {
        Dialect::Anthropic => ("messages", "content", &[MARK]),
        Dialect::Bedrock => ("messages", "content", &[MARK, MARK_IN_BASE64]),
        Dialect::Gemini => ("contents", "parts", &[MARK_IN_BASE64]),
        Dialect::OpenaiChat | Dialect::OpenaiResponses => return None,
    };
    // Most bodies have none, and are not read a second time.
    if !marks.iter().any(|mark| memmem::find(body, mark.as_bytes()).is_some()) {
        return None;
    }
    let whole = std::str::from_utf8(body).ok()?;
    let list = std::str::from_utf8(members.raw(body, turns)?).ok()?;
    let list: Vec<&RawValue> = serde_json::from_str(list).ok()?;
    let mut splice = Splice::default();
    for turn in list {
        let Ok(mut turn) = Object::parse(turn.get(), turns) else { continue };
        let Some(content) = turn.take(blocks) else { continue };
        let Ok(content_blocks) = serde_json::from_str::<Vec<&RawValue>>(content.get()) else {
            continue;
        };
        if let Some(kept) = without_seals(dialect, &content_blocks) {
            let start = content.get().as_ptr() as usize - whole.as_ptr() as usize;
            splice.replace(start..start + content.get().len(), kept);
        }
    }
    (!splice.is_empty()).then(|| splice.apply(body))
}

/// A chat without the `reasoning_details` that other providers have sealed.
fn without_details(body: &Bytes, members: &Members) -> Option<Bytes> {
    memmem::find(body, DETAILS.as_bytes())?;
    let whole = std::str::from_utf8(body).ok()?;
    let list = std::str::from_utf8(members.raw(body, "messages")?).ok()?;
    let mut splice = Splice::default();
    for message in serde_json::from_str::<Vec<&RawValue>>(list).ok()? {
        let Ok(mut object) = Object::parse(message.get(), "messages") else { continue };
        let Ok(Some(details)) = object.array(DETAILS) else { continue };
        let kept: Vec<&str> =
            details.iter().filter(|it| !is_foreign(it)).map(|it| it.get()).collect();
        if kept.len() == details.len() {
            continue;
        }
        let mut rest = object.text().unwrap_or_else(|| "{}".to_owned());
        if !kept.is_empty() {
            rest.pop();
            let comma = if rest.len() > 1 { "," } else { "" };
            rest.extend([comma, "\"", DETAILS, "\":[", &kept.join(","), "]}"]);
        }
        let start = message.get().as_ptr() as usize - whole.as_ptr() as usize;
        splice.replace(start..start + message.get().len(), rest);
    }
    (!splice.is_empty()).then(|| splice.apply(body))
}

/// Whether a detail has the format of another dialect's signatures.
fn is_foreign(detail: &RawValue) -> bool {
    let format =
        Object::parse(detail.get(), DETAILS).ok().and_then(|mut it| it.string("format").ok());
    dialect_of(format.flatten().as_deref()) != Dialect::OpenaiChat
}

/// The blocks of a turn without those that are sealed; `None` when none is.
fn without_seals(dialect: Dialect, blocks: &[&RawValue]) -> Option<String> {
    let mut kept = Vec::with_capacity(blocks.len());
    let mut cut = false;
    for block in blocks {
        match judge(dialect, block.get()) {
            Seal::None => kept.push(block.get().to_owned()),
            Seal::Whole => cut = true,
            Seal::Member(rest) => {
                cut = true;
                kept.push(rest);
            }
        }
    }
    if kept.is_empty() {
        // A turn must have something.
        kept.push(match dialect {
            Dialect::Anthropic => r#"{"type":"text","text":"."}"#.to_owned(),
            _ => r#"{"text":"."}"#.to_owned(),
        });
    }
    cut.then(|| format!("[{}]", kept.join(",")))
}

enum Seal {
    None,
    /// The block is nothing without it.
    Whole,
    /// The block without it.
    Member(String),
}

fn judge(dialect: Dialect, block: &str) -> Seal {
    let Ok(mut object) = Object::parse(block, "block") else { return Seal::None };
    let is_ours = |value: Option<&RawValue>| {
        let text = value.and_then(|value| value.get().strip_prefix('"'));
        text.is_some_and(|it| it.starts_with(MARK) || it.starts_with(MARK_IN_BASE64))
    };
    match dialect {
        Dialect::Anthropic => {
            let kind = object.string("type").ok().flatten().unwrap_or_default();
            let sealed = match kind.as_str() {
                "thinking" => is_ours(object.take("signature")),
                "redacted_thinking" => is_ours(object.take("data")),
                _ => false,
            };
            if sealed { Seal::Whole } else { Seal::None }
        }
        Dialect::Bedrock => {
            let Ok(Some(mut reasoning)) = object.object("reasoningContent") else {
                return Seal::None;
            };
            let text = reasoning.object("reasoningText").ok().flatten();
            let signature = text.and_then(|mut text| text.take("signature"));
            let sealed = is_ours(signature) || is_ours(reasoning.take("redactedContent"));
            if sealed { Seal::Whole } else { Seal::None }
        }
        _ => {
            let names = ["thoughtSignature", "thought_signature"];
            if !names.iter().any(|name| is_ours(object.take(name))) {
                return Seal::None;
            }
            if object.boolean("thought").ok().flatten() == Some(true) {
                return Seal::Whole;
            }
            match object.text() {
                Some(rest) => Seal::Member(rest),
                None => Seal::Whole,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::scan;

    fn unsealed(dialect: Dialect, body: &'static str) -> Option<String> {
        let body = Bytes::from_static(body.as_bytes());
        let members = scan(&body).unwrap();
        unseal(dialect, Kind::Openai, &body, &members)
            .map(|body| String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn only_sealed_thoughts_are_cut_out() {
        let body = r#"{"n":12345678901234567890123,"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":"forebay.gemini..s"}, {"type":"tool_use","id":"a","name":"f","input":{"n":1.50}}]}], "context_management":{}}"#;
        let cut = r#"{"n":12345678901234567890123,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{"n":1.50}}]}], "context_management":{}}"#;
        assert_eq!(unsealed(Dialect::Anthropic, body).as_deref(), Some(cut));
    }

    #[test]
    fn a_text_that_only_begins_like_a_seal_stays() {
        let body = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"forebay is a gateway"}]}]}"#;
        assert_eq!(unsealed(Dialect::Anthropic, body), None);
    }

    #[test]
    fn a_signed_call_of_geminis_keeps_everything_but_the_seal() {
        let body = r#"{"contents":[{"role":"model","parts":[{"functionCall":{"name":"f"},"thoughtSignature":"Zm9yZWJheS5h"}]}]}"#;
        let cut = r#"{"contents":[{"role":"model","parts":[{"functionCall":{"name":"f"}}]}]}"#;
        assert_eq!(unsealed(Dialect::Gemini, body).as_deref(), Some(cut));
    }

    #[test]
    fn a_chat_keeps_its_own_details_and_loses_those_of_others() {
        let message = |details: &str| {
            format!(
                r#"{{"messages":[{{"role":"user","content":1.50}}, {{"role":"assistant","content":"a"{details}}}]}}"#
            )
        };
        let foreign = r#"{"type":"reasoning.text","format":"anthropic-claude-v1","signature":"x"}"#;
        let own = r#"{"type":"reasoning.text","text":"y"}"#;
        let unsealed = |body: String| {
            let body = Bytes::from(body);
            let members = scan(&body).unwrap();
            let cut = unseal(Dialect::OpenaiChat, Kind::Azure, &body, &members);
            let kept = unseal(Dialect::OpenaiChat, Kind::OpenaiCompatible, &body, &members);
            assert_eq!(kept, None, "other servers may know them");
            cut.map(|body| String::from_utf8(body.to_vec()).unwrap())
        };
        let all = format!(r#","reasoning_details":[{foreign}]"#);
        assert_eq!(unsealed(message(&all)), Some(message("")));
        let some = format!(r#","reasoning_details":[{foreign},{own}]"#);
        let rest = format!(r#","reasoning_details":[{own}]"#);
        assert_eq!(unsealed(message(&some)), Some(message(&rest)));
        assert_eq!(unsealed(message(&rest)), None);
    }

    #[test]
    fn a_turn_of_nothing_but_seals_keeps_a_word() {
        let body = r#"{"messages":[{"role":"assistant","content":[{"reasoningContent":{"redactedContent":"Zm9yZWJheS5n"}}]}]}"#;
        let cut = r#"{"messages":[{"role":"assistant","content":[{"text":"."}]}]}"#;
        assert_eq!(unsealed(Dialect::Bedrock, body).as_deref(), Some(cut));
    }
}
