//! Writes a conversation.

use serde::Serialize;

use super::told::{ToldCall, ToldDetail};
use super::write_parts::{Part, write_part};
use super::write_request::is_official;
use super::write_response::call;
use crate::config::Dialect;
use crate::protocol::canonical::{
    Arrange, Block, Fate, Field, IdLimits, Invalid, Losses, Merge, ReasoningField, Request, Role,
    Rules, SystemInside, ToolKind, ToolResult, Turn, arrange, object_or_wrapped,
};

/// The most characters of a call's id that `OpenAI` has taken at all times.
const IDS: IdLimits = IdLimits { punctuation: None, longest: 40 };

#[derive(Default, Serialize)]
pub(super) struct ToldMessage<'a> {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
    content: Content<'a>,
    #[serde(skip_serializing_if = "String::is_empty")]
    refusal: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning_content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasoning_details: Vec<ToldDetail<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToldCall<'a>>,
}

#[derive(Default, Serialize)]
#[serde(untagged)]
enum Content<'a> {
    #[default]
    Null,
    Text(String),
    Parts(Vec<Part<'a>>),
}

/// The conversation in the order and with the ids that servers take. Neighbours of one role are one
/// message: many models' templates demand that roles alternate.
pub(super) fn arranged(request: &Request, rules: &Rules) -> Result<Vec<Turn>, Invalid> {
    let system = if rules.system_inside { SystemInside::Kept } else { SystemInside::Marked };
    let arrangement = Arrange {
        merge: Merge::Everything,
        system,
        no_prefill: !rules.prefill,
        ids: IDS,
        ..Arrange::default()
    };
    let mut turns = arrange(&request.turns, arrangement)?;
    for block in turns.iter_mut().flat_map(|turn| &mut turn.blocks) {
        // vLLM parses them.
        if let Block::ToolUse(call) = block
            && call.kind == ToolKind::Function
        {
            let arguments = object_or_wrapped(&call.arguments);
            call.arguments = String::from(Box::<str>::from(arguments));
        }
    }
    Ok(turns)
}

/// The messages: the instructions first, then `turns` as [`arranged`] gives them.
pub(super) fn write_messages<'a>(
    request: &Request,
    turns: &'a [Turn],
    rules: &Rules,
    losses: &mut Losses,
) -> Result<Vec<ToldMessage<'a>>, Invalid> {
    let mut writer = Writer { messages: Vec::with_capacity(turns.len() + 1), rules, losses };
    writer.system(&request.system);
    for turn in turns {
        match turn.role {
            Role::System => writer.system(&turn.blocks),
            Role::User => writer.user(&turn.blocks)?,
            Role::Assistant => writer.assistant(&turn.blocks)?,
        }
    }
    Ok(writer.messages)
}

struct Writer<'a, 'r, 'l> {
    messages: Vec<ToldMessage<'a>>,
    rules: &'r Rules,
    losses: &'l mut Losses,
}

impl<'a> Writer<'a, '_, '_> {
    /// One message: some templates take no second one, and no parts in it.
    fn system(&mut self, blocks: &[Block]) {
        let text = joined(blocks, "\n\n");
        if !text.is_empty() {
            let role = if self.rules.developer_role { "developer" } else { "system" };
            let content = Content::Text(text);
            self.messages.push(ToldMessage { role, content, ..ToldMessage::default() });
        }
    }

    /// Results are messages of their own, and what else a turn has follows them.
    fn user(&mut self, blocks: &'a [Block]) -> Result<(), Invalid> {
        let mut parts = Vec::with_capacity(blocks.len());
        for block in blocks {
            match block {
                Block::ToolResult(result) => self.result(result, &mut parts)?,
                block => parts.extend(write_part(block, self.rules, self.losses)?),
            }
        }
        if parts.is_empty() {
            return Ok(());
        }
        let content = self.content(parts);
        self.messages.push(ToldMessage { role: "user", content, ..ToldMessage::default() });
        Ok(())
    }

    /// A result's words; what it has beside words goes to `parts`, for no tool's message has such.
    fn result(&mut self, result: &'a ToolResult, parts: &mut Vec<Part<'a>>) -> Result<(), Invalid> {
        let mut text = joined(&result.blocks, "\n");
        if result.is_error {
            text.insert_str(0, "Error: ");
        }
        self.messages.push(ToldMessage {
            role: "tool",
            tool_call_id: Some(&result.id),
            content: Content::Text(text),
            ..ToldMessage::default()
        });
        let beside = result.blocks.iter().filter(|block| !matches!(block, Block::Text { .. }));
        let mut is_first = true;
        for block in beside {
            let Some(part) = write_part(block, self.rules, self.losses)? else { continue };
            if std::mem::take(&mut is_first) {
                parts.push(Part::text(format!("The result of call {} has also:", result.id)));
            }
            parts.push(part);
        }
        Ok(())
    }

    /// Servers other than `OpenAI`'s may know no parts: words alone are one string for them.
    fn content(&self, parts: Vec<Part<'a>>) -> Content<'a> {
        let words: Option<Vec<&str>> = parts.iter().map(Part::as_text).collect();
        match words.as_deref() {
            Some([text]) => Content::Text((*text).to_owned()),
            Some(words) if !is_official(self.rules) => Content::Text(words.join("\n\n")),
            _ => Content::Parts(parts),
        }
    }

    fn assistant(&mut self, blocks: &'a [Block]) -> Result<(), Invalid> {
        let mut message = ToldMessage { role: "assistant", ..ToldMessage::default() };
        let (mut text, mut reasoning) = (String::new(), Vec::new());
        for block in blocks {
            match block {
                Block::Text { text: more, .. } => append(&mut text, more),
                Block::Refusal(refusal) if is_official(self.rules) => {
                    append(&mut message.refusal, refusal);
                }
                Block::Refusal(refusal) => append(&mut text, refusal),
                Block::ToolUse(it) => {
                    // A foreign signature stays here.
                    message.tool_calls.push(ToldCall { extra_content: None, ..call(it) });
                }
                Block::Thinking { .. } | Block::RedactedThinking(_) => {
                    reasoning.extend(self.thinking(block, &mut message.reasoning_details)?);
                }
                Block::Image(_) => {
                    let why = "an answer's images cannot be sent back";
                    self.losses.lose(Field::ImageData, Fate::Refused(why))?;
                }
                Block::Document(_) => {
                    let part = write_part(block, self.rules, self.losses)?;
                    append(&mut text, part.as_ref().and_then(Part::as_text).unwrap_or_default());
                }
                Block::Audio(_) => {
                    let why = "an answer's audio cannot be sent back";
                    self.losses.lose(Field::Audio, Fate::Refused(why))?;
                }
                Block::Video(_) => {
                    let why = "an answer's video cannot be sent back";
                    self.losses.lose(Field::Video, Fate::Refused(why))?;
                }
                // Results stand in the user's turns.
                Block::ToolResult(_) | Block::Cache(_) => {}
            }
        }
        match self.rules.reasoning_field {
            ReasoningField::Nowhere => {}
            ReasoningField::Reasoning => message.reasoning = reasoning.join("\n\n"),
            ReasoningField::ReasoningContent => message.reasoning_content = reasoning.join("\n\n"),
        }
        let is_silent = message.tool_calls.is_empty() && message.refusal.is_empty();
        if !text.is_empty() || is_silent {
            message.content = Content::Text(text);
        }
        self.messages.push(message);
        Ok(())
    }

    /// The words of earlier reasoning. A server's own signatures go back to it, others' do not.
    fn thinking(
        &mut self,
        block: &'a Block,
        details: &mut Vec<ToldDetail<'a>>,
    ) -> Result<Option<&'a str>, Invalid> {
        let somewhere = self.rules.reasoning_field != ReasoningField::Nowhere;
        let index = details.len();
        match block {
            Block::Thinking { text, signature } => {
                let own = signature.as_ref().filter(|it| it.dialect == Dialect::OpenaiChat);
                if own.is_some() && somewhere {
                    details.push(ToldDetail::text(Some(text), own, index));
                } else if text.is_empty() && signature.is_some() {
                    self.losses.lose(Field::Signature, Fate::Dropped)?;
                }
                if !text.is_empty() && !somewhere {
                    self.losses.lose(Field::ThinkingHistory, Fate::Dropped)?;
                }
                Ok(Some(text.as_str()).filter(|text| !text.is_empty()))
            }
            Block::RedactedThinking(signature)
                if signature.dialect == Dialect::OpenaiChat && somewhere =>
            {
                details.push(ToldDetail::encrypted(signature, index));
                Ok(None)
            }
            _ => {
                self.losses.lose(Field::Signature, Fate::Dropped)?;
                Ok(None)
            }
        }
    }
}

/// Words behind others, on a line of their own.
fn append(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push('\n');
    }
    text.push_str(more);
}

fn text(block: &Block) -> Option<&str> {
    match block {
        Block::Text { text, .. } => Some(text),
        _ => None,
    }
}

/// The texts among `blocks`.
fn joined(blocks: &[Block], separator: &str) -> String {
    blocks.iter().filter_map(text).collect::<Vec<_>>().join(separator)
}
