//! What a client of Google's asks, read.

use serde_json::value::RawValue;

use super::members::Members;
use super::read_config::read_config;
use super::read_contents::{read_contents, read_instruction};
use super::schema::to_json_schema;
use crate::protocol::canonical::{Asked, Invalid, Losses, Request, Tool, ToolChoice, ToolKind};

/// Reads the body of `generateContent` and `streamGenerateContent`.
pub fn read_request(body: &[u8], asked: &Asked, losses: &mut Losses) -> Result<Request, Invalid> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Invalid::request("body", "the body must be UTF-8"))?;
    let mut members = Members::parse(text, "")?;
    let named = members.string("model")?;
    let mut request = Request {
        model: asked.model.map(str::to_owned).or(named).unwrap_or_default(),
        stream: asked.stream,
        // Google's streams always say it.
        stream_usage: true,
        ..Request::default()
    };
    if members.take("cachedContent").is_some() {
        let why = "what is cached lies at Google".to_owned();
        return Err(Invalid::Unsupported { param: "cachedContent".to_owned(), why });
    }
    if let Some(instruction) = members.take("systemInstruction") {
        request.system = read_instruction(instruction, losses)?;
    }
    let contents = members.array("contents")?;
    if contents.is_empty() {
        return Err(Invalid::request("contents", "`contents` must have at least one content"));
    }
    request.turns = read_contents(&contents, losses)?;
    for tool in members.array("tools")? {
        read_tool(tool, &mut request.tools, losses)?;
    }
    if let Some(config) = members.object("toolConfig")? {
        request.tool_choice = read_choice(config, losses)?;
    }
    if let Some(config) = members.object("generationConfig")? {
        read_config(config, &mut request, losses)?;
    }
    request.service_tier = members.string("serviceTier")?.filter(|tier| tier != "unspecified");
    request.metadata = read_labels(&mut members)?;
    if members.boolean("store")? == Some(true) {
        losses.drop_member("store")?;
    }
    members.drop_rest(losses)?;
    Ok(request)
}

/// An entry of `tools`: functions, and tools of Google's own, which nobody else has.
fn read_tool(tool: &RawValue, tools: &mut Vec<Tool>, losses: &mut Losses) -> Result<(), Invalid> {
    let mut tool = Members::parse(tool.get(), "tools")?;
    for declaration in tool.array("functionDeclarations")? {
        let declaration = Members::parse(declaration.get(), "tools.functionDeclarations")?;
        tools.push(read_declaration(declaration, losses)?);
    }
    tool.drop_rest(losses)
}

fn read_declaration(mut declaration: Members, losses: &mut Losses) -> Result<Tool, Invalid> {
    let name = declaration.string("name")?.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| declaration.mistyped("name", "a string"))?;
    let description = declaration.string("description")?.filter(|text| !text.is_empty());
    let plain = declaration.take("parametersJsonSchema").map(RawValue::to_owned);
    let subset = declaration.take("parameters");
    let path = declaration.at("parameters");
    let subset = subset.map(|schema| to_json_schema(schema, &path)).transpose()?;
    let schema = plain.or(subset);
    // A function that is waited for, as all are elsewhere.
    let behaviour = declaration.string("behavior")?;
    if behaviour.is_some_and(|it| !matches!(it.as_str(), "BLOCKING" | "UNSPECIFIED")) {
        losses.drop_member(&declaration.at("behavior"))?;
    }
    declaration.drop_rest(losses)?;
    Ok(Tool {
        name,
        namespace: None,
        description,
        kind: ToolKind::Function,
        schema,
        strict: None,
        grammar: None,
        cache: None,
    })
}

fn read_choice(mut config: Members, losses: &mut Losses) -> Result<Option<ToolChoice>, Invalid> {
    let calling = config.object("functionCallingConfig")?;
    config.drop_rest(losses)?;
    let Some(mut calling) = calling else { return Ok(None) };
    let names: Vec<String> =
        calling.read("allowedFunctionNames", "an array of strings")?.unwrap_or_default();
    let mode = calling.string("mode")?.map(|mode| mode.to_ascii_uppercase());
    if calling.boolean("streamFunctionCallArguments")? == Some(true) {
        losses.drop_member(&calling.at("streamFunctionCallArguments"))?;
    }
    let among = |required| {
        (!names.is_empty()).then(|| ToolChoice::Among { names: names.clone(), required })
    };
    let choice = match mode.as_deref() {
        None | Some("" | "MODE_UNSPECIFIED") => None,
        Some("AUTO") => Some(among(false).unwrap_or(ToolChoice::Auto)),
        Some("NONE") => Some(ToolChoice::None),
        Some("ANY") => Some(match names.as_slice() {
            [name] => ToolChoice::Named(name.clone()),
            _ => among(true).unwrap_or(ToolChoice::Required),
        }),
        // A choice, and a promise to keep to the schemas.
        Some("VALIDATED") => {
            losses.drop_member(&calling.at("mode"))?;
            Some(among(false).unwrap_or(ToolChoice::Auto))
        }
        Some(_) => return Err(calling.mistyped("mode", "`AUTO`, `ANY`, `NONE` or `VALIDATED`")),
    };
    calling.drop_rest(losses)?;
    Ok(choice)
}

fn read_labels(members: &mut Members) -> Result<Vec<(String, String)>, Invalid> {
    let labels: Option<serde_json::Map<String, serde_json::Value>> =
        members.read("labels", "an object of strings")?;
    let labels = labels.unwrap_or_default().into_iter();
    let label = |(name, value): (String, serde_json::Value)| match value {
        serde_json::Value::String(value) => Ok((name, value)),
        _ => Err(members.mistyped("labels", "an object of strings")),
    };
    labels.map(label).collect()
}
