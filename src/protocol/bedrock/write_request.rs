//! Calls as Converse takes them.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::content::Content;
use super::media::DocumentNames;
use super::model::Family;
use super::write_content::{self, Marks, NOT_FETCHED, Writer};
use super::write_thinking::{self, Thinking};
use super::write_tools::{self, ToolConfig};
use crate::protocol::anthropic::enforceable;
use crate::protocol::canonical::{
    Fate, Field, Format, Invalid, Losses, NameLimits, Request, Role, Target, Turn, arrange,
};

/// What tools may be called.
pub const NAMES: NameLimits = NameLimits {
    longest: 64,
    punctuation: "_-",
    letter_first: false,
    custom_tools: false,
    namespaces: false,
};

/// Said to a model that is to answer in JSON, for which Converse has no switch.
const JSON_ONLY: &str = "Answer with a single JSON object and nothing else.";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Call<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Content<'a>>,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Inference::is_empty")]
    inference_config: Inference<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    additional_model_request_fields: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    additional_model_response_field_paths: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    request_metadata: Map<String, Value>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Vec<Content<'a>>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Inference<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
}

impl Inference<'_> {
    fn is_empty(&self) -> bool {
        self.max_tokens.is_none()
            && self.temperature.is_none()
            && self.top_p.is_none()
            && self.stop_sequences.is_empty()
    }
}

/// Writes the body of `Converse` or `ConverseStream`, which are the same; the model stands in the path.
pub fn write_request(
    request: &Request,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    lose_what_has_no_place(request, losses)?;
    let sendable = write_content::sendable(&request.turns, losses)?;
    let turns = arrange(&sendable, write_content::rules(to))?;
    let marked_tools = request.tools.iter().filter(|tool| tool.cache.is_some()).count();
    let blocks = turns.iter().flat_map(|turn| &turn.blocks).chain(&request.system);
    let mut marks = Marks::new(to, marked_tools, Marks::count(blocks));
    let tool_config = write_tools::write(request, &turns, to, &mut marks, losses)?;
    let mut writer = Writer { marks, names: DocumentNames::default(), losses };
    let mut system = writer.system(&request.system)?;
    if matches!(request.format, Format::JsonObject) {
        system.push(Content::Text(JSON_ONLY));
    }
    let messages = messages(&turns, &mut writer)?;
    let forced = tool_config.as_ref().is_some_and(ToolConfig::is_forced);
    let thinking = write_thinking::write(request, &turns, to.rules, forced, losses)?;
    let said = thinking.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    let mut fields: Map<String, Value> = said.collect();
    let inference_config = inference(request, to, &thinking, losses)?;
    top_k(request, to, &thinking, &mut fields, losses)?;
    one_at_a_time(request, to, tool_config.as_ref(), &mut fields, losses)?;
    let asks_what_stopped =
        !inference_config.stop_sequences.is_empty() && Family::of(to) == Family::Claude;
    let call = Call {
        system,
        messages,
        inference_config,
        tool_config,
        additional_model_request_fields: fields,
        additional_model_response_field_paths: if asks_what_stopped {
            vec!["/stop_sequence"]
        } else {
            Vec::new()
        },
        output_config: output(request, to, losses)?,
        service_tier: tier(request, losses)?,
        request_metadata: metadata(request, losses)?,
    };
    serde_json::to_vec(&call).map_err(|error| Invalid::request("body", error.to_string()))
}

fn lose_what_has_no_place(request: &Request, losses: &mut Losses) -> Result<(), Invalid> {
    for (field, is_set) in [
        (Field::MinP, request.min_p.is_some()),
        (Field::Seed, request.seed.is_some()),
        (Field::Candidates, request.candidates.is_some_and(|count| count > 1)),
        (Field::PresencePenalty, request.presence_penalty.is_some_and(|it| it != 0.0)),
        (Field::FrequencyPenalty, request.frequency_penalty.is_some_and(|it| it != 0.0)),
        (Field::Logprobs, request.logprobs.is_some()),
        (Field::LogitBias, request.logit_bias.is_some()),
        (Field::Verbosity, request.verbosity.is_some()),
        (Field::User, request.user.is_some()),
        (Field::CacheKey, request.cache_key.is_some()),
    ] {
        if is_set {
            losses.lose(field, fate(field))?;
        }
    }
    Ok(())
}

fn messages<'a>(turns: &'a [Turn], writer: &mut Writer) -> Result<Vec<Message<'a>>, Invalid> {
    let mut messages = Vec::with_capacity(turns.len());
    for turn in turns {
        let role = if turn.role == Role::Assistant { "assistant" } else { "user" };
        messages.push(Message { role, content: writer.turn(turn)? });
    }
    Ok(messages)
}

fn inference<'a>(
    request: &'a Request,
    to: &Target,
    thinking: &Thinking,
    losses: &mut Losses,
) -> Result<Inference<'a>, Invalid> {
    let mut inference = Inference {
        max_tokens: request.max_output.map(|most| most.max(1)),
        ..Inference::default()
    };
    let draws = to.rules.sampling && !thinking.binds_sampling;
    let temperature = request.temperature.map(|it| it.clamp(0.0, 1.0));
    match temperature {
        // What it is anyway.
        Some(1.0) if to.rules.sampling && thinking.binds_sampling => {}
        Some(_) if draws => inference.temperature = temperature,
        Some(_) => losses.lose(Field::Temperature, Fate::Dropped)?,
        None => {}
    }
    let both = inference.temperature.is_some() && !to.rules.temperature_with_top_p;
    match request.top_p {
        Some(_) if draws && !both => inference.top_p = request.top_p,
        Some(_) => losses.lose(Field::TopP, Fate::Dropped)?,
        None => {}
    }
    if to.rules.stop {
        let says = |text: &&str| !text.trim().is_empty();
        inference.stop_sequences = request.stop.iter().map(String::as_str).filter(says).collect();
    }
    if inference.stop_sequences.len() < request.stop.len() {
        losses.lose(Field::Stop, Fate::Dropped)?;
    }
    Ok(inference)
}

fn top_k(
    request: &Request,
    to: &Target,
    thinking: &Thinking,
    fields: &mut Map<String, Value>,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    let Some(top_k) = request.top_k else { return Ok(()) };
    let draws = to.rules.sampling && !thinking.binds_sampling;
    match Family::of(to) {
        Family::Claude if draws => fields.insert("top_k".to_owned(), top_k.into()),
        Family::Nova if draws => {
            fields.insert("inferenceConfig".to_owned(), json!({ "topK": top_k }))
        }
        _ => return losses.lose(Field::TopK, Fate::Dropped),
    };
    Ok(())
}

/// Claude's own `tool_choice` says that one tool shall be called at a time. Beside Converse's it must
/// not name a type, and without it must.
fn one_at_a_time(
    request: &Request,
    to: &Target,
    tools: Option<&ToolConfig>,
    fields: &mut Map<String, Value>,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    let Some(tools) = tools.filter(|_| request.parallel_tools == Some(false)) else {
        return Ok(());
    };
    if Family::of(to) == Family::Claude {
        let choice = if tools.has_choice() {
            json!({ "disable_parallel_tool_use": true })
        } else {
            json!({ "type": "auto", "disable_parallel_tool_use": true })
        };
        fields.insert("tool_choice".to_owned(), choice);
    } else if !tools.is_named() {
        // Where one tool is demanded by name, one call is what there will be.
        losses.lose(Field::OneToolAtATime, Fate::Dropped)?;
    }
    Ok(())
}

/// `outputConfig`, which has its schema as text. AWS refuses what Anthropic does.
fn output(request: &Request, to: &Target, losses: &mut Losses) -> Result<Option<Value>, Invalid> {
    let Format::JsonSchema(schema) = &request.format else { return Ok(None) };
    if !to.rules.structured_outputs {
        losses.lose(Field::JsonSchema, Fate::Dropped)?;
        return Ok(None);
    }
    let mut json_schema = Map::new();
    json_schema.insert("schema".to_owned(), enforceable(&schema.schema).get().into());
    json_schema.insert("name".to_owned(), schema.name.as_str().into());
    if let Some(description) = &schema.description {
        json_schema.insert("description".to_owned(), description.as_str().into());
    }
    let structure = json!({ "jsonSchema": json_schema });
    Ok(Some(json!({ "textFormat": { "type": "json_schema", "structure": structure } })))
}

fn tier(request: &Request, losses: &mut Losses) -> Result<Option<Value>, Invalid> {
    let word = match request.service_tier.as_deref() {
        None | Some("auto") => return Ok(None),
        Some(word @ ("default" | "flex" | "priority" | "reserved")) => word,
        Some("standard" | "standard_only") => "default",
        Some(_) => {
            losses.lose(Field::ServiceTier, Fate::Dropped)?;
            return Ok(None);
        }
    };
    Ok(Some(json!({ "type": word })))
}

/// `requestMetadata`: at most 16, of few characters each.
fn metadata(request: &Request, losses: &mut Losses) -> Result<Map<String, Value>, Invalid> {
    let allowed = |text: &str| {
        text.len() <= 256
            && text.chars().all(|c| c.is_ascii_alphanumeric() || " :_@$#=/+,-.".contains(c))
    };
    let fits =
        |(name, value): &(String, String)| !name.is_empty() && allowed(name) && allowed(value);
    if request.metadata.len() > 16 || !request.metadata.iter().all(fits) {
        losses.lose(Field::Metadata, Fate::Dropped)?;
        return Ok(Map::new());
    }
    let pairs = request.metadata.iter();
    Ok(pairs.map(|(name, value)| (name.clone(), value.as_str().into())).collect())
}

/// What becomes of each part of a request.
pub fn fate(field: Field) -> Fate {
    match field {
        Field::MaxOutput
        | Field::TopP
        | Field::Stop
        | Field::JsonSchema
        | Field::ServiceTier
        | Field::Metadata
        | Field::CacheMark
        | Field::ImageData
        | Field::Audio
        | Field::Video
        | Field::Document
        | Field::Tools
        | Field::StrictTools
        | Field::ToolChoiceRequired
        | Field::ToolChoiceNamed
        | Field::ToolResultImage
        | Field::ToolResultError => Fate::Carried,
        Field::Temperature => Fate::Converted("at most 1"),
        Field::TopK => Fate::Converted("the own parameter of Claude and Nova; others have none"),
        Field::JsonObject => Fate::Converted("an instruction"),
        Field::Effort | Field::ThinkingBudget => {
            Fate::Converted("what Claude, Nova 2 and gpt-oss each have for it")
        }
        Field::SystemInside => Fate::Converted("marked text of the user's"),
        Field::CustomTools => Fate::Converted("a function with one string"),
        Field::Grammar => Fate::Converted("a part of the tool's description"),
        Field::ToolChoiceNone => {
            Fate::Converted("the tools are left out, unless some were called before")
        }
        Field::OneToolAtATime => Fate::Converted("Claude's own parameter; others have none"),
        Field::ThinkingHistory => Fate::Converted("what the provider signed itself"),
        Field::Signature => Fate::Converted("Bedrock's own goes back, others are left out"),
        Field::ImageUrl | Field::DocumentUrl => Fate::Refused(NOT_FETCHED),
        Field::FileId => Fate::Refused("it lies at another provider"),
        Field::MinP
        | Field::Seed
        | Field::Candidates
        | Field::PresencePenalty
        | Field::FrequencyPenalty
        | Field::Logprobs
        | Field::LogitBias
        | Field::Verbosity
        | Field::User
        | Field::CacheKey
        | Field::ImageDetail => Fate::Dropped,
    }
}
