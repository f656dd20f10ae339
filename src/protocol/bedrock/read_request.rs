//! Calls as clients of Converse make them.

use serde_json::value::RawValue;

use super::read_content::{blocks, cache, mistyped, name_rest, required};
use super::read_fields;
use crate::protocol::canonical::{
    Asked, Block, Effort, Format, Invalid, Losses, Request, Role, Schema, Tool, ToolChoice,
    ToolKind, Turn,
};
use crate::protocol::json::{Mistyped, Object};

/// Reads the body of `Converse` or `ConverseStream`; which of them, and the model, says the path.
pub fn read_request(body: &[u8], asked: &Asked, losses: &mut Losses) -> Result<Request, Invalid> {
    let Ok(text) = std::str::from_utf8(body) else {
        return Err(Invalid::request("body", "the body is not UTF-8"));
    };
    let mut body = Object::parse(text, "body").map_err(|it| mistyped("", it))?;
    let body = &mut body;
    let wrong = |it| mistyped("", it);
    // It stands in the path.
    body.take("modelId");
    for stored in ["guardrailConfig", "promptVariables"] {
        if body.has(stored) {
            let why = "it refers to what is kept at Bedrock".to_owned();
            return Err(Invalid::Unsupported { param: stored.to_owned(), why });
        }
    }
    let mut request = Request {
        model: asked.model.unwrap_or_default().to_owned(),
        stream: asked.stream,
        stream_usage: true,
        ..Request::default()
    };
    let system = body.array("system").map_err(wrong)?.unwrap_or_default();
    request.system = blocks(&system, "system", losses)?;
    let plain = |block: &Block| matches!(block, Block::Text { .. } | Block::Cache(_));
    if !request.system.iter().all(plain) {
        return Err(mistyped("", Mistyped::new("system", "a list of texts")));
    }
    let messages = body.array("messages").map_err(wrong)?;
    let messages = messages.ok_or_else(|| wrong(Mistyped::new("messages", "an array")))?;
    for message in messages {
        request.turns.push(turn(message, losses)?);
    }
    if let Some(inference) = body.object("inferenceConfig").map_err(wrong)? {
        self::inference(inference, &mut request, losses)?;
    }
    if let Some(tools) = body.object("toolConfig").map_err(wrong)? {
        self::tools(tools, &mut request, losses)?;
    }
    if let Some(fields) = body.object("additionalModelRequestFields").map_err(wrong)? {
        read_fields::read(fields, &mut request, losses)?;
    }
    if let Some(output) = body.object("outputConfig").map_err(wrong)? {
        self::output(output, &mut request, losses)?;
    }
    hints(body, &mut request, losses)?;
    name_rest(body, "", losses)?;
    Ok(request)
}

fn turn(message: &RawValue, losses: &mut Losses) -> Result<Turn, Invalid> {
    let mut message = Object::parse(message.get(), "messages").map_err(|it| mistyped("", it))?;
    let role = match required(&mut message, "role", "messages")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => {
            let expected = "`user`, `assistant` or `system`";
            return Err(mistyped("messages", Mistyped::new("role", expected)));
        }
    };
    let content = message.array("content").map_err(|it| mistyped("messages", it))?;
    let blocks = blocks(&content.unwrap_or_default(), "messages.content", losses)?;
    name_rest(&message, "messages", losses)?;
    Ok(Turn { role, blocks })
}

fn inference(
    mut inference: Object,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    let at = "inferenceConfig";
    let wrong = |it| mistyped(at, it);
    request.max_output = inference.unsigned("maxTokens").map_err(wrong)?;
    request.temperature = inference.number("temperature").map_err(wrong)?;
    request.top_p = inference.number("topP").map_err(wrong)?;
    let stop = inference.read("stopSequences", "an array of strings").map_err(wrong)?;
    request.stop = stop.unwrap_or_default();
    name_rest(&inference, at, losses)
}

fn tools(mut config: Object, request: &mut Request, losses: &mut Losses) -> Result<(), Invalid> {
    let at = "toolConfig";
    let wrong = |it| mistyped(at, it);
    for item in config.array("tools").map_err(wrong)?.unwrap_or_default() {
        let at = "toolConfig.tools";
        let wrong = |it| mistyped(at, it);
        let mut item = Object::parse(item.get(), at).map_err(|it| mistyped("", it))?;
        if let Some(spec) = item.object("toolSpec").map_err(wrong)? {
            request.tools.push(tool(spec, losses)?);
        } else if let Some(point) = item.object("cachePoint").map_err(wrong)? {
            let mark = cache(point, "toolConfig.tools.cachePoint", losses)?;
            if let Some(tool) = request.tools.last_mut() {
                tool.cache = Some(mark);
            }
        }
        name_rest(&item, at, losses)?;
    }
    if let Some(mut choice) = config.object("toolChoice").map_err(wrong)? {
        let at = "toolConfig.toolChoice";
        let wrong = |it| mistyped(at, it);
        request.tool_choice = if choice.take("auto").is_some() {
            Some(ToolChoice::Auto)
        } else if choice.take("any").is_some() {
            Some(ToolChoice::Required)
        } else if let Some(mut tool) = choice.object("tool").map_err(wrong)? {
            let name = required(&mut tool, "name", "toolConfig.toolChoice.tool")?;
            name_rest(&tool, "toolConfig.toolChoice.tool", losses)?;
            Some(ToolChoice::Named(name))
        } else {
            None
        };
        name_rest(&choice, at, losses)?;
    }
    name_rest(&config, at, losses)
}

fn tool(mut spec: Object, losses: &mut Losses) -> Result<Tool, Invalid> {
    let at = "toolConfig.tools.toolSpec";
    let wrong = |it| mistyped(at, it);
    let mut schema = spec.object("inputSchema").map_err(wrong)?;
    let tool = Tool {
        name: required(&mut spec, "name", at)?,
        namespace: None,
        description: spec.string("description").map_err(wrong)?,
        kind: ToolKind::Function,
        schema: schema.as_mut().and_then(|it| it.take("json")).map(RawValue::to_owned),
        strict: spec.boolean("strict").map_err(wrong)?,
        grammar: None,
        cache: None,
    };
    if let Some(schema) = &schema {
        name_rest(schema, "toolConfig.tools.toolSpec.inputSchema", losses)?;
    }
    name_rest(&spec, at, losses)?;
    Ok(tool)
}

/// `outputConfig`: a JSON Schema, as text, and how hard to think.
fn output(mut output: Object, request: &mut Request, losses: &mut Losses) -> Result<(), Invalid> {
    let at = "outputConfig.textFormat";
    let wrong = |it| mistyped(at, it);
    if let Some(mut text) = output.object("textFormat").map_err(wrong)? {
        // There is one type of it.
        text.take("type");
        let mut structure = text.object("structure").map_err(wrong)?.unwrap_or_default();
        let schema = structure.object("jsonSchema").map_err(wrong)?;
        let expected = "an object with `schema`";
        let mut schema = schema.ok_or_else(|| wrong(Mistyped::new("structure", expected)))?;
        let written = required(&mut schema, "schema", at)?;
        let Ok(parsed) = RawValue::from_string(written) else {
            return Err(wrong(Mistyped::new("schema", "a JSON Schema as a string")));
        };
        let name = schema.string("name").map_err(wrong)?;
        request.format = Format::JsonSchema(Schema {
            name: name.unwrap_or_else(|| "output".to_owned()),
            description: schema.string("description").map_err(wrong)?,
            schema: parsed,
            strict: None,
        });
        name_rest(&schema, at, losses)?;
        name_rest(&structure, at, losses)?;
        name_rest(&text, at, losses)?;
    }
    if let Some(word) = output.string("effort").map_err(|it| mistyped("outputConfig", it))? {
        match Effort::parse(&word) {
            Some(effort) => request.reasoning.effort = Some(effort),
            None => losses.drop_member("outputConfig.effort")?,
        }
    }
    name_rest(&output, "outputConfig", losses)
}

fn hints(body: &mut Object, request: &mut Request, losses: &mut Losses) -> Result<(), Invalid> {
    let wrong = |it| mistyped("", it);
    if let Some(mut tier) = body.object("serviceTier").map_err(wrong)? {
        request.service_tier = tier.string("type").map_err(|it| mistyped("serviceTier", it))?;
        name_rest(&tier, "serviceTier", losses)?;
    }
    if let Some(mut performance) = body.object("performanceConfig").map_err(wrong)? {
        let latency = performance.string("latency").map_err(wrong)?;
        if latency.is_some_and(|latency| latency != "standard") {
            losses.drop_member("performanceConfig.latency")?;
        }
        name_rest(&performance, "performanceConfig", losses)?;
    }
    let expected = "an object of strings";
    let metadata = body.read::<serde_json::Map<_, _>>("requestMetadata", expected);
    for (name, value) in metadata.map_err(wrong)?.unwrap_or_default() {
        let serde_json::Value::String(value) = value else {
            return Err(wrong(Mistyped::new("requestMetadata", expected)));
        };
        request.metadata.push((name, value));
    }
    let paths =
        body.read::<Vec<String>>("additionalModelResponseFieldPaths", "an array of strings");
    // This one is answered where it is known.
    if paths.map_err(wrong)?.unwrap_or_default().iter().any(|path| path != "/stop_sequence") {
        losses.drop_member("additionalModelResponseFieldPaths")?;
    }
    Ok(())
}
