//! How many tokens a prompt has: what providers are asked, and an estimate where nobody can be.

use super::{Block, Document, Format, Request, Source, Unreadable, estimated_tokens};
use crate::protocol::json::Object;
use crate::protocol::json::text::quote;

/// What an image takes at most in its usual size, in tokens.
const IMAGE: u64 = 1500;

/// What a message takes beside its text, in tokens.
const MESSAGE: u64 = 4;

/// Bytes of a document in base64 that make a token: a page of a PDF has some 25,000 and takes 2,000.
const DOCUMENT_BYTES: u64 = 12;

/// Bytes of audio or video in base64 that make a token.
const MEDIA_BYTES: u64 = 256;

/// What of a request makes up its prompt: nothing about the answer, or about the call.
pub fn prompt(request: &Request) -> Request {
    Request {
        model: request.model.clone(),
        system: request.system.clone(),
        turns: request.turns.clone(),
        tools: request.tools.clone(),
        tool_choice: request.tool_choice.clone(),
        parallel_tools: request.parallel_tools,
        format: request.format.clone(),
        reasoning: request.reasoning,
        ..Request::default()
    }
}

/// The number of tokens that an answer has in this member.
pub fn counted(body: &[u8], member: &str) -> Result<u64, Unreadable> {
    let text = std::str::from_utf8(body).map_err(|error| Unreadable(error.to_string()))?;
    let tokens = Object::parse(text, "body").and_then(|mut answer| answer.unsigned(member));
    let tokens = tokens.map_err(|error| Unreadable(error.to_string()))?;
    tokens.ok_or_else(|| Unreadable(format!("no `{member}`")))
}

/// Of a written body the members of these names, as they stand between an object's braces.
pub fn members_of(body: &[u8], names: &[&str]) -> String {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let mut object = Object::parse(text, "body").unwrap_or_default();
    let member =
        |name: &&str| object.take(name).map(|value| format!("{}:{}", quote(name), value.get()));
    names.iter().filter_map(member).collect::<Vec<_>>().join(",")
}

/// Estimates the tokens of a prompt, rather too many than too few: clients go by it to shorten a
/// conversation in time.
pub fn estimate(request: &Request) -> u64 {
    let mut tally = Tally::default();
    request.system.iter().for_each(|block| tally.block(block));
    for turn in &request.turns {
        tally.tokens += MESSAGE;
        turn.blocks.iter().for_each(|block| tally.block(block));
    }
    for tool in &request.tools {
        tally.tokens += MESSAGE;
        tally.text(&tool.name);
        tally.text(tool.description.as_deref().unwrap_or_default());
        for json in [&tool.schema, &tool.grammar].into_iter().flatten() {
            tally.text(json.get());
        }
    }
    if let Format::JsonSchema(schema) = &request.format {
        tally.text(schema.schema.get());
    }
    let tokens = tally.tokens.saturating_add(estimated_tokens(tally.ascii, tally.others));
    tokens.saturating_add(tokens.div_ceil(10))
}

#[derive(Debug, Default)]
struct Tally {
    ascii: u64,
    others: u64,
    tokens: u64,
}

impl Tally {
    fn text(&mut self, text: &str) {
        let ascii = text.bytes().filter(u8::is_ascii).count();
        self.ascii += ascii as u64;
        self.others += text.chars().count().saturating_sub(ascii) as u64;
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Text { text, .. } | Block::Thinking { text, .. } | Block::Refusal(text) => {
                self.text(text);
            }
            Block::Image(_) => self.tokens += IMAGE,
            Block::Audio(media) | Block::Video(media) => self.source(&media.source, MEDIA_BYTES),
            Block::Document(Document { source, .. }) => self.source(source, DOCUMENT_BYTES),
            Block::RedactedThinking(signature) => self.text(&signature.data),
            Block::ToolUse(call) => {
                self.tokens += MESSAGE;
                self.text(&call.name);
                self.text(&call.arguments);
            }
            Block::ToolResult(result) => {
                self.tokens += MESSAGE;
                result.blocks.iter().for_each(|block| self.block(block));
            }
            Block::Cache(_) => {}
        }
    }

    fn source(&mut self, source: &Source, bytes_per_token: u64) {
        match source {
            Source::Text(text) => self.text(text),
            Source::Base64(data) => self.tokens += IMAGE + data.len() as u64 / bytes_per_token,
            Source::Url(_) | Source::File(_) => self.tokens += IMAGE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::canonical::{Image, Role, ToolResult, Turn};

    fn user(blocks: Vec<Block>) -> Request {
        Request { turns: vec![Turn { role: Role::User, blocks }], ..Request::default() }
    }

    #[test]
    fn four_letters_of_latin_are_a_token_and_a_chinese_one_is() {
        assert_eq!(estimate(&user(vec![Block::text("x".repeat(4000))])), 1105);
        assert_eq!(estimate(&user(vec![Block::text("字".repeat(1000))])), 1105);
        assert_eq!(estimate(&Request::default()), 0);
    }

    #[test]
    fn a_bodys_members_stay_as_they_are_written() {
        let body = br#"{"a": [1e400] ,"b":null,"c":"x\u00e9","d":{}}"#;
        assert_eq!(members_of(body, &["c", "b", "a"]), r#""c":"x\u00e9","a":[1e400]"#);
        assert_eq!(members_of(b"[]", &["a"]), "");
    }

    #[test]
    fn an_image_counts_the_same_whatever_its_bytes_and_wherever_it_stands() {
        let image = |size: usize| {
            let source = Source::Base64("A".repeat(size));
            Block::Image(Image { source, media_type: None, detail: None })
        };
        let small = estimate(&user(vec![image(10)]));
        assert_eq!(small, estimate(&user(vec![image(1_000_000)])));
        let result =
            ToolResult { id: "c".to_owned(), name: None, blocks: vec![image(10)], is_error: false };
        assert!(estimate(&user(vec![Block::ToolResult(result)])) >= small);
    }
}
