//! The turns of a conversation as items.

use std::collections::HashMap;

use serde::Serialize;

use super::write_request::fate;
use crate::config::Dialect;
use crate::protocol::canonical::{
    Arrange, Block, Document, Fate, Field, IdLimits, Image, Invalid, Losses, Media, Role, Rules,
    Source, Target, ToolKind, ToolResult, ToolUse, Turn, arrange,
};

/// An item of `input`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Item {
    Message {
        role: &'static str,
        content: Content,
    },
    Reasoning {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        summary: Vec<Part>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Part>,
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<String>,
    },
    FunctionCall {
        call_id: String,
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        arguments: String,
    },
    CustomToolCall {
        call_id: String,
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        input: String,
    },
    FunctionCallOutput {
        call_id: String,
        output: Content,
    },
    CustomToolCallOutput {
        call_id: String,
        output: Content,
    },
}

/// A text, which every server takes, or parts.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    InputText {
        text: String,
    },
    InputImage {
        image_url: String,
        detail: String,
    },
    InputFile {
        #[serde(skip_serializing_if = "Option::is_none")]
        filename: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_data: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_url: Option<String>,
    },
    InputAudio {
        input_audio: Audio,
    },
    SummaryText {
        text: String,
    },
    ReasoningText {
        text: String,
    },
}

#[derive(Debug, Serialize)]
pub struct Audio {
    data: String,
    format: &'static str,
}

/// <https://platform.openai.com/docs/api-reference/responses/create>: `call_id` has at most 64.
const IDS: IdLimits = IdLimits { punctuation: None, longest: 64 };

/// Is it a server of open weights, which reads reasoning in words, and not `OpenAI`?
pub fn is_open(rules: &Rules) -> bool {
    rules.reasoning_field != crate::protocol::canonical::ReasoningField::Nowhere
}

/// Writes a conversation as items.
pub fn write_input(turns: &[Turn], to: &Target, losses: &mut Losses) -> Result<Vec<Item>, Invalid> {
    let turns = arrange(turns, Arrange { ids: IDS, ..Arrange::default() })?;
    let mut input = Input {
        items: Vec::with_capacity(turns.len() * 2),
        kinds: HashMap::new(),
        rules: to.rules,
    };
    for turn in turns {
        match turn.role {
            Role::User => input.write_user("user", turn.blocks, losses)?,
            Role::System => {
                let role = if to.rules.developer_role { "developer" } else { "system" };
                input.write_user(role, turn.blocks, losses)?;
            }
            Role::Assistant => {
                for block in turn.blocks {
                    input.write_assistant(block, losses)?;
                }
            }
        }
    }
    Ok(input.items)
}

struct Input<'r> {
    items: Vec<Item>,
    /// What each call called: results differ in type.
    kinds: HashMap<String, ToolKind>,
    rules: &'r Rules,
}

impl Input<'_> {
    /// A turn of the user's, or instructions: results, then one message of all the rest.
    fn write_user(
        &mut self,
        role: &'static str,
        blocks: Vec<Block>,
        losses: &mut Losses,
    ) -> Result<(), Invalid> {
        let mut parts = Vec::with_capacity(blocks.len());
        for block in blocks {
            match block {
                Block::ToolResult(result) => self.write_result(result, losses)?,
                block => parts.extend(write_part(block, losses)?),
            }
        }
        if !parts.is_empty() {
            self.items.push(Item::Message { role, content: content(parts) });
        }
        Ok(())
    }

    fn write_assistant(&mut self, block: Block, losses: &mut Losses) -> Result<(), Invalid> {
        match block {
            Block::Text { text, .. } | Block::Refusal(text) => {
                if !text.is_empty() {
                    let content = Content::Text(text);
                    self.items.push(Item::Message { role: "assistant", content });
                }
            }
            Block::ToolUse(call) => self.write_call(call),
            Block::Thinking { text, signature } => {
                let own = signature.filter(|it| it.dialect == Dialect::OpenaiResponses);
                let sealed = own.map(|signature| signature.data).filter(|_| !is_open(self.rules));
                self.write_reasoning(text, sealed, losses)?;
            }
            Block::RedactedThinking(signature) => {
                if is_open(self.rules) || signature.dialect != Dialect::OpenaiResponses {
                    return losses.lose(Field::Signature, Fate::Dropped);
                }
                self.write_reasoning(String::new(), Some(signature.data), losses)?;
            }
            Block::Cache(_) => losses.lose(Field::CacheMark, fate(Field::CacheMark))?,
            Block::Image(_) => {
                losses.lose(Field::ImageData, Fate::Refused("it is in an assistant's turn"))?;
            }
            Block::Audio(_) | Block::Video(_) => {
                losses.lose(Field::Audio, Fate::Refused("it is in an assistant's turn"))?;
            }
            Block::Document(_) | Block::ToolResult(_) => {
                losses.lose(Field::Document, Fate::Refused("it is in an assistant's turn"))?;
            }
        }
        Ok(())
    }

    /// `OpenAI` reads reasoning it has sealed itself, and servers of open weights its words.
    fn write_reasoning(
        &mut self,
        text: String,
        sealed: Option<String>,
        losses: &mut Losses,
    ) -> Result<(), Invalid> {
        let said = |text: String| (!text.is_empty()).then_some(text);
        if is_open(self.rules) {
            let content = said(text).map(|text| Part::ReasoningText { text });
            // vLLM demands an id; OpenAI compares it with the one inside what is sealed.
            let id = Some(format!("rs_{}", self.items.len()));
            let content: Vec<_> = content.into_iter().collect();
            let summary = Vec::new();
            self.items.push(Item::Reasoning { id, summary, content, encrypted_content: None });
        } else if sealed.is_some() {
            let summary = said(text).map(|text| Part::SummaryText { text }).into_iter().collect();
            let content = Vec::new();
            self.items.push(Item::Reasoning {
                id: None,
                summary,
                content,
                encrypted_content: sealed,
            });
        } else {
            losses.lose(Field::ThinkingHistory, Fate::Dropped)?;
        }
        Ok(())
    }

    fn write_call(&mut self, call: ToolUse) {
        let ToolUse { id: call_id, name, namespace, kind, arguments, .. } = call;
        self.kinds.insert(call_id.clone(), kind);
        self.items.push(match kind {
            ToolKind::Custom => Item::CustomToolCall { call_id, name, namespace, input: arguments },
            ToolKind::Function => {
                let blank = arguments.trim().is_empty();
                let arguments = if blank { "{}".to_owned() } else { arguments };
                Item::FunctionCall { call_id, name, namespace, arguments }
            }
        });
    }

    fn write_result(&mut self, result: ToolResult, losses: &mut Losses) -> Result<(), Invalid> {
        let ToolResult { id: call_id, blocks, is_error, .. } = result;
        let mut parts = Vec::with_capacity(blocks.len());
        for block in blocks {
            parts.extend(write_part(block, losses)?);
        }
        if is_error {
            match parts.first_mut() {
                Some(Part::InputText { text }) => text.insert_str(0, "Error: "),
                _ => parts.insert(0, Part::InputText { text: "Error: ".to_owned() }),
            }
        }
        // Lists are young: servers of open weights know texts.
        let all_text = parts.iter().all(|part| matches!(part, Part::InputText { .. }));
        let output = if all_text && is_open(self.rules) {
            let texts = parts.into_iter().filter_map(|part| match part {
                Part::InputText { text } => Some(text),
                _ => None,
            });
            Content::Text(texts.collect::<Vec<_>>().join("\n"))
        } else {
            content(parts)
        };
        self.items.push(match self.kinds.get(&call_id) {
            Some(ToolKind::Custom) => Item::CustomToolCallOutput { call_id, output },
            _ => Item::FunctionCallOutput { call_id, output },
        });
        Ok(())
    }
}

fn content(mut parts: Vec<Part>) -> Content {
    match parts.as_mut_slice() {
        [] => Content::Text(String::new()),
        [Part::InputText { text }] => Content::Text(std::mem::take(text)),
        _ => Content::Parts(parts),
    }
}

/// A piece of a message or of what a tool gave; nothing for what is left out.
fn write_part(block: Block, losses: &mut Losses) -> Result<Option<Part>, Invalid> {
    let refused = |losses: &mut Losses, field| losses.lose(field, fate(field)).map(|()| None);
    match block {
        Block::Text { text, .. } | Block::Refusal(text) => {
            Ok((!text.is_empty()).then_some(Part::InputText { text }))
        }
        Block::Image(image) => write_image(image, losses).map(Some),
        Block::Document(document) => write_document(document, losses).map(Some),
        Block::Audio(media) => match write_audio(media) {
            Some(part) => Ok(Some(part)),
            None => losses.lose(Field::Audio, Fate::Refused("only wav and mp3")).map(|()| None),
        },
        Block::Video(_) => refused(losses, Field::Video),
        Block::Cache(_) => refused(losses, Field::CacheMark),
        Block::Thinking { .. } | Block::RedactedThinking(_) => {
            losses.lose(Field::ThinkingHistory, Fate::Dropped).map(|()| None)
        }
        Block::ToolUse(_) | Block::ToolResult(_) => {
            Err(Invalid::request("messages", "a call or a result stands where there can be none"))
        }
    }
}

fn write_image(image: Image, losses: &mut Losses) -> Result<Part, Invalid> {
    let Image { source, media_type, detail } = image;
    let image_url = match source {
        Source::Base64(data) => {
            format!("data:{};base64,{data}", media_type.as_deref().unwrap_or("image/png"))
        }
        Source::Url(url) => url,
        Source::File(_) | Source::Text(_) => return Err(no_file(losses)),
    };
    Ok(Part::InputImage { image_url, detail: detail.unwrap_or_else(|| "auto".to_owned()) })
}

fn write_document(document: Document, losses: &mut Losses) -> Result<Part, Invalid> {
    let Document { source, media_type, name } = document;
    match source {
        Source::Text(text) => Ok(Part::InputText {
            text: match name {
                Some(name) => format!("{name}\n\n{text}"),
                None => text,
            },
        }),
        Source::Base64(data) => Ok(Part::InputFile {
            filename: Some(file_name(name, &media_type)),
            file_data: Some(format!("data:{media_type};base64,{data}")),
            file_url: None,
        }),
        Source::Url(url) => {
            Ok(Part::InputFile { filename: None, file_data: None, file_url: Some(url) })
        }
        Source::File(_) => Err(no_file(losses)),
    }
}

/// The API tells files by their ending.
fn file_name(name: Option<String>, media_type: &str) -> String {
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| "document".to_owned());
    if name.contains('.') {
        return name;
    }
    let ending = match media_type {
        "text/plain" => "txt",
        "text/markdown" => "md",
        _ => media_type.rsplit(['/', '.', '+']).next().unwrap_or("pdf"),
    };
    format!("{name}.{ending}")
}

fn write_audio(media: Media) -> Option<Part> {
    let format = match media.media_type.as_str() {
        "audio/wav" | "audio/x-wav" | "audio/wave" => "wav",
        "audio/mp3" | "audio/mpeg" => "mp3",
        _ => return None,
    };
    match media.source {
        Source::Base64(data) => Some(Part::InputAudio { input_audio: Audio { data, format } }),
        _ => None,
    }
}

fn no_file(losses: &mut Losses) -> Invalid {
    let lost = losses.lose(Field::FileId, fate(Field::FileId));
    lost.err().unwrap_or_else(|| Invalid::request("input", "the file cannot be read"))
}
