//! Requests, as Anthropic takes them.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::schema::{enforceable, parameters};
use super::thinking::{Decided, Thinking, decide};
use super::write_content::{Content, Mark, Marks, Message, unsigned, write_turn};
use crate::protocol::canonical::{
    Arrange, Block, Fate, Field, Format, IdLimits, Invalid, Losses, Merge, NameLimits, Request,
    Role, Rules, SystemInside, Target, Tool, ToolChoice, Turn, arrange,
};

/// What names of tools may be like.
pub const NAMES: NameLimits = NameLimits {
    longest: 128,
    punctuation: "_-",
    letter_first: false,
    custom_tools: false,
    namespaces: false,
};

/// Stands in for `response_format: json_object`, which it does not know.
const JSON_ONLY: &str = "Answer with one JSON object and nothing else.";

/// The longest `metadata.user_id`, in characters.
const LONGEST_USER: usize = 256;

/// Writes the body of a request. The dialect demands a bound of the answer: the model's own where the
/// client set none.
pub fn write_request(
    request: &Request,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    write(request, to, Purpose::Answer, losses)
}

/// What a body is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Answer,
    /// Counting, which takes nothing but what makes up the prompt.
    Count,
}

pub(super) fn write(
    request: &Request,
    to: &Target,
    purpose: Purpose,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    let rules = to.rules;
    let turns = conversation(request, rules, losses)?;
    let tools = chosen_tools(request);
    let max_tokens = request.max_output.unwrap_or(rules.max_output);
    let demanded = demanded(request);
    if let (Some(field), []) = (demanded, tools.as_slice()) {
        losses.lose(field, Fate::Dropped)?;
    }
    let forbids_budget = (demanded.is_some() && !tools.is_empty()) || lacks_thinking(&turns);
    let decided = decide(request, rules, max_tokens, forbids_budget, losses)?;
    let mut marks = Marks::new(count_marks(request, &tools, &turns), losses)?;
    let mut body = Body {
        model: to.model,
        max_tokens: (purpose == Purpose::Answer).then_some(max_tokens),
        tools: write_tools(&tools, rules, &mut marks, losses)?,
        tool_choice: write_choice(request, !tools.is_empty()),
        system: write_system(request, &mut marks),
        messages: Vec::with_capacity(turns.len()),
        thinking: decided.thinking,
        output_config: output_config(request, rules, &decided, losses)?,
        ..Body::default()
    };
    for (place, turn) in turns.iter().enumerate() {
        let message = write_turn(turn, place + 1 == turns.len(), &mut marks, losses)?;
        if !message.content.is_empty() {
            body.messages.push(message);
        }
    }
    if purpose == Purpose::Answer {
        lose_parameters(request, losses)?;
        sampling(request, rules, &decided, &mut body, losses)?;
        body.stream = request.stream;
    }
    serde_json::to_vec(&body).map_err(|error| Invalid::request("", error.to_string()))
}

/// What the dialect has no place for.
fn lose_parameters(request: &Request, losses: &mut Losses) -> Result<(), Invalid> {
    let penalty = |penalty: Option<f64>| penalty.is_some_and(|penalty| penalty != 0.0);
    for (field, is_said) in [
        (Field::MinP, request.min_p.is_some()),
        (Field::Seed, request.seed.is_some()),
        (Field::Candidates, request.candidates.is_some_and(|count| count > 1)),
        (Field::PresencePenalty, penalty(request.presence_penalty)),
        (Field::FrequencyPenalty, penalty(request.frequency_penalty)),
        (Field::Logprobs, request.logprobs.is_some()),
        (Field::LogitBias, request.logit_bias.is_some()),
        (Field::Verbosity, request.verbosity.is_some()),
        (Field::Metadata, !request.metadata.is_empty()),
        (Field::CacheKey, request.cache_key.is_some()),
    ] {
        if is_said {
            losses.lose(field, fate(field))?;
        }
    }
    Ok(())
}

/// The conversation in the order that Anthropic demands, without reasoning that it did not sign.
fn conversation(
    request: &Request,
    rules: &Rules,
    losses: &mut Losses,
) -> Result<Vec<Turn>, Invalid> {
    let mut turns = Cow::Borrowed(&request.turns);
    let blocks = || request.turns.iter().flat_map(|turn| &turn.blocks);
    if blocks().any(|block| unsigned(block).is_some()) {
        for field in blocks().filter_map(unsigned) {
            losses.lose(field, Fate::Dropped)?;
        }
        for turn in turns.to_mut() {
            turn.blocks.retain(|block| unsigned(block).is_none());
        }
    }
    let system =
        if rules.system_inside { SystemInside::KeptAfterUser } else { SystemInside::Marked };
    let rules = Arrange {
        merge: Merge::Everything,
        system,
        user_first: true,
        no_prefill: !rules.prefill,
        no_blank_text: true,
        calls_last: false,
        ids: IdLimits { punctuation: Some("_-"), ..IdLimits::default() },
    };
    arrange(&turns, rules)
}

/// Whether an answer that is under way, because tools were called or it was begun for the model, starts
/// without the thinking that Anthropic then demands where thinking is on.
fn lacks_thinking(turns: &[Turn]) -> bool {
    let is_result = |block: &Block| matches!(block, Block::ToolResult(_));
    let answered = turns.last().is_some_and(|turn| turn.blocks.iter().any(is_result));
    let under_way = match turns {
        [.., turn] if turn.role == Role::Assistant => turn,
        [.., turn, _] if answered && turn.role == Role::Assistant => turn,
        _ => return false,
    };
    !matches!(under_way.blocks.first(), Some(Block::Thinking { .. } | Block::RedactedThinking(_)))
}

/// The tools that may be called.
fn chosen_tools(request: &Request) -> Vec<&Tool> {
    let among = request.tool_choice.as_ref().and_then(ToolChoice::among);
    let chosen =
        |tool: &&Tool| among.as_ref().is_none_or(|names| names.contains(tool.name.as_str()));
    request.tools.iter().filter(chosen).collect()
}

/// What it is called that a tool must be called, if one must.
fn demanded(request: &Request) -> Option<Field> {
    match &request.tool_choice {
        Some(ToolChoice::Required | ToolChoice::Among { required: true, .. }) => {
            Some(Field::ToolChoiceRequired)
        }
        Some(ToolChoice::Named(_)) => Some(Field::ToolChoiceNamed),
        _ => None,
    }
}

fn count_marks(request: &Request, tools: &[&Tool], turns: &[Turn]) -> usize {
    let blocks = turns.iter().flat_map(|turn| &turn.blocks).chain(&request.system);
    blocks.filter(|block| matches!(block, Block::Cache(_))).count()
        + tools.iter().filter(|tool| tool.cache.is_some()).count()
}

fn write_tools<'a>(
    tools: &[&'a Tool],
    rules: &Rules,
    marks: &mut Marks,
    losses: &mut Losses,
) -> Result<Vec<ToolSpec<'a>>, Invalid> {
    let mut specs = Vec::with_capacity(tools.len());
    for tool in tools {
        let strict = tool.strict == Some(true);
        if strict && !rules.structured_outputs {
            losses.lose(Field::StrictTools, Fate::Dropped)?;
        }
        let strict = (strict && rules.structured_outputs).then_some(true);
        let schema = parameters(tool.schema.as_ref());
        specs.push(ToolSpec {
            name: &tool.name,
            description: tool.description.as_deref().filter(|text| !text.is_empty()),
            input_schema: match strict {
                Some(_) => Cow::Owned(enforceable(&schema).into_owned()),
                None => schema,
            },
            strict,
            cache_control: tool.cache.and_then(|mark| marks.next(mark)),
        });
    }
    Ok(specs)
}

/// `tool_choice`, which Anthropic refuses without tools.
fn write_choice(request: &Request, has_tools: bool) -> Option<Choice<'_>> {
    if !has_tools {
        return None;
    }
    let one_at_a_time = request.parallel_tools == Some(false);
    let (kind, name) = match &request.tool_choice {
        None if one_at_a_time => ("auto", None),
        None => return None,
        Some(ToolChoice::Auto | ToolChoice::Among { required: false, .. }) => ("auto", None),
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Required | ToolChoice::Among { required: true, .. }) => ("any", None),
        Some(ToolChoice::Named(name)) => ("tool", Some(name.as_str())),
    };
    let disable_parallel_tool_use = one_at_a_time && kind != "none";
    Some(Choice { kind, name, disable_parallel_tool_use })
}

fn write_system<'a>(request: &'a Request, marks: &mut Marks) -> Vec<Content<'a>> {
    let mut content = Vec::with_capacity(request.system.len());
    for block in &request.system {
        match block {
            Block::Text { text, .. } if !text.trim().is_empty() => {
                content.push(Content::Text { text, cache_control: None });
            }
            Block::Cache(mark) => marks.put(*mark, &mut content),
            _ => {}
        }
    }
    if matches!(request.format, Format::JsonObject) {
        content.push(Content::Text { text: JSON_ONLY, cache_control: None });
    }
    content
}

fn output_config<'a>(
    request: &'a Request,
    rules: &Rules,
    decided: &Decided,
    losses: &mut Losses,
) -> Result<Option<OutputConfig<'a>>, Invalid> {
    let format = match &request.format {
        Format::JsonSchema(schema) if rules.structured_outputs => {
            Some(OutputFormat { kind: "json_schema", schema: enforceable(&schema.schema) })
        }
        Format::JsonSchema(_) => {
            losses.lose(Field::JsonSchema, Fate::Dropped)?;
            None
        }
        Format::JsonObject | Format::Text => None,
    };
    let effort = decided.effort;
    Ok((effort.is_some() || format.is_some()).then_some(OutputConfig { effort, format }))
}

/// Sampling, stops, and what is said of the call itself.
fn sampling<'a>(
    request: &'a Request,
    rules: &Rules,
    decided: &Decided,
    body: &mut Body<'a>,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    let thinks = decided.is_on();
    let temperature = request.temperature.map(|temperature| temperature.min(1.0));
    let mut take = |field, value: Option<f64>, is_taken: bool| -> Result<Option<f64>, Invalid> {
        if value.is_some() && !(rules.sampling && is_taken) {
            losses.lose(field, Fate::Dropped)?;
            return Ok(None);
        }
        Ok(value)
    };
    // A model that thinks has a temperature of 1.
    let is_one = temperature.is_some_and(|temperature| (temperature - 1.0).abs() < f64::EPSILON);
    body.temperature = take(Field::Temperature, temperature, !thinks || is_one)?;
    let together = body.temperature.is_none() || rules.temperature_with_top_p;
    let wide = request.top_p.is_some_and(|top_p| top_p >= 0.95);
    body.top_p = take(Field::TopP, request.top_p, together && (!thinks || wide))?;
    if request.top_k.is_some() && (thinks || !rules.sampling) {
        losses.lose(Field::TopK, Fate::Dropped)?;
    } else {
        body.top_k = request.top_k;
    }
    let said = |stop: &&String| rules.stop && !stop.trim().is_empty();
    body.stop_sequences = request.stop.iter().filter(said).map(String::as_str).collect();
    if body.stop_sequences.len() < request.stop.len() {
        losses.lose(Field::Stop, Fate::Dropped)?;
    }
    if let Some(tier) = &request.service_tier {
        body.service_tier = match tier.to_ascii_lowercase().as_str() {
            "auto" | "priority" => Some("auto"),
            "standard_only" | "standard" | "default" => Some("standard_only"),
            _ => None,
        };
        if body.service_tier.is_none() {
            losses.lose(Field::ServiceTier, Fate::Dropped)?;
        }
    }
    body.metadata =
        request.user.as_deref().filter(|user| is_opaque(user)).map(|user_id| Metadata { user_id });
    if request.user.is_some() && body.metadata.is_none() {
        losses.lose(Field::User, Fate::Dropped)?;
    }
    Ok(())
}

/// Anthropic refuses names of users that are too long, mail addresses and telephone numbers.
fn is_opaque(user: &str) -> bool {
    let is_address = user.split_once('@').is_some_and(|(_, host)| host.contains('.'));
    let digits = user.bytes().filter(u8::is_ascii_digit).count();
    let is_number = user.bytes().all(|byte| byte.is_ascii_digit() || b"+-() .".contains(&byte))
        && (7..=15).contains(&digits);
    user.chars().count() <= LONGEST_USER && !user.is_empty() && !is_address && !is_number
}

/// What becomes of a part of a request in this dialect, on a model that takes all of it.
pub fn fate(field: Field) -> Fate {
    match field {
        Field::MaxOutput
        | Field::Temperature
        | Field::TopP
        | Field::TopK
        | Field::Stop
        | Field::JsonSchema
        | Field::Effort
        | Field::ThinkingBudget
        | Field::User
        | Field::CacheMark
        | Field::ImageData
        | Field::ImageUrl
        | Field::Document
        | Field::DocumentUrl
        | Field::Tools
        | Field::StrictTools
        | Field::ToolChoiceNone
        | Field::ToolChoiceRequired
        | Field::ToolChoiceNamed
        | Field::OneToolAtATime
        | Field::ToolResultImage
        | Field::ToolResultError => Fate::Carried,
        Field::JsonObject => Fate::Converted("an instruction"),
        Field::ServiceTier => Fate::Converted("`auto` or `standard_only`"),
        Field::SystemInside => {
            Fate::Converted("marked text of the user's, on models that know it only at the head")
        }
        Field::ThinkingHistory => Fate::Converted("kept where Anthropic itself signed it"),
        Field::Signature => Fate::Converted("Anthropic's own goes back, others are left out"),
        Field::CustomTools => Fate::Converted("a function with one string"),
        Field::Grammar => Fate::Converted("words in the tool's description"),
        Field::MinP
        | Field::Seed
        | Field::Candidates
        | Field::PresencePenalty
        | Field::FrequencyPenalty
        | Field::Logprobs
        | Field::LogitBias
        | Field::Verbosity
        | Field::Metadata
        | Field::CacheKey
        | Field::ImageDetail => Fate::Dropped,
        Field::Audio => Fate::Refused("Anthropic's models take no audio"),
        Field::Video => Fate::Refused("Anthropic's models take no video"),
        Field::FileId => Fate::Refused("the file lies at another provider"),
    }
}

#[derive(Debug, Default, Serialize)]
struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolSpec<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Content<'a>>,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
}

#[derive(Debug, Serialize)]
struct ToolSpec<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: Cow<'a, RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Mark>,
}

#[derive(Debug, Serialize)]
struct Choice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disable_parallel_tool_use: bool,
}

#[derive(Debug, Serialize)]
struct OutputConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<OutputFormat<'a>>,
}

#[derive(Debug, Serialize)]
struct OutputFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: Cow<'a, RawValue>,
}

#[derive(Debug, Serialize)]
struct Metadata<'a> {
    user_id: &'a str,
}
