//! What Google is asked, written.

use serde::Serialize;

use super::schema::{is_empty, plain, to_subset};
use super::wire::{Content, Part};
use super::write_config::{Config, config, knows_only_subset};
use super::write_contents::write_contents;
use crate::protocol::canonical::{
    Arrange, Block, Fate, Field, Invalid, Json, Losses, Merge, NameLimits, Request, SystemInside,
    Target, Tool, ToolChoice, arrange,
};

/// Older models take 64 characters, newer ones 128.
pub const NAMES: NameLimits = NameLimits {
    longest: 64,
    punctuation: "_.-",
    letter_first: true,
    custom_tools: false,
    namespaces: false,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Content<'a>>,
    contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<[Tools<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation_config: Option<Config<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tools<'a> {
    function_declarations: Vec<Declaration<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declaration<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Json>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    function_calling_config: FunctionCalling<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FunctionCalling<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    allowed_function_names: &'a [String],
}

/// Writes the body of `generateContent`; of `streamGenerateContent` it is the same.
pub fn write_request(
    request: &Request,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    let turns = arrange(
        &request.turns,
        Arrange {
            merge: Merge::Everything,
            system: SystemInside::Marked,
            user_first: true,
            no_prefill: !to.rules.prefill,
            ..Arrange::default()
        },
    )?;
    let contents = write_contents(&turns, to.rules, losses)?;
    if contents.is_empty() {
        return Err(Invalid::request("messages", "there is nothing in the conversation to answer"));
    }
    let tools = tools(request, to, losses)?;
    let body = Body {
        system_instruction: instruction(&request.system, losses)?,
        contents,
        tool_config: tool_config(request, to, tools.is_some(), losses)?,
        tools,
        generation_config: config(request, &turns, to, losses)?,
        service_tier: service_tier(request, losses)?,
    };
    lose_the_rest(request, losses)?;
    serde_json::to_vec(&body).map_err(|error| Invalid::request("body", error.to_string()))
}

/// What becomes of each part of a request; a model may take less.
pub fn fate(field: Field) -> Fate {
    match field {
        Field::MaxOutput
        | Field::Temperature
        | Field::TopP
        | Field::TopK
        | Field::Stop
        | Field::Seed
        | Field::PresencePenalty
        | Field::FrequencyPenalty
        | Field::JsonObject
        | Field::JsonSchema
        | Field::ThinkingBudget
        | Field::ImageData
        | Field::Audio
        | Field::Video
        | Field::Document
        | Field::Tools
        | Field::ToolChoiceNone
        | Field::ToolChoiceRequired
        | Field::ToolChoiceNamed => Fate::Carried,
        Field::Effort => Fate::Converted("a level, or a budget where the model takes one"),
        Field::ServiceTier => Fate::Converted("`standard`, `flex` or `priority`"),
        Field::SystemInside => Fate::Converted("marked text of the user's"),
        Field::ImageUrl | Field::DocumentUrl => Fate::Converted("`fileData`, which Google fetches"),
        Field::ImageDetail => {
            Fate::Converted("`mediaResolution`, where all images have one detail")
        }
        Field::CustomTools => Fate::Converted("a function with one string"),
        Field::Grammar => Fate::Converted("words in the tool's description"),
        Field::StrictTools => Fate::Converted("mode `VALIDATED`, on models that know it"),
        Field::ToolResultImage => Fate::Converted("a part of the result, or one behind it"),
        Field::ToolResultError => Fate::Converted("`response.error`"),
        Field::ThinkingHistory => Fate::Converted("Google's own signature; words are left out"),
        Field::Signature => Fate::Converted("Google's own goes back, others are left out"),
        Field::MinP
        | Field::Candidates
        | Field::Logprobs
        | Field::LogitBias
        | Field::Verbosity
        | Field::User
        | Field::Metadata
        | Field::CacheKey
        | Field::CacheMark
        | Field::OneToolAtATime => Fate::Dropped,
        Field::FileId => Fate::Refused("the file lies at another provider"),
    }
}

/// What Google has no counterpart of at all.
fn lose_the_rest(request: &Request, losses: &mut Losses) -> Result<(), Invalid> {
    let said = [
        (Field::MinP, request.min_p.is_some()),
        (Field::Candidates, request.candidates.is_some_and(|count| count > 1)),
        (Field::Logprobs, request.logprobs.is_some()),
        (Field::LogitBias, request.logit_bias.is_some()),
        (Field::Verbosity, request.verbosity.is_some()),
        (Field::User, request.user.is_some()),
        (Field::Metadata, !request.metadata.is_empty()),
        (Field::CacheKey, request.cache_key.is_some()),
        (Field::CacheMark, request.tools.iter().any(|tool| tool.cache.is_some())),
        (Field::OneToolAtATime, request.parallel_tools == Some(false)),
    ];
    let mut said = said.into_iter().filter(|(_, is_said)| *is_said);
    said.try_for_each(|(field, _)| losses.lose(field, fate(field)))
}

fn instruction<'a>(
    system: &'a [Block],
    losses: &mut Losses,
) -> Result<Option<Content<'a>>, Invalid> {
    let mut parts = Vec::with_capacity(system.len());
    for block in system {
        match block {
            Block::Text { text, .. } if !text.is_empty() => parts.push(Part::text(text)),
            Block::Cache(_) => losses.lose(Field::CacheMark, fate(Field::CacheMark))?,
            _ => {}
        }
    }
    Ok((!parts.is_empty()).then_some(Content { parts, role: None }))
}

fn tools<'a>(
    request: &'a Request,
    to: &Target,
    losses: &mut Losses,
) -> Result<Option<[Tools<'a>; 1]>, Invalid> {
    // Google can keep a model to some tools only where one of them must be called.
    let allowed = match &request.tool_choice {
        Some(choice @ ToolChoice::Among { required: false, .. }) => choice.among(),
        _ => None,
    };
    let is_allowed =
        |tool: &&Tool| allowed.as_ref().is_none_or(|names| names.contains(tool.name.as_str()));
    let strict = request.tools.iter().any(|tool| tool.strict == Some(true));
    if strict && !knows_validation(to) {
        losses.lose(Field::StrictTools, Fate::Dropped)?;
    }
    let declared = request.tools.iter().filter(is_allowed);
    let declared = declared.map(|tool| declaration(tool, to)).collect::<Result<Vec<_>, _>>()?;
    Ok((!declared.is_empty()).then_some([Tools { function_declarations: declared }]))
}

fn declaration<'a>(tool: &'a Tool, to: &Target) -> Result<Declaration<'a>, Invalid> {
    let description = tool.description.as_deref().filter(|text| !text.is_empty());
    let mut declaration = Declaration {
        name: &tool.name,
        description,
        parameters_json_schema: None,
        parameters: None,
    };
    match tool.schema.as_deref().filter(|schema| !is_empty(schema)) {
        None => {}
        Some(schema) if knows_only_subset(to.model) => {
            declaration.parameters = Some(to_subset(schema, "tools")?);
        }
        Some(schema) => declaration.parameters_json_schema = Some(plain(schema, "tools")?),
    }
    Ok(declaration)
}

/// Whether the model can be kept to the schemas of its tools: so the third generation on.
fn knows_validation(to: &Target) -> bool {
    to.rules.signed_calls
}

fn tool_config<'a>(
    request: &'a Request,
    to: &Target,
    has_tools: bool,
    losses: &mut Losses,
) -> Result<Option<ToolConfig<'a>>, Invalid> {
    let strict = request.tools.iter().any(|tool| tool.strict == Some(true));
    let (mode, names): (_, &[String]) = match &request.tool_choice {
        _ if !has_tools => return Ok(None),
        None | Some(ToolChoice::Auto | ToolChoice::Among { required: false, .. })
            if strict && knows_validation(to) =>
        {
            ("VALIDATED", &[])
        }
        None => return Ok(None),
        Some(ToolChoice::Auto | ToolChoice::Among { required: false, .. }) => ("AUTO", &[]),
        Some(ToolChoice::None) => ("NONE", &[]),
        Some(ToolChoice::Required | ToolChoice::Named(_) | ToolChoice::Among { .. })
            if !to.rules.tool_choice =>
        {
            losses.lose(Field::ToolChoiceRequired, Fate::Dropped)?;
            ("AUTO", &[])
        }
        Some(ToolChoice::Required) => ("ANY", &[]),
        Some(ToolChoice::Named(name)) => ("ANY", std::slice::from_ref(name)),
        Some(ToolChoice::Among { names, required: true }) => ("ANY", names),
    };
    let function_calling_config = FunctionCalling { mode, allowed_function_names: names };
    Ok(Some(ToolConfig { function_calling_config }))
}

/// Each dialect's word for how soon and how dear; the default goes without saying.
fn service_tier(request: &Request, losses: &mut Losses) -> Result<Option<&'static str>, Invalid> {
    Ok(match request.service_tier.as_deref() {
        None | Some("auto") => None,
        Some("default" | "standard" | "standard_only") => Some("standard"),
        Some("flex") => Some("flex"),
        Some("priority") => Some("priority"),
        Some(_) => {
            losses.lose(Field::ServiceTier, Fate::Dropped)?;
            None
        }
    })
}
