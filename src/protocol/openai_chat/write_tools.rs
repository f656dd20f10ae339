//! Writes the tools of a request, and which of them shall be called.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::value::RawValue;

use super::strict::may_be_strict;
use super::write_request::is_official;
use crate::protocol::canonical::{
    Fate, Field, Invalid, Losses, Request, Rules, Tool, ToolChoice, ToolKind,
};

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ToldTool<'a> {
    Function { function: Function<'a> },
    Custom { custom: Custom<'a> },
}

#[derive(Serialize)]
pub(super) struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
pub(super) struct Custom<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<CustomFormat<'a>>,
}

/// As it is, or a grammar whose members stood in the format itself (responses).
#[derive(Serialize)]
#[serde(untagged)]
enum CustomFormat<'a> {
    AsItIs(&'a RawValue),
    Nested {
        #[serde(rename = "type")]
        kind: &'static str,
        grammar: Grammar<'a>,
    },
}

#[derive(Serialize, serde::Deserialize)]
struct Grammar<'a> {
    #[serde(borrow)]
    syntax: &'a RawValue,
    #[serde(borrow)]
    definition: &'a RawValue,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum ToldChoice<'a> {
    Word(&'static str),
    Named(Named<'a>),
    Among {
        #[serde(rename = "type")]
        kind: &'static str,
        allowed_tools: Allowed<'a>,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Named<'a> {
    Function { function: Name<'a> },
    Custom { custom: Name<'a> },
}

#[derive(Serialize)]
pub(super) struct Name<'a> {
    name: &'a str,
}

#[derive(Serialize)]
pub(super) struct Allowed<'a> {
    mode: &'static str,
    tools: Vec<Named<'a>>,
}

/// The tools. Where a server does not know how to allow only some, it sees no others.
pub(super) fn write_tools<'a>(
    request: &'a Request,
    rules: &Rules,
    losses: &mut Losses,
) -> Result<Vec<ToldTool<'a>>, Invalid> {
    let mut told = Vec::with_capacity(request.tools.len());
    let choice = request.tool_choice.as_ref().filter(|_| !is_official(rules));
    let among = choice.and_then(ToolChoice::among);
    for tool in &request.tools {
        if among.as_ref().is_some_and(|names| !names.contains(tool.name.as_str())) {
            continue;
        }
        match tool.kind {
            ToolKind::Function => {
                let function = function(tool, is_official(rules), losses)?;
                told.push(ToldTool::Function { function });
            }
            ToolKind::Custom if rules.custom_tools => {
                told.push(ToldTool::Custom { custom: custom(tool) });
            }
            ToolKind::Custom => losses.lose(Field::CustomTools, Fate::Dropped)?,
        }
    }
    Ok(told)
}

fn function<'a>(
    tool: &'a Tool,
    official: bool,
    losses: &mut Losses,
) -> Result<Function<'a>, Invalid> {
    let Tool { name, description, schema, strict, .. } = tool;
    let (description, parameters) = (description.as_deref(), schema.as_deref());
    let refused = official && *strict == Some(true) && !parameters.is_none_or(may_be_strict);
    if refused {
        losses.lose(Field::StrictTools, Fate::Dropped)?;
    }
    Ok(Function { name, description, parameters, strict: strict.filter(|_| !refused) })
}

fn custom(tool: &Tool) -> Custom<'_> {
    let format =
        tool.grammar.as_deref().map(|format| match serde_json::from_str::<Grammar>(format.get()) {
            Ok(grammar) => CustomFormat::Nested { kind: "grammar", grammar },
            Err(_) => CustomFormat::AsItIs(format),
        });
    Custom { name: &tool.name, description: tool.description.as_deref(), format }
}

pub(super) fn write_choice<'a>(request: &'a Request, rules: &Rules) -> Option<ToldChoice<'a>> {
    let custom = request.tools.iter().filter(|tool| tool.kind == ToolKind::Custom);
    let custom: HashSet<&str> = custom.map(|tool| tool.name.as_str()).collect();
    let named = |name: &'a str| {
        if custom.contains(name) {
            Named::Custom { custom: Name { name } }
        } else {
            Named::Function { function: Name { name } }
        }
    };
    Some(match request.tool_choice.as_ref()? {
        ToolChoice::Auto => ToldChoice::Word("auto"),
        ToolChoice::None => ToldChoice::Word("none"),
        ToolChoice::Required => ToldChoice::Word("required"),
        ToolChoice::Named(name) => ToldChoice::Named(named(name)),
        ToolChoice::Among { names, required } => {
            let mode = if *required { "required" } else { "auto" };
            if !is_official(rules) {
                return Some(ToldChoice::Word(mode));
            }
            let tools = names.iter().map(|name| named(name)).collect();
            let allowed_tools = Allowed { mode, tools };
            ToldChoice::Among { kind: "allowed_tools", allowed_tools }
        }
    })
}
