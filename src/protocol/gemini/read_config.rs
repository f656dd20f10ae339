//! `generationConfig`, read.

use serde_json::value::RawValue;

use super::media;
use super::members::Members;
use super::schema::to_json_schema;
use crate::protocol::canonical::{
    Block, Effort, Format, Invalid, Json, Losses, Reasoning, Request, Schema,
};

/// What Google's schemas of answers are called elsewhere, where they must have a name.
const NAME: &str = "response";

/// Reads `generationConfig` into `request`, whose turns are there already.
pub fn read_config(
    mut config: Members,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    request.temperature = config.number("temperature")?;
    request.top_p = config.number("topP")?;
    request.top_k = config.unsigned("topK")?;
    request.candidates = config.unsigned("candidateCount")?;
    request.max_output = config.unsigned("maxOutputTokens")?;
    request.seed = config.integer("seed")?;
    request.presence_penalty = config.number("presencePenalty")?;
    request.frequency_penalty = config.number("frequencyPenalty")?;
    request.stop = config.read("stopSequences", "an array of strings")?.unwrap_or_default();
    let alternatives = config.unsigned("logprobs")?;
    let logprobs = config.boolean("responseLogprobs")? == Some(true);
    request.logprobs = logprobs.then(|| alternatives.unwrap_or_default());
    request.format = format(&mut config, losses)?;
    if let Some(thinking) = config.object("thinkingConfig")? {
        request.reasoning = reasoning(thinking, losses)?;
    }
    modalities(&mut config, losses)?;
    if let Some(resolution) = config.string("mediaResolution")? {
        resolve(&config, &resolution, request, losses)?;
    }
    config.drop_rest(losses)
}

fn format(config: &mut Members, losses: &mut Losses) -> Result<Format, Invalid> {
    let kind = config.string("responseMimeType")?;
    let subset = config.take("responseSchema").map(|schema| {
        let path = config.at("responseSchema");
        to_json_schema(schema, &path)
    });
    // The second is how it was called while it was new.
    let names = ["responseJsonSchema", "_responseJsonSchema"];
    let plain = names.into_iter().find_map(|name| config.take(name)).map(RawValue::to_owned);
    let schema: Option<Json> = plain.map(Ok).or(subset).transpose()?;
    match (kind.as_deref(), schema) {
        (None | Some("" | "text/plain"), None) => Ok(Format::Text),
        (Some("application/json"), None) => Ok(Format::JsonObject),
        (None | Some("" | "application/json"), Some(schema)) => {
            let name = NAME.to_owned();
            Ok(Format::JsonSchema(Schema { name, description: None, schema, strict: None }))
        }
        // `text/x.enum`: one of some words, without quotes.
        _ => {
            losses.drop_member(&config.at("responseMimeType"))?;
            Ok(Format::Text)
        }
    }
}

fn reasoning(mut thinking: Members, losses: &mut Losses) -> Result<Reasoning, Invalid> {
    let mut reasoning =
        Reasoning { shown: thinking.boolean("includeThoughts")?, ..Reasoning::default() };
    match thinking.integer("thinkingBudget")? {
        None => {}
        // As much as the model likes.
        Some(..0) => reasoning.enabled = Some(true),
        Some(0) => reasoning.enabled = Some(false),
        Some(budget) => reasoning.budget = u64::try_from(budget).ok(),
    }
    if let Some(level) = thinking.string("thinkingLevel")? {
        reasoning.effort = Effort::parse(&level.to_ascii_lowercase());
        if reasoning.effort.is_none() && level != "THINKING_LEVEL_UNSPECIFIED" {
            losses.drop_member(&thinking.at("thinkingLevel"))?;
        }
    }
    thinking.drop_rest(losses)?;
    Ok(reasoning)
}

fn modalities(config: &mut Members, losses: &mut Losses) -> Result<(), Invalid> {
    let modalities: Vec<String> =
        config.read("responseModalities", "an array of strings")?.unwrap_or_default();
    let asks = |kind: &str| modalities.iter().any(|known| known.eq_ignore_ascii_case(kind));
    let param = config.at("responseModalities");
    if asks("audio") || asks("video") || (asks("image") && !asks("text")) {
        let why = "answers are words".to_owned();
        return Err(Invalid::Unsupported { param, why });
    }
    if asks("image") { losses.drop_member(&param) } else { Ok(()) }
}

/// One resolution for all pictures: each that has none of its own gets it.
fn resolve(
    config: &Members,
    resolution: &str,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    let Some(detail) = media::detail(resolution) else {
        if resolution == "MEDIA_RESOLUTION_UNSPECIFIED" {
            return Ok(());
        }
        return losses.drop_member(&config.at("mediaResolution"));
    };
    for block in request.turns.iter_mut().flat_map(|turn| &mut turn.blocks) {
        if let Block::Image(image) = block {
            image.detail.get_or_insert_with(|| detail.to_owned());
        }
    }
    Ok(())
}
