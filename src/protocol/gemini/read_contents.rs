//! A conversation of Google's, read: contents and their parts.

use std::collections::{BTreeMap, HashMap, VecDeque};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::media;
use super::members::Members;
use super::signature::{self, Signed};
use crate::protocol::canonical::{
    Block, Document, Image, Invalid, Losses, Media, Role, Signature, Source, ToolKind, ToolResult,
    ToolUse, Turn,
};

/// Reads `contents`.
pub fn read_contents(contents: &[&RawValue], losses: &mut Losses) -> Result<Vec<Turn>, Invalid> {
    let mut reader = Reader { losses, calls: Calls::default() };
    let mut turns = Vec::with_capacity(contents.len());
    for (place, content) in contents.iter().enumerate() {
        reader.content(content.get(), place, &mut turns)?;
    }
    Ok(turns)
}

/// Reads `systemInstruction`: a content of texts, or a text.
pub fn read_instruction(raw: &RawValue, losses: &mut Losses) -> Result<Vec<Block>, Invalid> {
    const PATH: &str = "systemInstruction";
    if let Ok(text) = serde_json::from_str::<String>(raw.get()) {
        return Ok(vec![Block::text(text)]);
    }
    let mut content = Members::parse(raw.get(), PATH)?;
    // Whatever it says, it is the system's.
    content.take("role");
    let mut blocks = Vec::new();
    for part in content.array("parts")? {
        let mut part = Members::parse(part.get(), "systemInstruction.parts")?;
        let Some(text) = part.string("text")? else {
            return Err(unsupported(part.path().to_owned(), "instructions are text"));
        };
        part.drop_rest(losses)?;
        blocks.push(Block::text(text));
    }
    content.drop_rest(losses)?;
    Ok(blocks)
}

struct Reader<'l> {
    losses: &'l mut Losses,
    calls: Calls,
}

/// Calls that have no result yet.
#[derive(Default)]
struct Calls {
    /// The ids, in their order; `None` where a result has come.
    ids: Vec<Option<String>>,
    /// Where those of an id and of a name stand, and all of them, in their order.
    by_id: HashMap<String, VecDeque<usize>>,
    by_name: HashMap<String, VecDeque<usize>>,
    all: VecDeque<usize>,
}

impl Calls {
    fn push(&mut self, id: &str, name: &str) {
        let place = self.ids.len();
        self.ids.push(Some(id.to_owned()));
        self.by_id.entry(id.to_owned()).or_default().push_back(place);
        self.by_name.entry(name.to_owned()).or_default().push_back(place);
        self.all.push_back(place);
    }

    /// Takes the call that a result belongs to: by its id, else the first of its name.
    fn take(&mut self, id: Option<&str>, name: Option<&str>) -> Option<String> {
        let by_id = id.and_then(|id| self.by_id.get_mut(id));
        if let Some(found) = by_id.and_then(|places| first(&mut self.ids, places)) {
            return Some(found);
        }
        let places = match name {
            Some(name) => self.by_name.get_mut(name)?,
            None => &mut self.all,
        };
        first(&mut self.ids, places)
    }
}

/// Takes the first that is still there of those at `places`.
fn first(ids: &mut [Option<String>], places: &mut VecDeque<usize>) -> Option<String> {
    while let Some(place) = places.pop_front() {
        let found = ids.get_mut(place)?.take();
        if found.is_some() {
            return found;
        }
    }
    None
}

impl Reader<'_> {
    /// Clients keep a streamed answer as it came: contents of the model's that follow each other are
    /// pieces of one.
    fn content(
        &mut self,
        content: &str,
        place: usize,
        turns: &mut Vec<Turn>,
    ) -> Result<(), Invalid> {
        let mut content = Members::parse(content, "contents")?;
        let role = match content.string("role")?.as_deref() {
            // `function` and `tool` are older words for who brings results.
            None | Some("" | "user" | "function" | "tool") => Role::User,
            Some("model") => Role::Assistant,
            Some("system") => Role::System,
            Some(_) => return Err(content.mistyped("role", "`user` or `model`")),
        };
        let begun = |last: &Turn| role == Role::Assistant && last.role == role;
        let last = turns.pop_if(|last| begun(last));
        let mut turn = last.unwrap_or(Turn { role, blocks: Vec::new() });
        for (number, part) in content.array("parts")?.into_iter().enumerate() {
            let part = Members::parse(part.get(), "contents.parts")?;
            self.part(part, role, (place, number), &mut turn.blocks)?;
        }
        turns.push(turn);
        content.drop_rest(self.losses)
    }

    fn part(
        &mut self,
        mut part: Members,
        role: Role,
        place: (usize, usize),
        blocks: &mut Vec<Block>,
    ) -> Result<(), Invalid> {
        let thought = part.boolean("thought")? == Some(true) && role == Role::Assistant;
        let signature = part.string("thoughtSignature")?.filter(|data| !data.is_empty());
        let signature = match signature.map(signature::read) {
            None => None,
            Some(Signed::Part(signature)) => Some(signature),
            Some(Signed::Redacted(signature)) => {
                part.take("text");
                blocks.push(Block::RedactedThinking(signature));
                return part.drop_rest(self.losses);
            }
        };
        if let Some(text) = part.string("text")? {
            say(text, role, thought, signature, blocks);
        } else if let Some(call) = part.object("functionCall")? {
            if role != Role::Assistant {
                return Err(Invalid::request(
                    call.path().to_owned(),
                    "only the model calls functions",
                ));
            }
            blocks.push(Block::ToolUse(self.call(call, place, signature)?));
        } else if let Some(response) = part.object("functionResponse")? {
            if role == Role::Assistant {
                return Err(Invalid::request(
                    response.path().to_owned(),
                    "the model does not give results",
                ));
            }
            blocks.push(Block::ToolResult(self.response(response)?));
        } else if let Some(blob) = part.object("inlineData")? {
            let block = self.inline(blob)?;
            let block = self.resolution(&mut part, block)?;
            // Pictures a model made on its way are not the answer's.
            blocks.extend((!thought).then_some(block));
        } else if let Some(file) = part.object("fileData")? {
            let block = self.file(file)?;
            let block = self.resolution(&mut part, block)?;
            blocks.push(block);
        } else if let Some(signature) = signature {
            say(String::new(), role, thought, Some(signature), blocks);
        } else {
            let kinds = ["executableCode", "codeExecutionResult", "toolCall", "toolResponse"];
            let kind = kinds.into_iter().find(|kind| part.take(kind).is_some());
            return Err(match kind {
                Some(kind) => unsupported(part.at(kind), "it is Google's own tool that made it"),
                None => unsupported("contents.parts".to_owned(), "a part of an unknown kind"),
            });
        }
        part.drop_rest(self.losses)
    }

    fn call(
        &mut self,
        mut call: Members,
        (turn, part): (usize, usize),
        signature: Option<Signature>,
    ) -> Result<ToolUse, Invalid> {
        let name = call.string("name")?.ok_or_else(|| call.mistyped("name", "a string"))?;
        let id = call.string("id")?.filter(|id| !id.is_empty());
        let id = id.unwrap_or_else(|| format!("gm_{turn}_{part}"));
        let arguments = call.take("args").map_or("{}", RawValue::get).to_owned();
        call.drop_rest(self.losses)?;
        self.calls.push(&id, &name);
        let kind = ToolKind::Function;
        Ok(ToolUse { id, name, namespace: None, kind, arguments, signature })
    }

    fn response(&mut self, mut response: Members) -> Result<ToolResult, Invalid> {
        let name = response.string("name")?;
        let given = response.string("id")?.filter(|id| !id.is_empty());
        let id = self.calls.take(given.as_deref(), name.as_deref()).or(given).ok_or_else(|| {
            let message =
                "`contents.parts.functionResponse` belongs to no `functionCall` before it";
            Invalid::request(response.path().to_owned(), message)
        })?;
        let (text, is_error) = match response.take("response") {
            Some(outcome) => outcome_of(outcome),
            None => (String::new(), false),
        };
        let mut blocks = vec![Block::text(text)];
        for part in response.array("parts")? {
            let mut part = Members::parse(part.get(), "contents.parts.functionResponse.parts")?;
            if let Some(blob) = part.object("inlineData")? {
                blocks.push(self.inline(blob)?);
            } else if let Some(file) = part.object("fileData")? {
                blocks.push(self.file(file)?);
            } else {
                return Err(unsupported(part.path().to_owned(), "a part of an unknown kind"));
            }
            part.drop_rest(self.losses)?;
        }
        // Whether more results of one call are to come, and what the model does then.
        let more = response.boolean("willContinue")? == Some(true);
        if more {
            return Err(unsupported(response.at("willContinue"), "results are whole"));
        }
        response.drop_rest(self.losses)?;
        Ok(ToolResult { id, name, blocks, is_error })
    }

    fn inline(&mut self, mut blob: Members) -> Result<Block, Invalid> {
        let kind = blob.string("mimeType")?.ok_or_else(|| blob.mistyped("mimeType", "a string"))?;
        let data = blob.string("data")?.ok_or_else(|| blob.mistyped("data", "a string"))?;
        let name = blob.string("displayName")?;
        blob.drop_rest(self.losses)?;
        let data = media::standard(data);
        let text = kind.starts_with("text/").then(|| STANDARD.decode(&data).ok());
        let source = match text.flatten().and_then(|bytes| String::from_utf8(bytes).ok()) {
            Some(text) => Source::Text(text),
            None => Source::Base64(data),
        };
        Ok(medium(source, kind, name))
    }

    fn file(&mut self, mut file: Members) -> Result<Block, Invalid> {
        let uri = file.string("fileUri")?.ok_or_else(|| file.mistyped("fileUri", "a string"))?;
        let kind = file.string("mimeType")?.filter(|kind| !kind.is_empty());
        let name = file.string("displayName")?;
        let kind = kind.or_else(|| media::type_of(&uri).map(str::to_owned)).ok_or_else(|| {
            Invalid::request(file.at("mimeType"), "what kind of file it is must be said")
        })?;
        file.drop_rest(self.losses)?;
        let source = if media::is_googles(&uri) { Source::File(uri) } else { Source::Url(uri) };
        Ok(medium(source, kind, name))
    }

    /// How closely one picture is to be looked at.
    fn resolution(&mut self, part: &mut Members, block: Block) -> Result<Block, Invalid> {
        let Some(mut resolution) = part.object("mediaResolution")? else { return Ok(block) };
        let level = resolution.string("level")?;
        let known = level.as_deref().and_then(media::detail);
        Ok(match (block, known) {
            (Block::Image(image), Some(detail)) => {
                Block::Image(Image { detail: Some(detail.to_owned()), ..image })
            }
            (block, _) => {
                self.losses.drop_member("contents.parts.mediaResolution")?;
                block
            }
        })
    }
}

/// Text or a thought. A thought's signature may stand on the text behind it. One that stands nowhere else
/// tells nothing to anybody but Google, whose own clients' calls are not read here.
fn say(
    text: String,
    role: Role,
    thought: bool,
    signature: Option<Signature>,
    blocks: &mut Vec<Block>,
) {
    match blocks.last_mut() {
        Some(Block::Thinking { text: known, signature: signed @ None }) => {
            *signed = signature;
            if thought {
                return known.push_str(&text);
            }
        }
        // What comes behind a signature is not signed by it.
        _ if thought => return blocks.push(Block::Thinking { text, signature }),
        _ => {}
    }
    match blocks.last_mut() {
        // Pieces of a streamed answer.
        Some(Block::Text { text: known, .. }) if role == Role::Assistant => known.push_str(&text),
        Some(_) if text.is_empty() => {}
        _ => blocks.push(Block::text(text)),
    }
}

/// What a function gave, in words. `output` and `error` are Google's names for it, `result` is its
/// Python library's.
fn outcome_of(outcome: &RawValue) -> (String, bool) {
    let whole = || (outcome.get().to_owned(), false);
    let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(outcome.get()) else {
        return whole();
    };
    let mut members = members.into_iter();
    match (members.next(), members.next()) {
        (Some((name, value)), None) if ["output", "error", "result"].contains(&name.as_str()) => {
            let text = serde_json::from_str(value.get());
            (text.unwrap_or_else(|_| value.get().to_owned()), name == "error")
        }
        _ => whole(),
    }
}

fn medium(source: Source, media_type: String, name: Option<String>) -> Block {
    let kind = media_type.split('/').next().unwrap_or_default();
    match kind {
        "image" => Block::Image(Image { source, media_type: Some(media_type), detail: None }),
        "audio" => Block::Audio(Media { source, media_type }),
        "video" => Block::Video(Media { source, media_type }),
        _ => Block::Document(Document { source, media_type, name }),
    }
}

fn unsupported(param: String, why: &str) -> Invalid {
    Invalid::Unsupported { param, why: why.to_owned() }
}
