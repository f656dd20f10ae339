//! `generationConfig`, written.

use serde::Serialize;

use super::media;
use super::schema::{plain, to_subset};
use crate::protocol::canonical::{
    Block, Effort, Fate, Field, Format, Invalid, Json, Losses, Reasoning, Request, Target,
    ThinkingRule, Turn,
};

/// The most strings that end an answer.
const MOST_STOPS: usize = 5;

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are Google's")]
pub struct Config<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_schema: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<Thinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_resolution: Option<&'static str>,
}

/// A schema, the same as another when it is written the same.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Written(Json);

impl PartialEq for Written {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

/// A model takes a budget or a level, and never both.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are Google's")]
struct Thinking {
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_level: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    include_thoughts: Option<bool>,
}

/// Whether a model knows only Google's own subset of schemas.
pub fn knows_only_subset(model: &str) -> bool {
    model.contains("gemini-1")
}

/// What of the request is the configuration of the answer; nothing where nothing is said.
pub fn config<'a>(
    request: &'a Request,
    turns: &[Turn],
    to: &Target,
    losses: &mut Losses,
) -> Result<Option<Config<'a>>, Invalid> {
    let mut losing = Losing { losses };
    let rules = to.rules;
    let mut config = Config {
        temperature: losing.keep(Field::Temperature, request.temperature, rules.sampling)?,
        top_p: losing.keep(Field::TopP, request.top_p, rules.sampling)?,
        top_k: losing.keep(Field::TopK, request.top_k, rules.sampling)?,
        max_output_tokens: request.max_output,
        presence_penalty: losing.keep(
            Field::PresencePenalty,
            request.presence_penalty,
            rules.penalties,
        )?,
        frequency_penalty: losing.keep(
            Field::FrequencyPenalty,
            request.frequency_penalty,
            rules.penalties,
        )?,
        stop_sequences: stops(request, rules.stop, &mut losing)?,
        ..Config::default()
    };
    if let Some(seed) = request.seed {
        config.seed = losing.keep(Field::Seed, i32::try_from(seed).ok(), true)?;
        if config.seed.is_none() {
            losing.lose(Field::Seed)?;
        }
    }
    format(request, to, &mut config, &mut losing)?;
    config.thinking_config = thinking(&request.reasoning, to, &mut losing)?;
    config.media_resolution = resolution(turns, &mut losing)?;
    Ok((config != Config::default()).then_some(config))
}

/// What is left out because a model does not take it.
struct Losing<'l> {
    losses: &'l mut Losses,
}

impl Losing<'_> {
    fn lose(&mut self, field: Field) -> Result<(), Invalid> {
        self.losses.lose(field, Fate::Dropped)
    }

    /// The value, if it is `taken`.
    fn keep<T>(
        &mut self,
        field: Field,
        value: Option<T>,
        taken: bool,
    ) -> Result<Option<T>, Invalid> {
        if value.is_some() && !taken {
            self.lose(field)?;
            return Ok(None);
        }
        Ok(value)
    }
}

fn stops<'a>(
    request: &'a Request,
    taken: bool,
    losing: &mut Losing,
) -> Result<&'a [String], Invalid> {
    let most = if taken { MOST_STOPS } else { 0 };
    if request.stop.len() > most {
        losing.lose(Field::Stop)?;
    }
    Ok(request.stop.get(..most).unwrap_or(&request.stop))
}

fn format(
    request: &Request,
    to: &Target,
    config: &mut Config,
    losing: &mut Losing,
) -> Result<(), Invalid> {
    let forbidden = !request.tools.is_empty() && !to.rules.tools_with_format;
    match &request.format {
        Format::Text => return Ok(()),
        Format::JsonObject if forbidden => return losing.lose(Field::JsonObject),
        Format::JsonSchema(_) if forbidden => return losing.lose(Field::JsonSchema),
        Format::JsonObject => {}
        Format::JsonSchema(schema) if knows_only_subset(to.model) => {
            let schema = to_subset(&schema.schema, "response_format")?;
            config.response_schema = Some(Written(schema));
        }
        Format::JsonSchema(schema) => {
            let schema = plain(&schema.schema, "response_format")?;
            config.response_json_schema = Some(Written(schema));
        }
    }
    config.response_mime_type = Some("application/json");
    Ok(())
}

fn thinking(
    reasoning: &Reasoning,
    to: &Target,
    losing: &mut Losing,
) -> Result<Option<Thinking>, Invalid> {
    if reasoning.is_default() {
        return Ok(None);
    }
    let effort = reasoning.as_effort();
    let off = effort == Some(Effort::None);
    let mut thinking = Thinking::default();
    match to.rules.thinking {
        ThinkingRule::Never => {
            if !off && effort.is_some() {
                let by_budget = reasoning.effort.is_none();
                losing.lose(if by_budget { Field::ThinkingBudget } else { Field::Effort })?;
            }
            return Ok(None);
        }
        ThinkingRule::Budget => thinking.thinking_budget = budget(reasoning, to.model),
        _ => {
            let level = effort.and_then(|effort| level(effort, to.rules.efforts));
            thinking.thinking_level = level.map(Effort::as_str);
        }
    }
    // Thoughts are told where the caller asked for them, or for thinking.
    thinking.include_thoughts = reasoning.shown.or((!off).then_some(true)).filter(|_| !off);
    Ok((thinking != Thinking::default()).then_some(thinking))
}

/// Tokens for models that take a number of them: what each of the family takes,
/// <https://ai.google.dev/gemini-api/docs/thinking>. -1 is as many as the model likes.
fn budget(reasoning: &Reasoning, model: &str) -> Option<i64> {
    let (least, most) = match model {
        _ if model.contains("pro") => (128, 32_768),
        _ if model.contains("lite") => (512, 24_576),
        _ => (1, 24_576),
    };
    if reasoning.as_effort() == Some(Effort::None) {
        return Some(if model.contains("pro") { least } else { 0 });
    }
    let asked = reasoning.budget.or(reasoning.effort.map(Effort::gemini_budget));
    match asked {
        Some(tokens) => Some(i64::try_from(tokens).unwrap_or(most).clamp(least, most)),
        None => (reasoning.enabled == Some(true)).then_some(-1),
    }
}

/// The nearest level below, but of two a middling effort is the higher.
fn level(effort: Effort, known: &[Effort]) -> Option<Effort> {
    if effort == Effort::Medium && !known.contains(&effort) && known.contains(&Effort::High) {
        return Some(Effort::High);
    }
    effort.at_most(known)
}

/// How closely all pictures are looked at: Google has one word for the whole request.
fn resolution(turns: &[Turn], losing: &mut Losing) -> Result<Option<&'static str>, Invalid> {
    let mut images = turns.iter().flat_map(|turn| &turn.blocks).filter_map(|block| match block {
        Block::Image(image) => Some(image.detail.as_deref().unwrap_or("auto")),
        _ => None,
    });
    let Some(first) = images.next() else { return Ok(None) };
    let mut others = images.filter(|detail| *detail != "auto" || first != "auto").peekable();
    let uniform = others.all(|detail| detail == first);
    let resolution = media::resolution(first).filter(|_| uniform);
    if resolution.is_none() && !(uniform && first == "auto") {
        losing.lose(Field::ImageDetail)?;
    }
    Ok(resolution)
}
