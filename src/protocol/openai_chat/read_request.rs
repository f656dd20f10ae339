//! Reads a client's request.

use super::{read_messages, read_tools};
use crate::protocol::canonical::{
    Asked, Effort, Format, Invalid, Json, Losses, Reasoning, Request, Schema,
};
use crate::protocol::json::{Mistyped, Object};

/// Reads the body of a call of `/v1/chat/completions`.
///
/// <https://platform.openai.com/docs/api-reference/chat/create>, and what servers and clients have
/// added: `top_k`, `min_p`, `thinking`, `OpenRouter`'s `reasoning`.
pub fn read_request(body: &[u8], asked: &Asked, losses: &mut Losses) -> Result<Request, Invalid> {
    let text = str::from_utf8(body).map_err(|_| Invalid::request("", "the body is no UTF-8"))?;
    let mut members = Object::parse(text, "body").map_err(mistyped(""))?;
    let object = &mut members;
    let model = asked.model.map(str::to_owned);
    let Some(model) = model.or(object.string("model").map_err(mistyped(""))?) else {
        return Err(Invalid::request("model", "`model` is missing"));
    };
    let mut request = Request { model, ..Request::default() };
    read_messages::read_messages(object, &mut request, losses)?;
    read_tools::read_tools(object, &mut request, losses)?;
    read_numbers(object, &mut request).map_err(mistyped(""))?;
    read_words(object, &mut request).map_err(mistyped(""))?;
    read_metadata(object, &mut request, losses)?;
    read_stop(object, &mut request)?;
    read_format(object, &mut request, losses)?;
    read_reasoning(object, &mut request, losses)?;
    read_stream(object, &mut request, losses)?;
    read_output(object, losses)?;
    drop_rest(object, "", losses)?;
    Ok(request)
}

/// What a member of the wrong type is refused with; `within` is what it stands in.
pub(super) fn mistyped(within: &str) -> impl Fn(Mistyped) -> Invalid {
    move |Mistyped { name, expected }| {
        let param = if within.is_empty() { name } else { format!("{within}.{name}") };
        let message = format!("`{param}` must be {expected}");
        Invalid::Request { param, message }
    }
}

/// Names the members that nobody has taken out of an object called `within`.
pub(super) fn drop_rest(object: &Object, within: &str, losses: &mut Losses) -> Result<(), Invalid> {
    for name in object.rest() {
        let separator = if within.is_empty() { "" } else { "." };
        losses.drop_member(&format!("{within}{separator}{name}"))?;
    }
    Ok(())
}

fn read_numbers(object: &mut Object, request: &mut Request) -> Result<(), Mistyped> {
    let older = object.unsigned("max_tokens")?;
    request.max_output = object.unsigned("max_completion_tokens")?.or(older);
    request.temperature = object.number("temperature")?;
    request.top_p = object.number("top_p")?;
    // -1 is vLLM's way to say: all.
    let top_k = object.read::<i64>("top_k", "a whole number")?;
    request.top_k = top_k.and_then(|top_k| u64::try_from(top_k).ok());
    request.min_p = object.number("min_p")?;
    request.seed = object.read("seed", "a whole number")?;
    request.candidates = object.unsigned("n")?.filter(|n| *n != 1);
    request.presence_penalty = object.number("presence_penalty")?;
    request.frequency_penalty = object.number("frequency_penalty")?;
    let alternatives = object.unsigned("top_logprobs")?;
    let logprobs = object.boolean("logprobs")?.unwrap_or(false);
    request.logprobs = logprobs.then_some(alternatives.unwrap_or(0));
    let bias = object.take("logit_bias").filter(|bias| bias.get() != "{}");
    request.logit_bias = bias.map(ToOwned::to_owned);
    Ok(())
}

fn read_words(object: &mut Object, request: &mut Request) -> Result<(), Mistyped> {
    request.verbosity = object.string("verbosity")?;
    request.service_tier = object.string("service_tier")?;
    request.cache_key = object.string("prompt_cache_key")?;
    // The newer name of the two.
    let newer = object.string("safety_identifier")?;
    request.user = object.string("user")?.or(newer);
    Ok(())
}

/// The most members that `OpenAI` takes of a call's metadata.
const MOST_METADATA: usize = 16;

fn read_metadata(
    object: &mut Object,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    let Some(metadata) = object.object("metadata").map_err(mistyped(""))? else { return Ok(()) };
    for (name, value) in metadata.into_rest() {
        if request.metadata.len() == MOST_METADATA {
            return losses.drop_member("metadata");
        }
        let Ok(value) = serde_json::from_str(value.get()) else {
            return Err(mistyped("metadata")(Mistyped::new(&name, "a string")));
        };
        request.metadata.push((name.into_owned(), value));
    }
    Ok(())
}

fn read_stop(object: &mut Object, request: &mut Request) -> Result<(), Invalid> {
    let Some(stop) = object.take("stop") else { return Ok(()) };
    if let Ok(stop) = serde_json::from_str(stop.get()) {
        request.stop = vec![stop];
        return Ok(());
    }
    request.stop = serde_json::from_str(stop.get())
        .map_err(|_| Invalid::request("stop", "`stop` must be a string or an array of strings"))?;
    Ok(())
}

fn read_format(
    object: &mut Object,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    const PARAM: &str = "response_format";
    let Some(mut format) = object.object(PARAM).map_err(mistyped(""))? else { return Ok(()) };
    let within = mistyped(PARAM);
    request.format = match format.string("type").map_err(&within)?.as_deref() {
        Some("text") | None => Format::Text,
        Some("json_object") => Format::JsonObject,
        Some("json_schema") => {
            let schema = format.object("json_schema").map_err(&within)?;
            let mut schema = schema.ok_or_else(|| {
                Invalid::request(PARAM, "`response_format.json_schema` is missing")
            })?;
            let within = mistyped("response_format.json_schema");
            let read = Schema {
                name: schema.string("name").map_err(&within)?.unwrap_or_default(),
                description: schema.string("description").map_err(&within)?,
                schema: schema.take("schema").map_or_else(any_object, ToOwned::to_owned),
                strict: schema.boolean("strict").map_err(&within)?,
            };
            drop_rest(&schema, "response_format.json_schema", losses)?;
            Format::JsonSchema(read)
        }
        Some(other) => {
            let message = format!("`response_format.type` {other:?} is not known");
            return Err(Invalid::request("response_format.type", message));
        }
    };
    drop_rest(&format, PARAM, losses)
}

/// The schema of a format that has none.
fn any_object() -> Json {
    let schema = serde_json::value::RawValue::from_string(r#"{"type":"object"}"#.to_owned());
    schema.unwrap_or_default()
}

fn read_reasoning(
    object: &mut Object,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    let mut reasoning = Reasoning::default();
    if let Some(word) = object.string("reasoning_effort").map_err(mistyped(""))? {
        reasoning.effort = Some(effort("reasoning_effort", &word)?);
    }
    // OpenRouter's form of it.
    if let Some(mut theirs) = object.object("reasoning").map_err(mistyped(""))? {
        let within = mistyped("reasoning");
        if let Some(word) = theirs.string("effort").map_err(&within)? {
            reasoning.effort = Some(effort("reasoning.effort", &word)?);
        }
        reasoning.enabled = theirs.boolean("enabled").map_err(&within)?;
        reasoning.budget = theirs.unsigned("max_tokens").map_err(&within)?;
        reasoning.shown = theirs.boolean("exclude").map_err(&within)?.map(|hidden| !hidden);
        drop_rest(&theirs, "reasoning", losses)?;
    }
    // Anthropic's, which many clients send in this dialect as well.
    if let Some(mut thinking) = object.object("thinking").map_err(mistyped(""))? {
        let within = mistyped("thinking");
        match thinking.string("type").map_err(&within)?.as_deref() {
            Some("enabled" | "adaptive") => reasoning.enabled = Some(true),
            Some("disabled") => reasoning.enabled = Some(false),
            _ => return Err(Invalid::request("thinking.type", "`thinking.type` is not known")),
        }
        let budget = thinking.unsigned("budget_tokens").map_err(&within)?;
        reasoning.budget = budget.or(reasoning.budget);
        drop_rest(&thinking, "thinking", losses)?;
    }
    if reasoning.effort == Some(Effort::None) {
        reasoning.enabled = Some(false);
    }
    // Who asks for reasoning is told it, unless they say that they do not want to be.
    if !reasoning.is_default() && reasoning.enabled != Some(false) {
        reasoning.shown.get_or_insert(true);
    }
    request.reasoning = reasoning;
    Ok(())
}

fn effort(param: &str, word: &str) -> Result<Effort, Invalid> {
    let unknown = || Invalid::request(param, format!("`{param}` {word:?} is not known"));
    Effort::parse(word).ok_or_else(unknown)
}

fn read_stream(
    object: &mut Object,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    const PARAM: &str = "stream_options";
    request.stream = object.boolean("stream").map_err(mistyped(""))?.unwrap_or(false);
    let Some(mut options) = object.object(PARAM).map_err(mistyped(""))? else { return Ok(()) };
    let within = mistyped(PARAM);
    let usage = options.boolean("include_usage").map_err(&within)?.unwrap_or(false);
    request.stream_usage = request.stream && usage;
    // These are so where they are not asked for.
    for name in ["include_obfuscation", "continuous_usage_stats"] {
        if options.boolean(name).map_err(&within)?.unwrap_or(false) {
            losses.drop_member(&format!("{PARAM}.{name}"))?;
        }
    }
    drop_rest(&options, PARAM, losses)
}

/// What is asked of the answer beside its text.
fn read_output(object: &mut Object, losses: &mut Losses) -> Result<(), Invalid> {
    let only_text =
        |why: &str| Invalid::Unsupported { param: "modalities".to_owned(), why: why.to_owned() };
    let modalities: Option<Vec<String>> =
        object.read("modalities", "an array of strings").map_err(mistyped(""))?;
    for modality in modalities.into_iter().flatten() {
        match modality.as_str() {
            "text" => {}
            // Models that draw do so unasked.
            "image" => losses.drop_member("modalities")?,
            _ => return Err(only_text("the answer can only be text")),
        }
    }
    if object.take("audio").is_some() {
        return Err(Invalid::Unsupported {
            param: "audio".to_owned(),
            why: "the answer can only be text".to_owned(),
        });
    }
    if object.boolean("store").map_err(mistyped(""))?.unwrap_or(false) {
        losses.drop_member("store")?;
    }
    Ok(())
}
