//! The items of a conversation as turns.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::read_parts::read_parts;
use super::read_tools::Tools;
use super::seal::{Signed, unseal};
use super::{joined, mistyped};
use crate::protocol::canonical::{
    Block, Invalid, Losses, Role, Signature, ToolKind, ToolResult, ToolUse, Turn,
};
use crate::protocol::json::{Mistyped, Object};

/// A conversation as it is read, item by item.
#[derive(Debug, Default)]
pub struct Input {
    /// Instructions before anything else was said.
    pub system: Vec<Block>,
    pub turns: Vec<Turn>,
    /// The last turn takes more items of its kind; a user's message is always a turn of its own.
    open: bool,
    /// Signatures of calls, which stand in items of their own.
    signed_calls: HashMap<String, Signature>,
}

impl Input {
    /// Reads `input`: a text, or items.
    pub fn read(
        &mut self,
        json: &RawValue,
        tools: &mut Tools,
        losses: &mut Losses,
    ) -> Result<(), Invalid> {
        if let Ok(text) = serde_json::from_str::<String>(json.get()) {
            self.turns.push(Turn { role: Role::User, blocks: vec![Block::text(text)] });
            return Ok(());
        }
        let items: Vec<&RawValue> = serde_json::from_str(json.get())
            .map_err(|_| mistyped("")(Mistyped::new("input", "a string or an array of items")))?;
        for item in items {
            let mut object = Object::parse(item.get(), "input").map_err(mistyped(""))?;
            self.read_item(&mut object, tools, losses)?;
        }
        let signed = std::mem::take(&mut self.signed_calls);
        for block in self.turns.iter_mut().flat_map(|turn| &mut turn.blocks) {
            if let Block::ToolUse(call) = block {
                call.signature = signed.get(&call.id).cloned();
            }
        }
        Ok(())
    }

    fn read_item(
        &mut self,
        item: &mut Object,
        tools: &mut Tools,
        losses: &mut Losses,
    ) -> Result<(), Invalid> {
        let kind = item.string("type").map_err(mistyped("input"))?;
        // What the provider called the item, and how far it had come.
        item.take("id");
        item.take("status");
        match kind.as_deref() {
            None | Some("message") => self.read_message(item, losses)?,
            Some("reasoning") => self.read_reasoning(item)?,
            Some("function_call") => self.read_call(item, ToolKind::Function, "arguments")?,
            Some("custom_tool_call") => self.read_call(item, ToolKind::Custom, "input")?,
            Some("local_shell_call") => self.read_own_call(item, "local_shell", "action")?,
            Some("shell_call") => self.read_own_call(item, "shell", "action")?,
            Some("apply_patch_call") => self.read_own_call(item, "apply_patch", "operation")?,
            Some(
                "function_call_output"
                | "custom_tool_call_output"
                | "local_shell_call_output"
                | "shell_call_output"
                | "apply_patch_call_output",
            ) => self.read_result(item, losses)?,
            Some("additional_tools" | "tool_search_output") => {
                for name in ["role", "call_id", "execution", "created_by"] {
                    item.take(name);
                }
                let list = item.array("tools").map_err(mistyped("input"))?.unwrap_or_default();
                tools.read(&list, losses)?;
            }
            // Of tools that ran at their provider; what came of them is in the words that follow.
            Some(
                kind @ ("web_search_call"
                | "file_search_call"
                | "code_interpreter_call"
                | "image_generation_call"
                | "mcp_call"
                | "mcp_list_tools"
                | "tool_search_call"),
            ) => return losses.drop_member(&format!("input.{kind}")),
            Some(kind) => {
                let why = match kind {
                    "item_reference" => "the item lies at another provider".to_owned(),
                    "compaction" => {
                        "what was said before lies in it, for its own provider".to_owned()
                    }
                    _ => format!("an item of type `{kind}` cannot be read"),
                };
                return Err(Invalid::Unsupported { param: "input.type".to_owned(), why });
            }
        }
        item.rest().try_for_each(|name| losses.drop_member(&format!("input.{name}")))
    }

    fn read_message(&mut self, item: &mut Object, losses: &mut Losses) -> Result<(), Invalid> {
        let at = mistyped("input");
        let role = item.string("role").map_err(&at)?.unwrap_or_default();
        let content = item.take("content");
        let content =
            content.ok_or_else(|| at(Mistyped::new("content", "a string or an array")))?;
        let blocks = read_parts(content, "input.content", losses)?;
        match role.as_str() {
            "user" => {
                self.open = false;
                self.push(Role::User, blocks);
                self.open = false;
            }
            "assistant" => self.push(Role::Assistant, blocks),
            "system" | "developer" if self.turns.is_empty() => self.system.extend(blocks),
            "system" | "developer" => self.push(Role::System, blocks),
            _ => {
                let message = "`input.role` must be user, assistant, system or developer";
                return Err(Invalid::request("input.role", message));
            }
        }
        Ok(())
    }

    fn read_reasoning(&mut self, item: &mut Object) -> Result<(), Invalid> {
        let at = mistyped("input");
        let expected = "an array of texts";
        let content: Option<Vec<Text>> = item.read("content", expected).map_err(&at)?;
        let summary: Option<Vec<Text>> = item.read("summary", expected).map_err(&at)?;
        let sealed = item.string("encrypted_content").map_err(&at)?;
        let (signature, of) = sealed.and_then(|it| unseal(&it)).unzip();
        let words =
            |texts: Option<Vec<Text>>| joined(texts.iter().flatten().map(|it| it.text.as_str()));
        let text =
            Some(words(content)).filter(|it| !it.is_empty()).unwrap_or_else(|| words(summary));
        if let Some(block) = reasoning(text, signature, of.unwrap_or_default(), |id, signature| {
            self.signed_calls.insert(id, signature);
        }) {
            self.push(Role::Assistant, vec![block]);
        }
        Ok(())
    }

    fn read_call(&mut self, item: &mut Object, kind: ToolKind, told: &str) -> Result<(), Invalid> {
        let at = mistyped("input");
        let id = call_id(item)?;
        let name = item.string("name").map_err(&at)?.filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| at(Mistyped::new("name", "a string")))?;
        let namespace = item.string("namespace").map_err(&at)?;
        let arguments = item.string(told).map_err(&at)?.unwrap_or_default();
        self.push_call(ToolUse { id, name, namespace, kind, arguments, signature: None });
        Ok(())
    }

    /// A call of a tool of the dialect's own, as a call of a function of that name.
    fn read_own_call(&mut self, item: &mut Object, name: &str, told: &str) -> Result<(), Invalid> {
        let id = call_id(item)?;
        let arguments = item.take(told).map_or("{}", RawValue::get).to_owned();
        let name = name.to_owned();
        let kind = ToolKind::Function;
        self.push_call(ToolUse { id, name, namespace: None, kind, arguments, signature: None });
        Ok(())
    }

    fn push_call(&mut self, call: ToolUse) {
        self.push(Role::Assistant, vec![Block::ToolUse(call)]);
    }

    fn read_result(&mut self, item: &mut Object, losses: &mut Losses) -> Result<(), Invalid> {
        let id = call_id(item)?;
        let name = item.string("name").map_err(mistyped("input"))?;
        let blocks = match item.take("output") {
            None => Vec::new(),
            Some(output) if is_parts(output) => read_parts(output, "input.output", losses)?,
            // What a shell gave, in members of its own.
            Some(output) => vec![Block::text(output.get())],
        };
        let result = ToolResult { id, name, blocks, is_error: false };
        self.push(Role::User, vec![Block::ToolResult(result)]);
        Ok(())
    }

    fn push(&mut self, role: Role, blocks: Vec<Block>) {
        match self.turns.last_mut() {
            Some(last) if self.open && last.role == role => last.blocks.extend(blocks),
            _ => self.turns.push(Turn { role, blocks }),
        }
        self.open = role != Role::System;
    }
}

/// A summary's part, or a reasoning text.
#[derive(Debug, Deserialize)]
pub struct Text {
    #[serde(default)]
    pub text: String,
}

/// What an item of reasoning comes to: a block, or the signature of a call, or nothing.
pub fn reasoning(
    text: String,
    signature: Option<Signature>,
    of: Signed,
    sign_call: impl FnOnce(String, Signature),
) -> Option<Block> {
    match (signature, of) {
        (Some(signature), Signed::Call(id)) => {
            sign_call(id, signature);
            (!text.is_empty()).then_some(Block::Thinking { text, signature: None })
        }
        (Some(signature), Signed::Redacted) => Some(Block::RedactedThinking(signature)),
        // `OpenAI` has no words for most of its reasoning.
        (Some(signature), Signed::Thinking)
            if text.is_empty() && signature.dialect == crate::config::Dialect::OpenaiResponses =>
        {
            Some(Block::RedactedThinking(signature))
        }
        (None, _) if text.is_empty() => None,
        (signature, _) => Some(Block::Thinking { text, signature }),
    }
}

fn call_id(item: &mut Object) -> Result<String, Invalid> {
    let at = mistyped("input");
    let id = item.string("call_id").map_err(&at)?.filter(|id| !id.is_empty());
    id.ok_or_else(|| Invalid::request("input.call_id", "`input.call_id` is missing"))
}

/// A text, or parts with types.
fn is_parts(output: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Part<'p> {
        #[serde(borrow)]
        r#type: Option<&'p RawValue>,
    }
    let parts: Result<Vec<Part>, _> = serde_json::from_str(output.get());
    output.get().starts_with('"')
        || parts.is_ok_and(|parts| parts.iter().all(|part| part.r#type.is_some()))
}
