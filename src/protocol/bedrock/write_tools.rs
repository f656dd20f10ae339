//! `toolConfig`: what the model may call.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::value::RawValue;

use super::content::CachePoint;
use super::model::Family;
use super::write_content::Marks;
use crate::protocol::anthropic::enforceable;
use crate::protocol::canonical::{
    Block, Fate, Field, Invalid, Json, Losses, Request, Target, Tool, ToolChoice, Turn,
};
use crate::protocol::json::Object;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolConfig<'a> {
    tools: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Item<'a> {
    ToolSpec(Spec<'a>),
    CachePoint(CachePoint),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: InputSchema,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    strict: bool,
}

#[derive(Serialize)]
struct InputSchema {
    json: Json,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
enum Choice<'a> {
    Auto {},
    Any {},
    Tool { name: &'a str },
}

impl ToolConfig<'_> {
    /// Is a call demanded?
    pub fn is_forced(&self) -> bool {
        matches!(self.tool_choice, Some(Choice::Any {} | Choice::Tool { .. }))
    }

    /// Is anything said of what shall be called?
    pub fn has_choice(&self) -> bool {
        self.tool_choice.is_some()
    }

    /// Can no more than this one tool be called?
    pub fn is_named(&self) -> bool {
        matches!(self.tool_choice, Some(Choice::Tool { .. }))
    }
}

/// The tools, or `None` where there are none and the conversation has no calls. A conversation with
/// calls is refused without tools: what it called stands in for them then.
pub fn write<'a>(
    request: &'a Request,
    turns: &'a [Turn],
    to: &Target,
    marks: &mut Marks,
    losses: &mut Losses,
) -> Result<Option<ToolConfig<'a>>, Invalid> {
    let called = called(turns);
    let choice = request.tool_choice.as_ref();
    let is_none = choice == Some(&ToolChoice::None);
    let among = choice.and_then(ToolChoice::among);
    let is_among =
        |tool: &&Tool| among.as_ref().is_none_or(|names| names.contains(tool.name.as_str()));
    let are_none = !request.tools.iter().any(|tool| is_among(&tool));
    if called.is_empty() && (is_none || are_none) {
        return Ok(None);
    }
    if are_none {
        let tools = called.into_iter().map(stub).collect();
        return Ok(Some(ToolConfig { tools, tool_choice: None }));
    }
    if is_none {
        // There is no way to say it but to leave the tools out.
        losses.lose(Field::ToolChoiceNone, Fate::Dropped)?;
    }
    let mut tools = Vec::with_capacity(request.tools.len());
    for tool in request.tools.iter().filter(is_among) {
        tools.push(Item::ToolSpec(spec(tool, to, losses)?));
        if let Some(mark) = tool.cache {
            tools.extend(marks.of_tool(mark, losses)?.map(Item::CachePoint));
        }
    }
    let demanded = |field, choice, losses: &mut Losses| {
        if to.rules.tool_choice {
            return Ok(Some(choice));
        }
        losses.lose(field, Fate::Dropped).map(|()| None)
    };
    let tool_choice = match choice {
        None | Some(ToolChoice::None) => None,
        Some(ToolChoice::Auto | ToolChoice::Among { required: false, .. }) => Some(Choice::Auto {}),
        Some(ToolChoice::Required | ToolChoice::Among { required: true, .. }) => {
            demanded(Field::ToolChoiceRequired, Choice::Any {}, losses)?
        }
        Some(ToolChoice::Named(name)) => {
            demanded(Field::ToolChoiceNamed, Choice::Tool { name }, losses)?
        }
    };
    Ok(Some(ToolConfig { tools, tool_choice }))
}

/// The names of the tools that were called, each once.
fn called(turns: &[Turn]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    let mut known: HashSet<&str> = HashSet::new();
    for block in turns.iter().flat_map(|turn| &turn.blocks) {
        if let Block::ToolUse(call) = block
            && known.insert(&call.name)
        {
            names.push(&call.name);
        }
    }
    names
}

fn stub(name: &str) -> Item<'_> {
    let input_schema = InputSchema { json: raw(r#"{"type":"object"}"#) };
    Item::ToolSpec(Spec { name, description: None, input_schema, strict: false })
}

fn spec<'a>(tool: &'a Tool, to: &Target, losses: &mut Losses) -> Result<Spec<'a>, Invalid> {
    let wants_strict = tool.strict == Some(true);
    if wants_strict && !to.rules.structured_outputs {
        losses.lose(Field::StrictTools, Fate::Dropped)?;
    }
    let strict = wants_strict && to.rules.structured_outputs;
    let schema = schema(tool.schema.as_deref(), Family::of(to));
    let json = if strict { enforceable(&schema).into_owned() } else { schema };
    Ok(Spec {
        name: &tool.name,
        description: tool.description.as_deref().filter(|text| !text.trim().is_empty()),
        input_schema: InputSchema { json },
        strict,
    })
}

/// A schema whose root says that it is an object. Nova refuses most other members of the root.
fn schema(schema: Option<&RawValue>, family: Family) -> Json {
    let whole = schema.and_then(|schema| Object::parse(schema.get(), "schema").ok());
    let (Some(schema), Some(mut object)) = (schema, whole) else {
        return raw(r#"{"type":"object","properties":{}}"#);
    };
    if family == Family::Nova {
        let mut text = r#"{"type":"object""#.to_owned();
        for name in ["properties", "required", "$defs", "definitions"] {
            if let Some(member) = object.take(name) {
                text = format!(r#"{text},"{name}":{}"#, member.get());
            }
        }
        return raw(&format!("{text}}}"));
    }
    if object.has("type") {
        return schema.to_owned();
    }
    let rest = schema.get().strip_prefix('{').unwrap_or_default().trim_start();
    let comma = if rest.starts_with('}') { "" } else { "," };
    raw(&format!(r#"{{"type":"object"{comma}{rest}"#))
}

fn raw(text: &str) -> Json {
    RawValue::from_string(text.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
