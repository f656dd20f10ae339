//! The object of an answer, around its items.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::output::{Item, Style, Told as ToldItem};
use crate::protocol::canonical::{Json, Refusal, Stop, Told, Usage};
use crate::protocol::json::Object;

/// The members of a request that its answer repeats, and what they are where it has them not.
const ECHOED: [(&str, &str); 20] = [
    ("background", "false"),
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("prompt_cache_key", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("safety_identifier", "null"),
    ("service_tier", r#""auto""#),
    ("store", "false"),
    ("temperature", "1.0"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", r#""auto""#),
    ("tools", "[]"),
    ("top_logprobs", "0"),
    ("top_p", "1.0"),
    ("truncation", r#""disabled""#),
    ("user", "null"),
];

/// The members of a request that its answer repeats, on one line: for [`Told::echo`].
pub fn echo(body: &[u8]) -> Json {
    echo_with(body, &[])
}

/// The same with members as they are `said` here, in JSON, whatever the request has.
pub fn echo_with(body: &[u8], said: &[(&str, &str)]) -> Json {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let mut body = Object::parse(text, "body").unwrap_or_default();
    let mut echo = String::with_capacity(1024);
    for (name, default) in ECHOED {
        echo.push(if echo.is_empty() { '{' } else { ',' });
        echo.extend(["\"", name, "\":"]);
        let said = said.iter().find(|(said, _)| *said == name);
        match (said, body.take(name)) {
            (Some((_, said)), _) => echo.push_str(said),
            (None, Some(value)) => compact(value.get(), &mut echo),
            (None, None) => echo.push_str(default),
        }
    }
    echo.push('}');
    RawValue::from_string(echo).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// JSON without white space between its tokens, so that it is one line.
pub fn compact(json: &str, out: &mut String) {
    let mut within = false;
    let mut escaped = false;
    for c in json.chars() {
        if within {
            within = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            within = c == '"';
        }
        out.push(c);
    }
}

/// What is the same in every object of one answer.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub style: Style,
    id: String,
    created: u64,
    model: String,
    echo: Json,
}

/// How far the answer is.
#[derive(Clone, Copy, Debug)]
pub enum Status<'a> {
    InProgress,
    Ended(&'a Stop),
    Failed(&'a Refusal<'a>),
}

#[derive(Serialize)]
struct Head<'a> {
    id: &'a str,
    object: &'static str,
    created_at: u64,
    status: &'static str,
    error: Option<Fault<'a>>,
    incomplete_details: Option<Incomplete>,
    model: &'a str,
}

#[derive(Serialize)]
struct Fault<'a> {
    code: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct Incomplete {
    reason: &'static str,
}

#[derive(Serialize)]
struct Tail<'a> {
    output: Vec<ToldItem<'a>>,
    usage: Option<Took>,
}

#[derive(Serialize)]
struct Took {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

#[derive(Serialize)]
struct InputDetails {
    cached_tokens: u64,
    cache_write_tokens: u64,
}

#[derive(Serialize)]
struct OutputDetails {
    reasoning_tokens: u64,
}

impl From<Usage> for Took {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.input,
            input_tokens_details: InputDetails {
                cached_tokens: usage.cache_read,
                cache_write_tokens: usage.cache_write.saturating_add(usage.cache_write_long),
            },
            output_tokens: usage.output,
            output_tokens_details: OutputDetails { reasoning_tokens: usage.reasoning.unwrap_or(0) },
            total_tokens: usage.total(),
        }
    }
}

impl Envelope {
    /// For an answer that its provider calls `id`, and has made at `created`.
    pub fn new(told: &Told, id: &str, model: &str, created: Option<u64>) -> Self {
        let own = if id.is_empty() { told.id.as_str() } else { id };
        let own = own.strip_prefix("resp_").unwrap_or(own).to_owned();
        let model = if told.model.is_empty() { model } else { &told.model };
        let told_echo = told.echo.clone().filter(|echo| echo.get().starts_with('{'));
        let echo = told_echo.unwrap_or_else(|| echo(b"{}"));
        Self {
            id: format!("resp_{own}"),
            style: Style { id: own, summaries: wants_summaries(&echo) },
            created: created.unwrap_or(told.created),
            model: model.to_owned(),
            echo,
        }
    }

    /// Writes the object.
    pub fn write(
        &self,
        status: Status,
        items: &[Item],
        usage: Option<Usage>,
        out: &mut Vec<u8>,
    ) -> serde_json::Result<()> {
        let (word, reason, error) = match status {
            Status::InProgress => ("in_progress", None, None),
            Status::Ended(Stop::MaxTokens) => ("incomplete", Some("max_output_tokens"), None),
            Status::Ended(Stop::Filtered) => ("incomplete", Some("content_filter"), None),
            Status::Ended(_) => ("completed", None, None),
            Status::Failed(refusal) => ("failed", None, Some(refusal)),
        };
        let head = Head {
            id: &self.id,
            object: "response",
            created_at: self.created,
            status: word,
            error: error.map(|it| Fault { code: known_code(it.code), message: it.message }),
            incomplete_details: reason.map(|reason| Incomplete { reason }),
            model: &self.model,
        };
        serde_json::to_writer(&mut *out, &head)?;
        // The members of three objects, one behind the other, are one object.
        rejoin(out);
        out.extend_from_slice(self.echo.get().trim_start_matches('{').as_bytes());
        rejoin(out);
        let start = out.len();
        let output = items.iter().map(|item| ToldItem(item, &self.style)).collect();
        serde_json::to_writer(&mut *out, &Tail { output, usage: usage.map(Took::from) })?;
        out.remove(start);
        Ok(())
    }
}

/// The codes of an answer are a list of their own, which has one word for what is the provider's fault.
fn known_code(code: &str) -> &str {
    if code == "upstream_error" { "server_error" } else { code }
}

/// Makes the `}` at the end a `,`.
fn rejoin(out: &mut [u8]) {
    if let Some(last) = out.last_mut() {
        *last = b',';
    }
}

fn wants_summaries(echo: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Echo {
        reasoning: Option<Asked>,
    }
    #[derive(Deserialize)]
    struct Asked {
        #[serde(default)]
        summary: Option<String>,
        #[serde(default)]
        generate_summary: Option<String>,
    }
    let asked = serde_json::from_str::<Echo>(echo.get()).ok().and_then(|echo| echo.reasoning);
    let summary = asked.and_then(|asked| asked.summary.or(asked.generate_summary));
    summary.is_some_and(|summary| summary != "none")
}
