//! Requests as providers of the responses API read them.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::write_input::{Content, Item, is_open, write_input};
use crate::protocol::canonical::{
    Block, Effort, Fate, Field, Format, Invalid, Json, Losses, NameLimits, Request, Target,
    ThinkingRule, Tool, ToolChoice, ToolKind,
};
use crate::protocol::openai_chat::may_be_strict;

/// Names of tools. Groups are known to `OpenAI`'s newest models only.
pub const NAMES: NameLimits = NameLimits {
    longest: 64,
    punctuation: "_-",
    letter_first: false,
    custom_tools: true,
    namespaces: false,
};

/// The least that `max_output_tokens` may be at `OpenAI`.
const LEAST_OUTPUT: u64 = 16;

/// The most characters of `user` and `prompt_cache_key`.
const LONGEST_KEY: usize = 64;

/// What becomes of a part of a request. Servers of open weights take some of what is dropped here.
pub fn fate(field: Field) -> Fate {
    match field {
        Field::MaxOutput => Fate::Converted("at least 16 at OpenAI"),
        Field::ThinkingBudget => Fate::Converted("an effort"),
        Field::ServiceTier => Fate::Converted("the tier of that name, or that is like it"),
        Field::ThinkingHistory => {
            Fate::Converted("what OpenAI itself signed; servers of open weights take any")
        }
        Field::Signature => Fate::Converted("OpenAI's own goes back, others are left out"),
        Field::ToolResultError => Fate::Converted("`Error: ` before its text"),
        Field::Temperature
        | Field::TopP
        | Field::JsonObject
        | Field::JsonSchema
        | Field::Effort
        | Field::Verbosity
        | Field::User
        | Field::Metadata
        | Field::CacheKey
        | Field::SystemInside
        | Field::ImageData
        | Field::ImageUrl
        | Field::ImageDetail
        | Field::Audio
        | Field::Document
        | Field::DocumentUrl
        | Field::Tools
        | Field::CustomTools
        | Field::Grammar
        | Field::StrictTools
        | Field::ToolChoiceNone
        | Field::ToolChoiceRequired
        | Field::ToolChoiceNamed
        | Field::OneToolAtATime
        | Field::ToolResultImage => Fate::Carried,
        Field::TopK
        | Field::MinP
        | Field::Stop
        | Field::Seed
        | Field::Candidates
        | Field::PresencePenalty
        | Field::FrequencyPenalty
        | Field::Logprobs
        | Field::LogitBias
        | Field::CacheMark => Fate::Dropped,
        Field::Video => Fate::Refused("the responses API takes no video"),
        Field::FileId => Fate::Refused("the file lies at another provider"),
    }
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<String>,
    input: Vec<Item>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolItem<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    logit_bias: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Thought>,
    #[serde(skip_serializing_if = "Option::is_none")]
    include: Option<[&'static str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    metadata: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    /// The conversation is sent whole each time; nothing needs to be kept.
    store: bool,
    stream: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ToolItem<'a> {
    Function {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        parameters: &'a RawValue,
        strict: bool,
    },
    Custom {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        format: Option<Json>,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Mode(&'static str),
    Named(Named<'a>),
    Allowed { r#type: &'static str, mode: &'static str, tools: Vec<Named<'a>> },
}

#[derive(Serialize)]
struct Named<'a> {
    r#type: &'static str,
    name: &'a str,
}

#[derive(Serialize)]
struct Text<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<TextFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum TextFormat<'a> {
    JsonObject,
    JsonSchema {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        schema: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    },
}

#[derive(Serialize)]
struct Thought {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'static str>,
}

/// Writes a request.
pub fn write_request(
    request: &Request,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    let open = is_open(to.rules);
    for tool in request.tools.iter().filter(|tool| tool.strict == Some(true)) {
        if !is_strict(tool, open) {
            losses.lose(Field::StrictTools, Fate::Dropped)?;
        }
    }
    let extended = to.rules.extended_sampling;
    lose_parameters(request, extended, losses)?;
    let sampling = to.rules.sampling;
    for (said, field) in [(request.temperature, Field::Temperature), (request.top_p, Field::TopP)] {
        // One is what it is anyway.
        if !sampling && said.is_some_and(|said| (said - 1.0).abs() > f64::EPSILON) {
            losses.lose(field, Fate::Dropped)?;
        }
    }
    let tools = offered(request, open);
    let marks = tools.iter().any(|tool| tool.cache.is_some());
    if marks {
        losses.lose(Field::CacheMark, fate(Field::CacheMark))?;
    }
    let defaults = no_parameters();
    let least = if open { 1 } else { LEAST_OUTPUT };
    let sealed = !open && to.rules.thinking == ThinkingRule::Effort;
    let mut instructions = instructions(request, losses)?;
    let mut input = write_input(&request.turns, to, losses)?;
    if input.is_empty()
        && let Some(text) = instructions.take()
    {
        // There must be an input.
        input.push(Item::Message { role: "system", content: Content::Text(text) });
    }
    let body = Body {
        model: to.model,
        instructions,
        input,
        tool_choice: choice(request, &tools, open),
        parallel_tool_calls: request.parallel_tools.filter(|_| !tools.is_empty()),
        tools: tools.iter().map(|tool| tool_item(tool, &defaults, open)).collect(),
        max_output_tokens: request.max_output.map(|most| most.max(least)),
        temperature: request.temperature.filter(|_| sampling),
        top_p: request.top_p.filter(|_| sampling),
        top_k: request.top_k.filter(|_| extended),
        seed: request.seed.filter(|_| extended),
        stop: if extended { &request.stop } else { &[] },
        logit_bias: request.logit_bias.as_ref().filter(|_| extended),
        text: text(request, open),
        reasoning: thought(request, to, losses)?,
        include: sealed.then_some(["reasoning.encrypted_content"]),
        prompt_cache_key: request.cache_key.as_deref().map(short),
        user: request.user.as_deref().map(short),
        metadata: metadata(request, losses)?,
        service_tier: service_tier(request, losses)?,
        store: false,
        stream: request.stream,
    };
    serde_json::to_vec(&body).map_err(|error| Invalid::request("body", error.to_string()))
}

/// What the API has no member for; servers of open weights have some.
fn lose_parameters(request: &Request, extended: bool, losses: &mut Losses) -> Result<(), Invalid> {
    let said = [
        (request.top_k.is_some() && !extended, Field::TopK),
        (request.seed.is_some() && !extended, Field::Seed),
        (!request.stop.is_empty() && !extended, Field::Stop),
        (request.logit_bias.is_some() && !extended, Field::LogitBias),
        (request.min_p.is_some(), Field::MinP),
        (request.candidates.is_some_and(|count| count > 1), Field::Candidates),
        (request.presence_penalty.is_some_and(|it| it != 0.0), Field::PresencePenalty),
        (request.frequency_penalty.is_some_and(|it| it != 0.0), Field::FrequencyPenalty),
        (request.logprobs.is_some(), Field::Logprobs),
    ];
    let lost = said.into_iter().filter(|(said, _)| *said);
    lost.map(|(_, field)| field).try_for_each(|field| losses.lose(field, fate(field)))
}

/// All instructions at the head as one text: templates of open weights take one.
fn instructions(request: &Request, losses: &mut Losses) -> Result<Option<String>, Invalid> {
    let mut texts = Vec::with_capacity(request.system.len());
    for block in &request.system {
        match block {
            Block::Text { text, .. } if !text.is_empty() => texts.push(text.as_str()),
            Block::Cache(_) => losses.lose(Field::CacheMark, fate(Field::CacheMark))?,
            _ => {}
        }
    }
    Ok((!texts.is_empty()).then(|| texts.join("\n\n")))
}

/// The tools that may be called. Servers of open weights know no choice among several.
fn offered(request: &Request, open: bool) -> Vec<&Tool> {
    let among = request.tool_choice.as_ref().filter(|_| open).and_then(ToolChoice::among);
    let offered =
        |tool: &&Tool| among.as_ref().is_none_or(|names| names.contains(tool.name.as_str()));
    request.tools.iter().filter(offered).collect()
}

fn tool_item<'a>(tool: &'a Tool, [loose, strict]: &'a [Json; 2], open: bool) -> ToolItem<'a> {
    let (name, description) = (tool.name.as_str(), tool.description.as_deref());
    match tool.kind {
        ToolKind::Function => ToolItem::Function {
            name,
            description,
            parameters: match &tool.schema {
                Some(schema) => schema,
                None if tool.strict == Some(true) => strict,
                None => loose,
            },
            // Here a function is strict unless it says otherwise; in other dialects it is not.
            strict: is_strict(tool, open),
        },
        ToolKind::Custom => {
            ToolItem::Custom { name, description, format: tool.grammar.as_deref().map(flat_format) }
        }
    }
}

/// What `OpenAI` may be asked to hold the model to; servers of open weights take any schema.
fn is_strict(tool: &Tool, open: bool) -> bool {
    let may = || open || tool.schema.as_deref().is_none_or(may_be_strict);
    tool.strict == Some(true) && may()
}

/// The schema of a function without parameters, and of a strict one.
fn no_parameters() -> [Json; 2] {
    let loose = r#"{"type":"object","properties":{}}"#;
    let strict = r#"{"type":"object","properties":{},"additionalProperties":false}"#;
    [loose, strict].map(|schema| {
        let schema = RawValue::from_string(schema.to_owned());
        schema.unwrap_or_else(|_| RawValue::NULL.to_owned())
    })
}

/// A grammar's members stand in the format itself; chat has them one level below.
fn flat_format(format: &RawValue) -> Json {
    #[derive(serde::Deserialize)]
    struct Nested<'f> {
        #[serde(borrow)]
        grammar: Grammar<'f>,
    }
    #[derive(serde::Deserialize)]
    struct Grammar<'f> {
        #[serde(borrow)]
        syntax: &'f RawValue,
        #[serde(borrow)]
        definition: &'f RawValue,
    }
    let Ok(Nested { grammar }) = serde_json::from_str(format.get()) else {
        return format.to_owned();
    };
    let (syntax, definition) = (grammar.syntax.get(), grammar.definition.get());
    let flat = format!(r#"{{"type":"grammar","syntax":{syntax},"definition":{definition}}}"#);
    RawValue::from_string(flat).unwrap_or_else(|_| format.to_owned())
}

fn choice<'a>(request: &'a Request, tools: &[&Tool], open: bool) -> Option<Choice<'a>> {
    let custom = tools.iter().filter(|tool| tool.kind == ToolKind::Custom);
    let custom: HashSet<&str> = custom.map(|tool| tool.name.as_str()).collect();
    let named = |name: &'a String| {
        let r#type = if custom.contains(name.as_str()) { "custom" } else { "function" };
        Named { r#type, name }
    };
    let choice = request.tool_choice.as_ref().filter(|_| !tools.is_empty())?;
    Some(match choice {
        ToolChoice::Auto => Choice::Mode("auto"),
        ToolChoice::None => Choice::Mode("none"),
        ToolChoice::Required => Choice::Mode("required"),
        ToolChoice::Named(name) => Choice::Named(named(name)),
        ToolChoice::Among { names, required } => {
            let mode = if *required { "required" } else { "auto" };
            if open {
                return Some(Choice::Mode(mode));
            }
            let tools = names.iter().map(named).collect();
            Choice::Allowed { r#type: "allowed_tools", mode, tools }
        }
    })
}

fn text(request: &Request, open: bool) -> Option<Text<'_>> {
    let format = match &request.format {
        Format::Text => None,
        Format::JsonObject => Some(TextFormat::JsonObject),
        Format::JsonSchema(schema) => Some(TextFormat::JsonSchema {
            name: &schema.name,
            description: schema.description.as_deref(),
            schema: &schema.schema,
            strict: schema.strict.map(|strict| strict && (open || may_be_strict(&schema.schema))),
        }),
    };
    let verbosity = request.verbosity.as_deref();
    (format.is_some() || verbosity.is_some()).then_some(Text { format, verbosity })
}

fn thought(
    request: &Request,
    to: &Target,
    losses: &mut Losses,
) -> Result<Option<Thought>, Invalid> {
    let asked = request.reasoning.as_effort();
    if to.rules.thinking == ThinkingRule::Never {
        if asked.is_some_and(|effort| effort != Effort::None) {
            let said = request.reasoning.effort.is_some();
            let field = if said { Field::Effort } else { Field::ThinkingBudget };
            losses.lose(field, Fate::Dropped)?;
        }
        return Ok(None);
    }
    let effort = asked.and_then(|effort| effort.at_most(to.rules.efforts)).map(Effort::as_str);
    // A summary is refused to accounts that are not verified, so it is asked for only on demand.
    let shown = request.reasoning.shown == Some(true) && !is_open(to.rules);
    let summary = shown.then_some("auto");
    Ok((effort.is_some() || summary.is_some()).then_some(Thought { effort, summary }))
}

/// A key of the longest kind that is taken: itself, or what is always the same for it.
fn short(key: &str) -> String {
    let fits = key.chars().count() <= LONGEST_KEY;
    if fits { key.to_owned() } else { hex::encode(Sha256::digest(key)) }
}

/// At most 16 pairs, of 64 and 512 characters.
fn metadata(
    request: &Request,
    losses: &mut Losses,
) -> Result<serde_json::Map<String, serde_json::Value>, Invalid> {
    let fits = |(name, value): &&(String, String)| {
        name.chars().count() <= 64 && value.chars().count() <= 512
    };
    let pairs = request.metadata.iter().filter(fits).take(16);
    let metadata: serde_json::Map<_, _> =
        pairs.map(|(name, value)| (name.clone(), value.clone().into())).collect();
    if metadata.len() < request.metadata.len() {
        losses.lose(Field::Metadata, Fate::Dropped)?;
    }
    Ok(metadata)
}

/// The tiers of other dialects by the names they have here.
fn service_tier(request: &Request, losses: &mut Losses) -> Result<Option<&'static str>, Invalid> {
    let tier = request.service_tier.as_deref().map(str::to_ascii_lowercase);
    Ok(match tier.as_deref() {
        None => None,
        Some("auto") => Some("auto"),
        Some("default" | "standard" | "standard_only") => Some("default"),
        Some("flex") => Some("flex"),
        Some("priority") => Some("priority"),
        Some("scale") => Some("scale"),
        Some(_) => {
            losses.lose(Field::ServiceTier, Fate::Dropped)?;
            None
        }
    })
}
