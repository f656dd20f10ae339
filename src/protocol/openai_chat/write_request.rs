//! Writes a request for a server.

use serde::Serialize;
use serde_json::value::RawValue;

use super::strict::may_be_strict;
use super::write_messages::{ToldMessage, arranged, write_messages};
use super::write_tools::{ToldChoice, ToldTool, write_choice, write_tools};
use crate::protocol::canonical::{
    Effort, Fate, Field, Format, Invalid, Losses, NameLimits, Request, Rules, Schema, Target,
    ThinkingRule,
};

/// What names of tools may look like
/// (<https://platform.openai.com/docs/api-reference/chat/create#chat-create-tools>).
pub const NAMES: NameLimits = NameLimits {
    longest: 64,
    punctuation: "_-",
    letter_first: false,
    custom_tools: true,
    namespaces: false,
};

/// The most strings that may end an answer of `OpenAI`'s.
const MOST_STOPS: usize = 4;

#[derive(Default, Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<ToldMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToldTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<ToldChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_p: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logit_bias: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ToldFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_template_kwargs: Option<TemplateArguments>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ToldFormat<'a> {
    JsonObject,
    JsonSchema { json_schema: ToldSchema<'a> },
}

#[derive(Serialize)]
struct ToldSchema<'a> {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// What templates of models that think ask for, as Qwen's does.
#[derive(Serialize)]
struct TemplateArguments {
    enable_thinking: bool,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// What becomes of a field here.
pub fn fate(field: Field) -> Fate {
    match field {
        Field::MaxOutput
        | Field::Temperature
        | Field::TopP
        | Field::Stop
        | Field::Seed
        | Field::PresencePenalty
        | Field::FrequencyPenalty
        | Field::LogitBias
        | Field::JsonObject
        | Field::JsonSchema
        | Field::Effort
        | Field::User
        | Field::SystemInside
        | Field::ImageData
        | Field::ImageUrl
        | Field::ImageDetail
        | Field::Tools
        | Field::CustomTools
        | Field::Grammar
        | Field::StrictTools
        | Field::ToolChoiceNone
        | Field::ToolChoiceRequired
        | Field::ToolChoiceNamed
        | Field::OneToolAtATime => Fate::Carried,
        Field::Verbosity | Field::ServiceTier | Field::CacheKey => {
            Fate::Converted("sent to OpenAI and Azure, left out elsewhere")
        }
        Field::Document => Fate::Converted("a file, or its text; vLLM takes only text"),
        Field::ThinkingHistory => Fate::Converted("its words, but not to OpenAI and Azure"),
        Field::Signature => Fate::Converted("the server's own goes back, others are left out"),
        Field::TopK | Field::MinP => Fate::Converted("sent to vLLM, left out elsewhere"),
        Field::ThinkingBudget => Fate::Converted("an effort"),
        Field::CacheMark => Fate::Converted("nothing: prefixes are cached without marks"),
        Field::ToolResultImage => Fate::Converted("a message of the user's after the results"),
        Field::ToolResultError => Fate::Converted("a text that begins with `Error:`"),
        Field::Candidates | Field::Logprobs | Field::Metadata => Fate::Dropped,
        Field::Audio => Fate::Converted("`input_audio`; anything but WAV and MP3 is refused"),
        Field::Video => Fate::Converted("`video_url` at vLLM; refused elsewhere"),
        Field::DocumentUrl => Fate::Refused("documents can only be sent whole"),
        Field::FileId => Fate::Refused("the file is kept by another provider"),
    }
}

/// Writes the body of a call of `/v1/chat/completions`.
///
/// A stream always asks for its usage. What only `OpenAI` knows is left out for servers that may refuse
/// what they do not know.
pub fn write_request(
    request: &Request,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    let rules = to.rules;
    let turns = arranged(request, rules)?;
    let mut lost = Lost { losses, rules };
    let tools = write_tools(request, rules, lost.losses)?;
    let has_tools = !tools.is_empty();
    let one_at_a_time = request.parallel_tools.filter(|_| has_tools);
    let mut body = Body {
        model: to.model,
        messages: write_messages(request, &turns, rules, lost.losses)?,
        tool_choice: if has_tools { write_choice(request, rules) } else { None },
        tools,
        parallel_tool_calls: one_at_a_time.filter(|parallel| !parallel),
        logit_bias: request.logit_bias.as_deref(),
        seed: request.seed,
        user: request.user.as_deref(),
        stream: request.stream,
        stream_options: request.stream.then_some(StreamOptions { include_usage: true }),
        ..Body::default()
    };
    if rules.max_completion_tokens {
        body.max_completion_tokens = request.max_output;
    } else {
        body.max_tokens = request.max_output;
    }
    lost.sampling(request, &mut body)?;
    lost.hints(request, &mut body)?;
    lost.reasoning(request, &mut body)?;
    body.response_format = format(&request.format, is_official(rules));
    let written = serde_json::to_vec(&body);
    written.map_err(|error| Invalid::request("", format!("the request cannot be written: {error}")))
}

/// Whether the server is `OpenAI`'s own, or Azure's.
pub(super) fn is_official(rules: &Rules) -> bool {
    rules.max_completion_tokens
}

struct Lost<'a, 'l> {
    losses: &'l mut Losses,
    rules: &'a Rules,
}

impl Lost<'_, '_> {
    /// `value` where it is `taken`; else nothing, and it is named.
    fn keep<T>(
        &mut self,
        value: Option<T>,
        taken: bool,
        field: Field,
    ) -> Result<Option<T>, Invalid> {
        if value.is_some() && !taken {
            self.losses.lose(field, Fate::Dropped)?;
        }
        Ok(value.filter(|_| taken))
    }

    fn sampling<'a>(&mut self, request: &'a Request, body: &mut Body<'a>) -> Result<(), Invalid> {
        let Rules { sampling, extended_sampling, penalties, .. } = *self.rules;
        body.temperature = self.keep(request.temperature, sampling, Field::Temperature)?;
        let both = self.rules.temperature_with_top_p || body.temperature.is_none();
        body.top_p = self.keep(request.top_p, sampling && both, Field::TopP)?;
        body.top_k = self.keep(request.top_k, sampling && extended_sampling, Field::TopK)?;
        body.min_p = self.keep(request.min_p, sampling && extended_sampling, Field::MinP)?;
        body.presence_penalty =
            self.keep(request.presence_penalty, penalties, Field::PresencePenalty)?;
        body.frequency_penalty =
            self.keep(request.frequency_penalty, penalties, Field::FrequencyPenalty)?;
        let most = match (self.rules.stop, is_official(self.rules)) {
            (false, _) => 0,
            (true, true) => MOST_STOPS,
            (true, false) => usize::MAX,
        };
        if request.stop.len() > most {
            self.losses.lose(Field::Stop, Fate::Dropped)?;
        }
        body.stop = request.stop.get(..most).unwrap_or(&request.stop);
        // There is one answer in the middle, without probabilities.
        self.keep(request.candidates.filter(|count| *count > 1), false, Field::Candidates)?;
        self.keep(request.logprobs, false, Field::Logprobs)?;
        Ok(())
    }

    fn hints<'a>(&mut self, request: &'a Request, body: &mut Body<'a>) -> Result<(), Invalid> {
        let official = is_official(self.rules);
        body.verbosity = self.keep(request.verbosity.as_deref(), official, Field::Verbosity)?;
        body.prompt_cache_key =
            self.keep(request.cache_key.as_deref(), official, Field::CacheKey)?;
        let tier = request.service_tier.as_deref();
        body.service_tier = tier.and_then(service_tier).filter(|_| official);
        // `auto` is what no word means.
        if body.service_tier.is_none() && tier.is_some_and(|tier| tier != "auto") {
            self.losses.lose(Field::ServiceTier, Fate::Dropped)?;
        }
        // OpenAI takes them only with answers that it stores.
        if !request.metadata.is_empty() {
            self.losses.lose(Field::Metadata, Fate::Dropped)?;
        }
        Ok(())
    }

    fn reasoning(&mut self, request: &Request, body: &mut Body) -> Result<(), Invalid> {
        let Some(effort) = request.reasoning.as_effort() else { return Ok(()) };
        let known = match self.rules.thinking {
            ThinkingRule::Never => None,
            // vLLM's templates know three words, and none.
            _ if self.rules.extended_sampling => Some(match effort {
                Effort::Minimal => Effort::Low,
                effort => effort.min(Effort::High),
            }),
            _ => effort.at_most(self.rules.efforts),
        };
        if known.is_none() && effort != Effort::None {
            let said = request.reasoning.effort.is_some();
            let field = if said { Field::Effort } else { Field::ThinkingBudget };
            self.losses.lose(field, Fate::Dropped)?;
        }
        body.reasoning_effort = known.map(Effort::as_str);
        if known == Some(Effort::None) && self.rules.extended_sampling {
            body.chat_template_kwargs = Some(TemplateArguments { enable_thinking: false });
        }
        Ok(())
    }
}

/// Whatever dialect's word it is, in this one's.
fn service_tier(tier: &str) -> Option<&'static str> {
    Some(match tier {
        "auto" => "auto",
        "default" | "standard" | "standard_only" => "default",
        "flex" => "flex",
        "priority" => "priority",
        "scale" => "scale",
        _ => return None,
    })
}

fn format(format: &Format, official: bool) -> Option<ToldFormat<'_>> {
    match format {
        Format::Text => None,
        Format::JsonObject => Some(ToldFormat::JsonObject),
        Format::JsonSchema(Schema { name, description, schema, strict }) => {
            let json_schema = ToldSchema {
                name: schema_name(name),
                description: description.as_deref(),
                schema,
                strict: strict.map(|strict| strict && (!official || may_be_strict(schema))),
            };
            Some(ToldFormat::JsonSchema { json_schema })
        }
    }
}

/// A schema must have a name, of the same characters as a tool's.
fn schema_name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || NAMES.punctuation.contains(c);
    let name = name.chars().take(NAMES.longest);
    let name: String = name.map(|c| if allowed(c) { c } else { '_' }).collect();
    if name.is_empty() { "output".to_owned() } else { name }
}
