//! What a call said and was answered, as far as it is to be written down: put together, cut to size and
//! without keys, away from the request.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Record;
use crate::config::{AuditContent, Config, Dialect};
use crate::protocol::canonical::{Told, scrub};
use crate::protocol::json::{Members, scan};
use crate::protocol::translate::assemble;

/// Words of a request that are none of its content.
const WORDS: [&str; 9] = [
    "reasoning_effort",
    "service_tier",
    "tool_choice",
    "truncation",
    "prompt_cache_retention",
    "verbosity",
    "modalities",
    "encoding_format",
    "size",
];
/// Objects with numbers and switches of a request.
const CONFIGS: [&str; 2] = ["generationConfig", "inferenceConfig"];
/// The longest of them, in bytes.
const LONGEST_WORD: usize = 32;
/// Members of a request that are counted.
const COUNTED: [&str; 6] = ["messages", "input", "contents", "tools", "documents", "prompt"];

/// The largest list that is counted, in bytes: it is done before the request goes on.
const LARGEST: usize = 64 << 10;

/// What is kept of one call.
#[derive(Debug, Default)]
pub struct Kept {
    pub content: AuditContent,
    /// What is kept of a request whose content is not.
    metadata: Option<String>,
    /// The request as it came, where its content is kept.
    pub request: Bytes,
    /// The answer as it went out, the beginning of it.
    answer: BytesMut,
    /// Bytes that are kept of each.
    limit: usize,
    /// Whose words a stream is in; `None`: the answer is a whole one.
    pub stream: Option<Dialect>,
}

/// What of it is written down: JSON, or the beginning of it.
#[derive(Debug, Default, PartialEq)]
pub struct Written {
    pub metadata: Option<String>,
    pub request: Option<String>,
    pub response: Option<String>,
}

/// A stream takes several times what it says.
const STREAM: usize = 8;

// === impl Kept ===

impl Kept {
    /// What is kept of a call by this configuration; `draw` is a number from 0 to 99, by chance.
    ///
    /// The strictest of what key and model say counts; where neither says it, the section does.
    pub fn begin(
        config: &Config,
        key: Option<AuditContent>,
        model: Option<AuditContent>,
        draw: u8,
    ) -> Option<Box<Self>> {
        let audit = config.audit.as_ref().filter(|_| !config.privacy.strict)?;
        let content = key.into_iter().chain(model).min().unwrap_or(audit.content);
        if content == AuditContent::None || draw >= audit.sample.0 {
            return None;
        }
        let limit = usize::try_from(audit.content_limit).unwrap_or(usize::MAX);
        Some(Box::new(Self { content, limit, ..Self::default() }))
    }

    /// Keeps the request, or what there is to tell of it.
    pub fn ask(&mut self, body: &Bytes, members: &Members) {
        if self.content == AuditContent::Metadata {
            self.metadata = metadata(body, members);
            return;
        }
        let whole = body.len() <= self.limit;
        // Not a slice: that would keep all of it in memory.
        self.request = match body.get(..self.limit).filter(|_| !whole) {
            Some(beginning) => Bytes::copy_from_slice(beginning),
            None => body.clone(),
        };
    }

    /// Keeps a part of the answer.
    pub fn answer(&mut self, part: &[u8]) {
        if self.content != AuditContent::Full {
            return;
        }
        let most =
            if self.stream.is_some() { self.limit.saturating_mul(STREAM) } else { self.limit };
        let room = most.saturating_sub(self.answer.len());
        self.answer.extend_from_slice(part.get(..room).unwrap_or(part));
    }

    /// Bytes it takes.
    pub fn size(&self) -> usize {
        let told = self.metadata.as_ref().map_or(0, String::len);
        told + self.request.len() + self.answer.len() + size_of::<Self>()
    }

    /// Puts together what is written down.
    pub fn write(&self, record: &Record) -> Written {
        let mut written = Written { metadata: self.metadata.clone(), ..Written::default() };
        if self.content == AuditContent::Full {
            let members = scan(&self.request).ok();
            written.metadata = members.and_then(|members| metadata(&self.request, &members));
            written.request = text(&self.request, self.limit);
            let assembled = self.stream.and_then(|dialect| {
                let name = |name: &Option<Arc<str>>| name.as_deref().unwrap_or_default().to_owned();
                let model = name(&record.asked_model);
                let told = Told { model, id: record.request_id.to_string(), ..Told::default() };
                assemble(dialect, Bytes::copy_from_slice(&self.answer), &told)
            });
            written.response = text(assembled.as_deref().unwrap_or(&self.answer), self.limit);
        }
        written
    }
}

/// The beginning of a text, without keys. `None`: there is none.
fn text(bytes: &[u8], most: usize) -> Option<String> {
    let scrubbed = scrub(bytes);
    let mut text = String::from_utf8_lossy(&scrubbed).replace('\0', "");
    text.truncate(text.floor_char_boundary(most));
    (!text.is_empty()).then_some(text)
}

/// Numbers, switches and a few known words of a request, and how many of what it has.
fn metadata(request: &[u8], members: &Members) -> Option<String> {
    let mut kept = Map::new();
    for member in members.all() {
        let (name, raw) = (members.name(member), request.get(member.value.clone()));
        // A name that nobody knows may be content itself.
        let Some(raw) = raw.filter(|_| name.len() <= LONGEST_WORD && kept.len() < 64) else {
            continue;
        };
        match raw.first() {
            Some(b'[') if COUNTED.contains(&name) && raw.len() <= LARGEST => {
                let list = serde_json::from_slice::<Vec<&RawValue>>(raw).unwrap_or_default();
                kept.insert(format!("{name}_count"), list.len().into());
            }
            Some(b'{') if CONFIGS.contains(&name) && raw.len() <= LARGEST => {
                let inner = serde_json::from_slice::<Map<String, Value>>(raw).unwrap_or_default();
                let numbers = inner.into_iter().filter(|(_, it)| it.is_number() || it.is_boolean());
                let numbers = numbers.filter(|(inner, _)| inner.len() <= LONGEST_WORD).take(64);
                kept.extend(numbers.map(|(inner, it)| (format!("{name}.{inner}"), it)));
            }
            Some(b'"') if !WORDS.contains(&name) || raw.len() > LONGEST_WORD + 2 => {}
            Some(b'"' | b'-' | b'0'..=b'9' | b't' | b'f') => {
                if let Ok(value) = serde_json::from_slice(raw) {
                    kept.insert(name.to_owned(), value);
                }
            }
            _ => {}
        }
    }
    (!kept.is_empty()).then(|| Value::Object(kept).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Audit, Percent, Privacy};

    fn config(content: AuditContent) -> Config {
        let audit = Audit { content, content_limit: 200, ..Audit::default() };
        Config { audit: Some(audit), ..Config::default() }
    }

    fn full() -> Kept {
        *Kept::begin(&config(AuditContent::Full), None, None, 0).unwrap()
    }

    #[test]
    fn the_strictest_word_counts_and_privacy_before_all() {
        let full = config(AuditContent::Full);
        let begin = |config: &Config, key, model| {
            Kept::begin(config, key, model, 50).map(|kept| kept.content)
        };
        assert_eq!(begin(&full, None, None), Some(AuditContent::Full));
        assert_eq!(begin(&full, Some(AuditContent::None), Some(AuditContent::Full)), None);
        let none = config(AuditContent::None);
        let metadata = Some(AuditContent::Metadata);
        assert_eq!(begin(&none, metadata, None), metadata);
        assert_eq!(begin(&Config { privacy: Privacy::STRICT, ..full.clone() }, None, None), None);
        let mut half = full;
        half.audit.as_mut().unwrap().sample = Percent(50);
        assert_eq!(begin(&half, None, None), None);
        assert!(Kept::begin(&half, None, None, 49).is_some());
    }

    #[test]
    fn metadata_has_numbers_and_no_content() {
        let mut kept = Kept::begin(&config(AuditContent::Metadata), None, None, 0).unwrap();
        let body = Bytes::from_static(
            br#"{"model":"m","temperature":0.5,"stream":true,"user":"secret","stop":["secret"],
            "tool_choice":"auto","messages":[{"role":"user","content":"secret"}],
            "generationConfig":{"topK":3,"stopSequences":["secret"]}}"#,
        );
        kept.ask(&body, &scan(&body).unwrap());
        assert!(kept.request.is_empty());
        kept.answer(b"secret");
        let written = kept.write(&Record::default());
        assert_eq!((written.request, written.response), (None, None));
        let metadata = written.metadata.unwrap();
        assert_eq!(
            metadata,
            r#"{"temperature":0.5,"stream":true,"tool_choice":"auto","messages_count":1,"generationConfig.topK":3}"#
        );
    }

    #[test]
    fn keys_are_masked_and_long_texts_cut() {
        let mut kept = full();
        let long = format!(r#"{{"input":"sk-live-abcdefgh123 {}"}}"#, "x".repeat(500));
        let long = Bytes::from(long);
        kept.ask(&long, &scan(&long).unwrap());
        kept.answer(br#"{"text":"Bearer abcdefghij"}"#);
        let written = kept.write(&Record::default());
        let request = written.request.unwrap();
        assert!(request.starts_with(r#"{"input":"sk-****"#) && request.len() == 200, "{request}");
        assert_eq!(written.response.as_deref(), Some(r#"{"text":"Bea**************"}"#));
    }

    #[test]
    fn a_stream_is_written_down_as_one_answer() {
        let mut kept = full();
        kept.stream = Some(Dialect::OpenaiChat);
        for event in [
            r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"Hel"}}]}"#,
            r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":"stop"}]}"#,
            "[DONE]",
        ] {
            kept.answer(format!("data: {event}\n\n").as_bytes());
        }
        let response = kept.write(&Record::default()).response.unwrap();
        assert!(response.contains(r#""content":"Hello""#), "{response}");
    }
}
