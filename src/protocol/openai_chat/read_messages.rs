//! Reads a conversation.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::read_parts::{self, cache_mark};
use super::read_reasoning::read_reasoning;
use super::read_request::{drop_rest, mistyped};
use crate::config::Dialect;
use crate::protocol::canonical::{
    Block, Invalid, Losses, Request, Role, Signature, ToolKind, ToolResult, ToolUse, Turn,
};
use crate::protocol::json::Object;

/// Reads `messages`: instructions at their head apart, results of tools into turns of the user's.
pub(super) fn read_messages(
    object: &mut Object,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    let messages = object.array("messages").map_err(mistyped(""))?.unwrap_or_default();
    if messages.is_empty() {
        return Err(Invalid::request("messages", "`messages` must have at least one message"));
    }
    let mut calls = Calls::default();
    for (place, message) in messages.iter().enumerate() {
        let at = format!("messages[{place}]");
        let fault = || Invalid::request(&at, format!("`{at}` must be an object"));
        let message = Object::parse(message.get(), "").map_err(|_| fault())?;
        Reader { at, message, losses }.read(request, &mut calls)?;
    }
    Ok(())
}

/// What the calls read so far tell of the messages to come: an older form of them has no ids.
#[derive(Default)]
struct Calls {
    /// How many had the older form.
    functions: usize,
    /// By its name: the id of a function's last call.
    last: HashMap<String, String>,
}

/// One message being read.
struct Reader<'j, 'l> {
    /// What it is called in refusals: `messages[3]`.
    at: String,
    message: Object<'j>,
    losses: &'l mut Losses,
}

impl<'j> Reader<'j, '_> {
    fn read(mut self, request: &mut Request, calls: &mut Calls) -> Result<(), Invalid> {
        let role = self.string("role")?.unwrap_or_default();
        match role.as_str() {
            "system" | "developer" => {
                let blocks = self.content()?;
                if request.turns.is_empty() {
                    request.system.extend(blocks);
                } else {
                    request.turns.push(Turn { role: Role::System, blocks });
                }
            }
            "user" => {
                let blocks = self.content()?;
                request.turns.push(Turn { role: Role::User, blocks });
            }
            "assistant" => {
                let blocks = self.assistant(calls)?;
                request.turns.push(Turn { role: Role::Assistant, blocks });
            }
            "tool" => {
                let id = self.string("tool_call_id")?;
                let missing = || {
                    let param = format!("{}.tool_call_id", self.at);
                    let message = format!("`{param}` is missing");
                    Invalid::Request { param, message }
                };
                let id = id.ok_or_else(missing)?;
                self.result(id, request)?;
            }
            "function" => {
                let name = self.string("name")?.unwrap_or_default();
                let id = calls.last.get(&name).cloned().unwrap_or_default();
                self.result(id, request)?;
            }
            _ => {
                let param = format!("{}.role", self.at);
                let message = format!("`{param}` {role:?} is not known");
                return Err(Invalid::Request { param, message });
            }
        }
        drop_rest(&self.message, "messages", self.losses)
    }

    fn string(&mut self, name: &str) -> Result<Option<String>, Invalid> {
        self.message.string(name).map_err(mistyped(&self.at))
    }

    /// The content, and the mark that some clients set on a whole message.
    fn content(&mut self) -> Result<Vec<Block>, Invalid> {
        let Some(content) = self.message.take("content") else {
            let param = format!("{}.content", self.at);
            let message = format!("`{param}` is missing");
            return Err(Invalid::Request { param, message });
        };
        let mut blocks = self.words(content)?;
        blocks.extend(cache_mark(&mut self.message, &self.at)?.map(Block::Cache));
        Ok(blocks)
    }

    fn words(&mut self, content: &'j RawValue) -> Result<Vec<Block>, Invalid> {
        read_parts::read_content(content, &format!("{}.content", self.at), self.losses)
    }

    /// What an assistant said: reasoning first, then words, then calls.
    fn assistant(&mut self, known: &mut Calls) -> Result<Vec<Block>, Invalid> {
        let mut blocks = read_reasoning(&mut self.message, &self.at)?;
        if let Some(content) = self.message.take("content") {
            let words = self.words(content)?;
            let is_said =
                |block: &Block| !matches!(block, Block::Text { text, .. } if text.is_empty());
            blocks.extend(words.into_iter().filter(is_said));
        }
        if let Some(refusal) = self.string("refusal")?.filter(|refusal| !refusal.is_empty()) {
            blocks.push(Block::Refusal(refusal));
        }
        let within = format!("{}.images", self.at);
        for image in self.message.array("images").map_err(mistyped(&self.at))?.unwrap_or_default() {
            blocks.extend(read_parts::read_part(image, &within, self.losses)?);
        }
        let calls = self.message.array("tool_calls").map_err(mistyped(&self.at))?;
        for call in calls.unwrap_or_default() {
            let call = self.call(call)?;
            known.last.insert(call.name.clone(), call.id.clone());
            blocks.push(Block::ToolUse(call));
        }
        if let Some(call) = self.message.object("function_call").map_err(mistyped(&self.at))? {
            let call = self.function_call(call, known.functions)?;
            known.functions += 1;
            known.last.insert(call.name.clone(), call.id.clone());
            blocks.push(Block::ToolUse(call));
        }
        if self.message.take("audio").is_some() {
            return Err(Invalid::Unsupported {
                param: "messages.audio".to_owned(),
                why: "it is kept by another provider".to_owned(),
            });
        }
        // The places of what was cited say nothing to a model.
        self.message.take("annotations");
        blocks.extend(cache_mark(&mut self.message, &self.at)?.map(Block::Cache));
        Ok(blocks)
    }

    fn call(&mut self, call: &RawValue) -> Result<ToolUse, Invalid> {
        let within = format!("{}.tool_calls", self.at);
        let fault = |param: &str, what: &str| {
            Invalid::request(format!("{within}{param}"), format!("`{within}{param}` {what}"))
        };
        let mut call = Object::parse(call.get(), "").map_err(|_| fault("", "must be objects"))?;
        let id = call.string("id").map_err(mistyped(&within))?.unwrap_or_default();
        let kind = call.string("type").map_err(mistyped(&within))?;
        // Its place in the stream it came by.
        call.take("index");
        let signature = thought_signature(&mut call).map_err(mistyped(&within))?;
        let (kind, form, text) = match kind.as_deref() {
            Some("function") | None => (ToolKind::Function, "function", "arguments"),
            Some("custom") => (ToolKind::Custom, "custom", "input"),
            Some(other) => {
                return Err(Invalid::Unsupported {
                    param: "messages.tool_calls.type".to_owned(),
                    why: format!("{other:?} is no kind of call that other providers know"),
                });
            }
        };
        let called = call.object(form).map_err(mistyped(&within))?;
        let mut called = called.ok_or_else(|| fault(&format!(".{form}"), "is missing"))?;
        let within = format!("{within}.{form}");
        let name = called.string("name").map_err(mistyped(&within))?.unwrap_or_default();
        let arguments = match kind {
            ToolKind::Function => arguments(&mut called, &within)?,
            ToolKind::Custom => called.string(text).map_err(mistyped(&within))?.unwrap_or_default(),
        };
        drop_rest(&called, &format!("messages.tool_calls.{form}"), self.losses)?;
        drop_rest(&call, "messages.tool_calls", self.losses)?;
        Ok(ToolUse { id, name, namespace: None, kind, arguments, signature })
    }

    /// The older form of a call, which has no id.
    fn function_call(&mut self, mut call: Object, place: usize) -> Result<ToolUse, Invalid> {
        let within = format!("{}.function_call", self.at);
        Ok(ToolUse {
            id: format!("call_fn_{place}"),
            name: call.string("name").map_err(mistyped(&within))?.unwrap_or_default(),
            namespace: None,
            kind: ToolKind::Function,
            arguments: arguments(&mut call, &within)?,
            signature: None,
        })
    }

    /// A tool's result: into the user's turn, if that has nothing but results so far.
    fn result(&mut self, id: String, request: &mut Request) -> Result<(), Invalid> {
        let name = self.string("name")?;
        let mark = cache_mark(&mut self.message, &self.at)?.map(Block::Cache);
        let content = self.message.take("content");
        let blocks = content.map(|content| self.words(content)).transpose()?.unwrap_or_default();
        let result = Block::ToolResult(ToolResult { id, name, blocks, is_error: false });
        // No message of the user's has results: a turn that begins with one has nothing else.
        let blocks = match request.turns.last_mut() {
            Some(Turn { role: Role::User, blocks })
                if matches!(blocks.first(), Some(Block::ToolResult(_))) =>
            {
                blocks
            }
            _ => {
                request.turns.push(Turn { role: Role::User, blocks: Vec::new() });
                let Some(turn) = request.turns.last_mut() else { return Ok(()) };
                &mut turn.blocks
            }
        };
        blocks.push(result);
        blocks.extend(mark);
        Ok(())
    }
}

/// A call's arguments: a string of JSON; the JSON itself from some clients.
fn arguments(call: &mut Object, within: &str) -> Result<String, Invalid> {
    let Some(arguments) = call.take("arguments") else { return Ok("{}".to_owned()) };
    let text = arguments.get();
    if text.starts_with('{') {
        return Ok(text.to_owned());
    }
    let fault = |_| {
        let param = format!("{within}.arguments");
        let message = format!("`{param}` must be a string");
        Invalid::Request { param, message }
    };
    let text: String = serde_json::from_str(text).map_err(fault)?;
    Ok(if text.trim().is_empty() { "{}".to_owned() } else { text })
}

/// Google's signature of a call, where its own endpoint for this dialect has it.
fn thought_signature(
    call: &mut Object,
) -> Result<Option<Signature>, crate::protocol::json::Mistyped> {
    let Some(mut extra) = call.object("extra_content")? else { return Ok(None) };
    let Some(mut google) = extra.object("google")? else { return Ok(None) };
    let data = google.string("thought_signature")?;
    Ok(data.map(|data| Signature { dialect: Dialect::Gemini, data }))
}
