//! Requests as clients of the responses API write them.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::mistyped;
use super::read_input::Input;
use super::read_tools::Tools;
use crate::protocol::canonical::{
    Asked, Block, Effort, Format, Invalid, Losses, Reasoning, Request, Schema,
};
use crate::protocol::json::{Mistyped, Object};

/// What stands for things that lie at a provider: (member, why it cannot be read).
const STORED: [(&str, &str); 3] = [
    ("previous_response_id", "the earlier response is not known here"),
    ("conversation", "the conversation lies at another provider"),
    ("prompt", "the prompt lies at another provider"),
];

/// Reads a request.
pub fn read_request(body: &[u8], asked: &Asked, losses: &mut Losses) -> Result<Request, Invalid> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Invalid::request("body", "the body is not valid UTF-8"))?;
    let mut body = Object::parse(text, "body").map_err(mistyped(""))?;
    let at = mistyped("");
    for (name, why) in STORED {
        if body.has(name) {
            return Err(Invalid::Unsupported { param: name.to_owned(), why: why.to_owned() });
        }
    }
    if body.boolean("background").map_err(&at)? == Some(true) {
        let why = "the answer would have to be kept until it is asked for".to_owned();
        return Err(Invalid::Unsupported { param: "background".to_owned(), why });
    }
    let model = body.string("model").map_err(&at)?;
    let model = asked.model.map(str::to_owned).or(model);
    let mut request = Request {
        model: model.ok_or_else(|| Invalid::request("model", "`model` is missing"))?,
        // Usage stands in the last event, whoever asks.
        stream_usage: true,
        stream: body.boolean("stream").map_err(&at)?.unwrap_or(asked.stream),
        ..Request::default()
    };
    read_conversation(&mut body, &mut request, losses)?;
    read_parameters(&mut body, &mut request, losses)?;
    read_text(&mut body, &mut request, losses)?;
    request.reasoning = read_reasoning(&mut body, losses)?;
    read_hints(&mut body, &mut request, losses)?;
    body.rest().try_for_each(|name| losses.drop_member(name))?;
    Ok(request)
}

fn read_conversation(
    body: &mut Object,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    let at = mistyped("");
    let instructions = body.string("instructions").map_err(&at)?.filter(|text| !text.is_empty());
    let mut tools = Tools::default();
    if let Some(list) = body.array("tools").map_err(&at)? {
        tools.read(&list, losses)?;
    }
    let input = body.take("input");
    let input = input.ok_or_else(|| Invalid::request("input", "`input` is missing"))?;
    let mut conversation = Input::default();
    conversation.read(input, &mut tools, losses)?;
    request.system = instructions.map(Block::text).into_iter().chain(conversation.system).collect();
    request.turns = conversation.turns;
    if let Some(choice) = body.take("tool_choice") {
        request.tool_choice = tools.read_choice(choice, losses)?;
    }
    request.tools = tools.offered;
    request.parallel_tools = body.boolean("parallel_tool_calls").map_err(&at)?;
    Ok(())
}

fn read_parameters(
    body: &mut Object,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    let at = mistyped("");
    request.max_output = body.unsigned("max_output_tokens").map_err(&at)?;
    request.temperature = body.number("temperature").map_err(&at)?;
    request.top_p = body.number("top_p").map_err(&at)?;
    // vLLM's own.
    request.top_k = body.unsigned("top_k").map_err(&at)?;
    request.seed = body.read("seed", "a whole number").map_err(&at)?;
    request.logit_bias = body.take("logit_bias").map(RawValue::to_owned);
    request.stop = read_stop(body)?;
    let alternatives = body.unsigned("top_logprobs").map_err(&at)?.unwrap_or(0);
    let mut wanted = alternatives > 0;
    for what in
        body.read::<Vec<String>>("include", "an array of strings").map_err(&at)?.iter().flatten()
    {
        match what.as_str() {
            // It is always there.
            "reasoning.encrypted_content" => {}
            "message.output_text.logprobs" => wanted = true,
            // Of tools that run at their provider.
            _ => losses.drop_member("include")?,
        }
    }
    request.logprobs = wanted.then_some(alternatives);
    Ok(())
}

fn read_stop(body: &mut Object) -> Result<Vec<String>, Invalid> {
    let at = mistyped("");
    match body.take("stop") {
        None => Ok(Vec::new()),
        Some(stop) => {
            let one = serde_json::from_str(stop.get()).map(|stop: String| vec![stop]);
            one.or_else(|_| serde_json::from_str(stop.get()))
                .map_err(|_| at(Mistyped::new("stop", "a string or an array of strings")))
        }
    }
}

/// What the answer's text shall be like.
fn read_text(body: &mut Object, request: &mut Request, losses: &mut Losses) -> Result<(), Invalid> {
    let Some(mut text) = body.object("text").map_err(mistyped(""))? else { return Ok(()) };
    let at = mistyped("text");
    request.verbosity = text.string("verbosity").map_err(&at)?;
    if let Some(mut format) = text.object("format").map_err(&at)? {
        request.format = read_format(&mut format)?;
        format.rest().try_for_each(|name| losses.drop_member(&format!("text.format.{name}")))?;
    }
    text.rest().try_for_each(|name| losses.drop_member(&format!("text.{name}")))
}

fn read_format(format: &mut Object) -> Result<Format, Invalid> {
    let at = mistyped("text.format");
    let kind = format.string("type").map_err(&at)?.unwrap_or_default();
    match kind.as_str() {
        "text" => Ok(Format::Text),
        "json_object" => Ok(Format::JsonObject),
        "json_schema" => {
            let schema = format.take("schema").filter(|schema| schema.get().starts_with('{'));
            let schema = schema.ok_or_else(|| at(Mistyped::new("schema", "an object")))?;
            Ok(Format::JsonSchema(Schema {
                name: format.string("name").map_err(&at)?.unwrap_or_else(|| "answer".to_owned()),
                description: format.string("description").map_err(&at)?,
                schema: schema.to_owned(),
                strict: format.boolean("strict").map_err(&at)?,
            }))
        }
        _ => {
            let why = format!("a format of type `{kind}` cannot be read");
            Err(Invalid::Unsupported { param: "text.format.type".to_owned(), why })
        }
    }
}

fn read_reasoning(body: &mut Object, losses: &mut Losses) -> Result<Reasoning, Invalid> {
    let Some(mut object) = body.object("reasoning").map_err(mistyped(""))? else {
        return Ok(Reasoning::default());
    };
    let at = mistyped("reasoning");
    let mut reasoning = Reasoning::default();
    if let Some(word) = object.string("effort").map_err(&at)? {
        match Effort::parse(&word) {
            None => losses.drop_member("reasoning.effort")?,
            effort => reasoning.effort = effort,
        }
        reasoning.enabled = (reasoning.effort == Some(Effort::None)).then_some(false);
    }
    let summary = object.string("summary").map_err(&at)?;
    let summary = summary.or(object.string("generate_summary").map_err(&at)?);
    reasoning.shown = summary.map(|summary| summary != "none");
    object.rest().try_for_each(|name| losses.drop_member(&format!("reasoning.{name}")))?;
    Ok(reasoning)
}

/// What tells the provider how to serve the call, not what to answer.
fn read_hints(
    body: &mut Object,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    let at = mistyped("");
    request.service_tier = body.string("service_tier").map_err(&at)?;
    request.cache_key = body.string("prompt_cache_key").map_err(&at)?;
    request.user = body.string("user").map_err(&at)?;
    if request.user.is_none() {
        request.user = body.string("safety_identifier").map_err(&at)?;
    }
    request.metadata = read_metadata(body)?;
    // Whether an answer is kept is not the provider's business.
    body.boolean("store").map_err(&at)?;
    if body.string("truncation").map_err(&at)?.is_some_and(|mode| mode != "disabled") {
        losses.drop_member("truncation")?;
    }
    if let Some(mut options) = body.object("stream_options").map_err(&at)? {
        let at = mistyped("stream_options");
        options.boolean("include_usage").map_err(&at)?;
        if options.boolean("include_obfuscation").map_err(&at)? == Some(true) {
            losses.drop_member("stream_options.include_obfuscation")?;
        }
        options
            .rest()
            .try_for_each(|name| losses.drop_member(&format!("stream_options.{name}")))?;
    }
    Ok(())
}

fn read_metadata(body: &mut Object) -> Result<Vec<(String, String)>, Invalid> {
    let expected = "an object of strings";
    let metadata: Option<Map<String, Value>> =
        body.read("metadata", expected).map_err(mistyped(""))?;
    let pairs = metadata.into_iter().flatten().map(|(name, value)| match value {
        Value::String(value) => Ok((name, value)),
        _ => Err(mistyped("")(Mistyped::new("metadata", expected))),
    });
    pairs.collect()
}
