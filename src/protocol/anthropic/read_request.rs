//! Requests, as Anthropic's clients write them.

use serde_json::value::RawValue;

use super::read_content::{cache_mark, name_rest, named, read_content, read_texts};
use crate::protocol::canonical::{
    Asked, Block, Effort, Format, Invalid, Losses, Request, Role, Schema, Tool, ToolChoice,
    ToolKind, Turn,
};
use crate::protocol::json::{Mistyped, Object};

/// How the first block of Claude Code's instructions begins. It differs from call to call, would defeat
/// any cache of prefixes, and is for Anthropic alone.
const BILLING: &str = "x-anthropic-billing-header";

/// Reads the body of a request. `max_tokens` may be absent, as it is where tokens are counted.
pub fn read_request(body: &[u8], asked: &Asked, losses: &mut Losses) -> Result<Request, Invalid> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Invalid::request("", "the body is not valid UTF-8"))?;
    let mut body = Object::parse(text, "body").map_err(named(""))?;
    let mut request = Request {
        model: match body.string("model").map_err(named(""))? {
            Some(model) => model,
            None => asked.model.map(str::to_owned).ok_or_else(|| required("model"))?,
        },
        system: match body.take("system") {
            Some(system) => instructions(system, losses)?,
            None => Vec::new(),
        },
        turns: turns(&mut body, losses)?,
        stream: body.boolean("stream").map_err(named(""))?.unwrap_or(asked.stream),
        // Every stream of Anthropic's tells it.
        stream_usage: true,
        ..Request::default()
    };
    sampling(&mut body, &mut request)?;
    tools(&mut body, &mut request, losses)?;
    reasoning(&mut body, &mut request, losses)?;
    output_config(&mut body, &mut request, losses)?;
    if let Some(mut metadata) = body.object("metadata").map_err(named(""))? {
        request.user = metadata.string("user_id").map_err(named("metadata"))?;
        name_rest(&metadata, "metadata", losses)?;
    }
    if let (Some(mark), Some(last)) = (cache_mark(&mut body, "", losses)?, request.turns.last_mut())
    {
        last.blocks.push(Block::Cache(mark));
    }
    if body.has("container") {
        let why = "it lies at Anthropic".to_owned();
        return Err(Invalid::Unsupported { param: "container".to_owned(), why });
    }
    beside(&mut body, losses)?;
    name_rest(&body, "", losses)?;
    Ok(request)
}

fn required(name: &str) -> Invalid {
    Invalid::request(name, format!("`{name}` is required"))
}

/// Members that are about the way a body came here, and one that may say what is the case anyway.
fn beside(body: &mut Object, losses: &mut Losses) -> Result<(), Invalid> {
    for name in ["anthropic_version", "anthropic_beta"] {
        body.take(name);
    }
    match body.string("speed").map_err(named(""))? {
        Some(speed) if speed != "standard" => losses.drop_member("speed"),
        _ => Ok(()),
    }
}

fn instructions(system: &RawValue, losses: &mut Losses) -> Result<Vec<Block>, Invalid> {
    let mut blocks = read_texts(system, "system", losses)?;
    let billed =
        matches!(blocks.first(), Some(Block::Text { text, .. }) if text.starts_with(BILLING));
    if billed && !system.get().starts_with('"') {
        let marked = usize::from(matches!(blocks.get(1), Some(Block::Cache(_))));
        blocks.drain(..=marked);
    }
    Ok(blocks)
}

fn turns(body: &mut Object, losses: &mut Losses) -> Result<Vec<Turn>, Invalid> {
    let messages = body.array("messages").map_err(named(""))?;
    let messages = messages.ok_or_else(|| required("messages"))?;
    messages.into_iter().map(|message| turn(message, losses)).collect()
}

fn turn(message: &RawValue, losses: &mut Losses) -> Result<Turn, Invalid> {
    let mut message = Object::parse(message.get(), "messages").map_err(named(""))?;
    let role = message.string("role").map_err(named("messages"))?;
    let role = match role.as_deref() {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        _ => {
            let expected = "`user`, `assistant` or `system`";
            return Err(named("messages")(Mistyped::new("role", expected)));
        }
    };
    let content = message.take("content").ok_or_else(|| required("messages.content"))?;
    let blocks = match role {
        Role::System => read_texts(content, "messages.content", losses)?,
        _ => read_content(content, losses)?,
    };
    name_rest(&message, "messages", losses)?;
    Ok(Turn { role, blocks })
}

fn sampling(body: &mut Object, request: &mut Request) -> Result<(), Invalid> {
    request.max_output = body.unsigned("max_tokens").map_err(named(""))?;
    if request.max_output == Some(0) {
        let why = "0 fills a cache and asks for no answer, which no other provider does".to_owned();
        return Err(Invalid::Unsupported { param: "max_tokens".to_owned(), why });
    }
    request.temperature = body.number("temperature").map_err(named(""))?;
    request.top_p = body.number("top_p").map_err(named(""))?;
    request.top_k = body.unsigned("top_k").map_err(named(""))?;
    request.service_tier = body.string("service_tier").map_err(named(""))?;
    let stop: Option<Vec<String>> =
        body.read("stop_sequences", "an array of strings").map_err(named(""))?;
    request.stop = stop.unwrap_or_default();
    Ok(())
}

fn tools(body: &mut Object, request: &mut Request, losses: &mut Losses) -> Result<(), Invalid> {
    // Tools that Anthropic runs, or that only its models know by heart.
    let mut foreign = Vec::new();
    for value in body.array("tools").map_err(named(""))?.unwrap_or_default() {
        let mut tool = Object::parse(value.get(), "tools").map_err(named(""))?;
        let kind = tool.string("type").map_err(named("tools"))?;
        match kind.filter(|kind| kind != "custom") {
            None => request.tools.push(read_tool(&mut tool, losses)?),
            Some(kind) => {
                losses.drop_member(&format!("tools.{kind}"))?;
                foreign.extend(tool.string("name").map_err(named("tools"))?);
            }
        }
    }
    let Some(mut choice) = body.object("tool_choice").map_err(named(""))? else { return Ok(()) };
    let at = named("tool_choice");
    let kind = choice.string("type").map_err(&at)?.ok_or_else(|| required("tool_choice.type"))?;
    let name = choice.string("name").map_err(&at)?;
    if choice.boolean("disable_parallel_tool_use").map_err(&at)? == Some(true) {
        request.parallel_tools = Some(false);
    }
    name_rest(&choice, "tool_choice", losses)?;
    let read = match (kind.as_str(), name) {
        ("auto", _) => ToolChoice::Auto,
        ("none", _) => ToolChoice::None,
        ("any", _) => ToolChoice::Required,
        ("tool", Some(name)) => ToolChoice::Named(name),
        ("tool", None) => return Err(required("tool_choice.name")),
        _ => return Err(at(Mistyped::new("type", "`auto`, `any`, `tool` or `none`"))),
    };
    let demands_foreign = match &read {
        ToolChoice::Named(name) => foreign.contains(name),
        ToolChoice::Required => request.tools.is_empty() && !foreign.is_empty(),
        _ => false,
    };
    if demands_foreign {
        let why = "the tool it demands is one of Anthropic's own".to_owned();
        return Err(Invalid::Unsupported { param: "tool_choice".to_owned(), why });
    }
    request.tool_choice = (!request.tools.is_empty()).then_some(read);
    Ok(())
}

fn read_tool(tool: &mut Object, losses: &mut Losses) -> Result<Tool, Invalid> {
    let at = named("tools");
    let read = Tool {
        name: tool.string("name").map_err(&at)?.ok_or_else(|| required("tools.name"))?,
        namespace: None,
        description: tool.string("description").map_err(&at)?,
        kind: ToolKind::Function,
        schema: tool.take("input_schema").map(RawValue::to_owned),
        strict: tool.boolean("strict").map_err(&at)?,
        grammar: None,
        cache: cache_mark(tool, "tools", losses)?,
    };
    for hint in ["defer_loading", "eager_input_streaming"] {
        if tool.boolean(hint).map_err(&at)? == Some(true) {
            losses.drop_member(&format!("tools.{hint}"))?;
        }
    }
    name_rest(tool, "tools", losses)?;
    Ok(read)
}

fn reasoning(body: &mut Object, request: &mut Request, losses: &mut Losses) -> Result<(), Invalid> {
    let Some(mut thinking) = body.object("thinking").map_err(named(""))? else { return Ok(()) };
    let at = named("thinking");
    let kind = thinking.string("type").map_err(&at)?.ok_or_else(|| required("thinking.type"))?;
    let reasoning = &mut request.reasoning;
    match kind.as_str() {
        "disabled" => reasoning.enabled = Some(false),
        "enabled" | "adaptive" => reasoning.enabled = Some(true),
        other => losses.drop_member(&format!("thinking.{other}"))?,
    }
    reasoning.budget = thinking.unsigned("budget_tokens").map_err(&at)?;
    reasoning.shown = match thinking.string("display").map_err(&at)?.as_deref() {
        Some("summarized") => Some(true),
        Some("omitted") => Some(false),
        // Who turns thinking on by a budget reads it, unless it says otherwise.
        Some(_) | None => (kind == "enabled").then_some(true),
    };
    name_rest(&thinking, "thinking", losses)
}

fn output_config(
    body: &mut Object,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    // Where the format stood before there was an `output_config`.
    let mut format = body.object("output_format").map_err(named(""))?;
    if let Some(mut config) = body.object("output_config").map_err(named(""))? {
        let at = named("output_config");
        if let Some(effort) = config.string("effort").map_err(&at)? {
            request.reasoning.effort = Effort::parse(&effort);
            if request.reasoning.effort.is_none() {
                losses.drop_member("output_config.effort")?;
            }
        }
        format = config.object("format").map_err(&at)?.or(format);
        name_rest(&config, "output_config", losses)?;
    }
    let Some(mut format) = format else { return Ok(()) };
    let at = named("output_config.format");
    if format.string("type").map_err(&at)?.as_deref() != Some("json_schema") {
        return Err(at(Mistyped::new("type", "`json_schema`")));
    }
    let schema = format.take("schema").ok_or_else(|| required("output_config.format.schema"))?;
    let name = format.string("name").map_err(&at)?.unwrap_or_else(|| "output".to_owned());
    let description = format.string("description").map_err(&at)?;
    name_rest(&format, "output_config.format", losses)?;
    let schema = Schema { name, description, schema: schema.to_owned(), strict: Some(true) };
    request.format = Format::JsonSchema(schema);
    Ok(())
}
