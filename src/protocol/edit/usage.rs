//! What an answer cost in tokens, as each of the dialects reports it.

use crate::protocol::json::cursor::{Cursor, Fault};
use crate::protocol::json::text::unquote;
use memchr::memmem::{Finder, FinderRev};
use std::sync::LazyLock;

/// Tokens of one exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Read by the model, cached ones included.
    pub prompt: u64,
    /// Written by the model, reasoning included.
    pub completion: u64,
    /// Of `prompt`: read from a cache.
    pub cached: u64,
    /// Of `completion`: reasoning.
    pub reasoning: u64,
}

/// Reads the usage of a whole answer or of one stream event.
///
/// Chat, completions and embeddings say `usage.prompt_tokens`; responses and messages say
/// `usage.input_tokens`, in streams within `response` or `message`.
#[must_use]
pub fn read_usage(json: &[u8]) -> Option<Usage> {
    if mentions_usage(json) { read(json)?.usage } else { None }
}

/// The name; within a string the second quote would be preceded by a backslash.
///
/// Built once: that takes longer than to search an event.
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"usage\""));

static LAST_USAGE: LazyLock<FinderRev<'static>> = LazyLock::new(|| FinderRev::new("\"usage\""));

/// Reads the last `"usage": {…}` of an answer of which only the end may be there.
#[must_use]
pub fn last_usage(end: &[u8]) -> Option<Usage> {
    let member = end.get(LAST_USAGE.rfind(end)? + USAGE.needle().len()..)?;
    let value = member.trim_ascii_start().strip_prefix(b":")?;
    usage(&mut Cursor::new(std::str::from_utf8(value).ok()?)).ok()
}

/// What a document says about usage.
#[derive(Default)]
pub struct Report {
    pub usage: Option<Usage>,
    /// It has `"choices":[]`, as the chunk has that carries nothing but usage.
    pub no_choices: bool,
}

/// May it hold a usage object?  Cheap: most events of a stream do not, or hold `"usage":null`.
pub fn mentions_usage(json: &[u8]) -> bool {
    USAGE.find_iter(json).any(|at| {
        let rest = json.get(at + USAGE.needle().len()..).unwrap_or_default().trim_ascii_start();
        rest.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().starts_with(b"{"))
    })
}

pub fn read(json: &[u8]) -> Option<Report> {
    let mut cursor = Cursor::new(std::str::from_utf8(json).ok()?);
    let mut report = Report::default();
    document(&mut cursor, &mut report).ok()?;
    Some(report)
}

fn document(cursor: &mut Cursor, report: &mut Report) -> Result<(), Fault> {
    cursor.object(|cursor, key| {
        let name = unquote(cursor.slice(&key));
        match (&*name, cursor.peek()) {
            ("usage", b'{') => report.usage = Some(usage(cursor)?),
            ("response" | "message", b'{') => document(cursor, report)?,
            ("choices", b'[') => {
                report.no_choices = true;
                cursor.array(|cursor| {
                    report.no_choices = false;
                    cursor.pass()
                })?;
            }
            _ => cursor.pass()?,
        }
        Ok(())
    })?;
    Ok(())
}

fn usage(cursor: &mut Cursor) -> Result<Usage, Fault> {
    let mut usage = Usage::default();
    // Anthropic counts what it reads from and writes to its cache beside `input_tokens`.
    let mut beside = 0_u64;
    cursor.object(|cursor, key| {
        let name = unquote(cursor.slice(&key));
        match (&*name, cursor.peek()) {
            ("prompt_tokens" | "input_tokens", _) => usage.prompt = number(cursor)?,
            ("completion_tokens" | "output_tokens", _) => usage.completion = number(cursor)?,
            ("cache_creation_input_tokens", _) => beside = beside.saturating_add(number(cursor)?),
            ("cache_read_input_tokens", _) => {
                usage.cached = number(cursor)?;
                beside = beside.saturating_add(usage.cached);
            }
            ("prompt_tokens_details" | "input_tokens_details", b'{') => {
                usage.cached = detail(cursor, &["cached_tokens"])?;
            }
            ("completion_tokens_details" | "output_tokens_details", b'{') => {
                usage.reasoning = detail(cursor, &["reasoning_tokens", "thinking_tokens"])?;
            }
            _ => cursor.pass()?,
        }
        Ok(())
    })?;
    usage.prompt = usage.prompt.saturating_add(beside);
    Ok(usage)
}

fn detail(cursor: &mut Cursor, names: &[&str]) -> Result<u64, Fault> {
    let mut tokens = 0;
    cursor.object(|cursor, key| {
        if names.contains(&&*unquote(cursor.slice(&key))) {
            tokens = number(cursor)?;
        } else {
            cursor.skip()?;
        }
        Ok(())
    })?;
    Ok(tokens)
}

/// A count of tokens; 0 for null and whatever else is no count.
fn number(cursor: &mut Cursor) -> Result<u64, Fault> {
    let span = cursor.skip()?;
    Ok(cursor.slice(&span).parse().unwrap_or(0))
}

impl Usage {
    /// Takes over what a later event of the same stream says; what that leaves out or sets to 0,
    /// as Anthropic's last event may leave out the prompt, stays.
    pub(super) fn update(&mut self, later: Self) {
        let newer = |old: &mut u64, new| *old = if new == 0 { *old } else { new };
        newer(&mut self.prompt, later.prompt);
        newer(&mut self.completion, later.completion);
        newer(&mut self.cached, later.cached);
        newer(&mut self.reasoning, later.reasoning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::fixture;

    macro_rules! recorded {
        ($name:literal) => {
            fixture::body(include_bytes!(concat!("../../../tests/fixtures/vllm/", $name)))
        };
    }

    fn tokens(prompt: u64, completion: u64, cached: u64, reasoning: u64) -> Usage {
        Usage { prompt, completion, cached, reasoning }
    }

    #[test]
    fn every_endpoint_of_vllm_is_read() {
        assert_eq!(read_usage(&recorded!("chat_reasoning.http")), Some(tokens(36, 77, 0, 38)));
        assert_eq!(read_usage(&recorded!("completions.http")), Some(tokens(5, 5, 0, 0)));
        assert_eq!(read_usage(&recorded!("embeddings.http")), Some(tokens(11, 0, 0, 0)));
        assert_eq!(read_usage(&recorded!("responses.http")), Some(tokens(20, 8, 0, 0)));
        assert_eq!(read_usage(&recorded!("messages.http")), Some(tokens(34, 8, 0, 0)));
    }

    #[test]
    fn anthropic_counts_its_cache_beside_the_input() {
        let json = br#"{"type":"message_start","message":{"usage":{"input_tokens":3,
            "cache_creation_input_tokens":400,"cache_read_input_tokens":1100,"output_tokens":33,
            "output_tokens_details":{"thinking_tokens":7}}}}"#;
        assert_eq!(read_usage(json), Some(tokens(1503, 33, 1100, 7)));
    }

    #[test]
    fn openai_counts_its_cache_within_the_prompt() {
        let json = br#"{"usage" : {"prompt_tokens":50,"prompt_tokens_details":{"cached_tokens":40},
            "completion_tokens":null,"completion_tokens_details":null}}"#;
        assert_eq!(read_usage(json), Some(tokens(50, 0, 40, 0)));
    }

    #[test]
    fn a_document_without_usage_has_none() {
        assert_eq!(read_usage(br#"{"usage":null}"#), None);
        assert_eq!(read_usage(br#"{"x":{"usage":{"prompt_tokens":1}}}"#), None);
        assert_eq!(read_usage(br#"{"text":"\"usage\":{\"prompt_tokens\":1}"}"#), None);
        assert_eq!(read_usage(br#"{"usage":{"prompt_tokens":1}"#), None);
        assert_eq!(read_usage(b"[DONE]"), None);
    }

    #[test]
    fn a_later_event_adds_to_what_is_known() {
        let mut usage = tokens(43, 1, 2, 0);
        usage.update(Usage { completion: 282, ..Usage::default() });
        assert_eq!(Some(usage), Some(tokens(43, 282, 2, 0)));
    }
}
