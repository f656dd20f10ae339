//! Reads the tools of a request, and which of them shall be called.

use serde_json::value::RawValue;

use super::read_parts::cache_mark;
use super::read_request::{drop_rest, mistyped};
use crate::protocol::canonical::{Invalid, Losses, Request, Tool, ToolChoice, ToolKind};
use crate::protocol::json::Object;

/// Reads `tools`, `tool_choice`, `parallel_tool_calls`, and the older `functions`, `function_call`.
pub(super) fn read_tools(
    object: &mut Object,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    let tools = object.array("tools").map_err(mistyped(""))?.unwrap_or_default();
    for tool in &tools {
        let fault = |_| Invalid::request("tools", "`tools` must be objects");
        let mut tool = Object::parse(tool.get(), "").map_err(fault)?;
        request.tools.extend(read_tool(&mut tool, losses)?);
    }
    let functions = object.array("functions").map_err(mistyped(""))?.unwrap_or_default();
    if !functions.is_empty() && !tools.is_empty() {
        let message = "`functions` and `tools` cannot stand in one request";
        return Err(Invalid::request("functions", message));
    }
    for function in functions {
        let fault = |_| Invalid::request("functions", "`functions` must be objects");
        let mut function = Object::parse(function.get(), "").map_err(fault)?;
        request.tools.push(read_function(&mut function, "functions", losses)?);
    }
    if let Some(choice) = object.take("tool_choice") {
        request.tool_choice = Some(read_choice(choice, losses)?);
    }
    if let Some(choice) = object.take("function_call") {
        request.tool_choice = Some(read_function_call(choice)?);
    }
    request.parallel_tools = object.boolean("parallel_tool_calls").map_err(mistyped(""))?;
    Ok(())
}

/// A tool; `None` for one that only the server it was meant for has.
fn read_tool(tool: &mut Object, losses: &mut Losses) -> Result<Option<Tool>, Invalid> {
    let missing = |param: &str| Invalid::request(param, format!("`{param}` is missing"));
    let kind = tool.string("type").map_err(mistyped("tools"))?;
    let cache = cache_mark(tool, "tools")?;
    let mut read = match kind.as_deref() {
        Some("function") => {
            let function = tool.object("function").map_err(mistyped("tools"))?;
            let mut function = function.ok_or_else(|| missing("tools.function"))?;
            read_function(&mut function, "tools.function", losses)?
        }
        Some("custom") => {
            let custom = tool.object("custom").map_err(mistyped("tools"))?;
            read_custom(&mut custom.ok_or_else(|| missing("tools.custom"))?, losses)?
        }
        Some(other) => {
            losses.drop_member(&format!("tools.{other}"))?;
            return Ok(None);
        }
        None => return Err(missing("tools.type")),
    };
    drop_rest(tool, "tools", losses)?;
    read.cache = read.cache.or(cache);
    Ok(Some(read))
}

fn read_function(
    function: &mut Object,
    within: &str,
    losses: &mut Losses,
) -> Result<Tool, Invalid> {
    let wrong = mistyped(within);
    let name = function.string("name").map_err(&wrong)?;
    let missing =
        || Invalid::request(format!("{within}.name"), format!("`{within}.name` is missing"));
    let tool = Tool {
        name: name.filter(|name| !name.is_empty()).ok_or_else(missing)?,
        namespace: None,
        description: function.string("description").map_err(&wrong)?,
        kind: ToolKind::Function,
        schema: function.take("parameters").map(ToOwned::to_owned),
        strict: function.boolean("strict").map_err(&wrong)?,
        grammar: None,
        cache: cache_mark(function, within)?,
    };
    drop_rest(function, within, losses)?;
    Ok(tool)
}

fn read_custom(custom: &mut Object, losses: &mut Losses) -> Result<Tool, Invalid> {
    const WITHIN: &str = "tools.custom";
    let wrong = mistyped(WITHIN);
    let name = custom.string("name").map_err(&wrong)?;
    let missing = || Invalid::request("tools.custom.name", "`tools.custom.name` is missing");
    let tool = Tool {
        name: name.filter(|name| !name.is_empty()).ok_or_else(missing)?,
        namespace: None,
        description: custom.string("description").map_err(&wrong)?,
        kind: ToolKind::Custom,
        schema: None,
        strict: None,
        grammar: custom.take("format").filter(|it| !is_text(it)).map(ToOwned::to_owned),
        cache: None,
    };
    drop_rest(custom, WITHIN, losses)?;
    Ok(tool)
}

/// `{"type": "text"}` says what is the case without it.
fn is_text(format: &RawValue) -> bool {
    let kind = Object::parse(format.get(), "format").and_then(|mut it| it.string("type"));
    kind.is_ok_and(|kind| kind.as_deref() == Some("text"))
}

fn read_choice(choice: &RawValue, losses: &mut Losses) -> Result<ToolChoice, Invalid> {
    const PARAM: &str = "tool_choice";
    let unknown = || Invalid::request(PARAM, "`tool_choice` is not known");
    if let Ok(word) = serde_json::from_str::<String>(choice.get()) {
        return match word.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            // Mistral's word.
            "required" | "any" => Ok(ToolChoice::Required),
            _ => Err(unknown()),
        };
    }
    let wrong = mistyped(PARAM);
    let mut choice = Object::parse(choice.get(), PARAM).map_err(mistyped(""))?;
    let kind = choice.string("type").map_err(&wrong)?.unwrap_or_default();
    match kind.as_str() {
        "function" | "custom" => {
            let named = choice.object(&kind).map_err(&wrong)?;
            let name = named.ok_or_else(unknown)?.string("name").map_err(&wrong)?;
            Ok(ToolChoice::Named(name.ok_or_else(unknown)?))
        }
        "allowed_tools" => {
            let mut allowed = choice.object(&kind).map_err(&wrong)?.ok_or_else(unknown)?;
            let mode = allowed.string("mode").map_err(&wrong)?;
            let mut names = Vec::new();
            for tool in allowed.array("tools").map_err(&wrong)?.unwrap_or_default() {
                let mut tool = Object::parse(tool.get(), "tools").map_err(&wrong)?;
                let kind = tool.string("type").map_err(&wrong)?.unwrap_or_default();
                match tool.object(&kind).map_err(&wrong)? {
                    Some(mut tool) => names.extend(tool.string("name").map_err(&wrong)?),
                    None => losses.drop_member(&format!("tool_choice.{kind}"))?,
                }
            }
            Ok(ToolChoice::Among { names, required: mode.as_deref() == Some("required") })
        }
        _ => Err(unknown()),
    }
}

/// The older form: a word, or `{"name": …}`.
fn read_function_call(choice: &RawValue) -> Result<ToolChoice, Invalid> {
    const PARAM: &str = "function_call";
    let unknown = || Invalid::request(PARAM, "`function_call` is not known");
    match serde_json::from_str::<String>(choice.get()).ok().as_deref() {
        Some("auto") => return Ok(ToolChoice::Auto),
        Some("none") => return Ok(ToolChoice::None),
        Some(_) => return Err(unknown()),
        None => {}
    }
    let mut choice = Object::parse(choice.get(), PARAM).map_err(mistyped(""))?;
    let name = choice.string("name").map_err(mistyped(PARAM))?;
    name.map(ToolChoice::Named).ok_or_else(unknown)
}
