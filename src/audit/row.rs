//! A record as it is kept: in a database, in the spool, in an archive, on a line of JSON.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Record;

/// One row. Members that say nothing are left out where it is written as JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each says one thing, and all combine")]
pub struct Row {
    /// 28 hexadecimal digits, of which the first 12 are the Unix milliseconds when it ended.
    pub id: String,
    /// When its head had arrived, in Unix milliseconds.
    pub at: i64,
    pub request_id: String,
    pub method: String,
    pub endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    pub client_dialect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_dialect: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served_model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    pub attempts: i64,
    pub status: i64,
    pub client_gone: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<i64>,
    /// The upstream has not told all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_nanos: Option<i64>,
    /// Microseconds since the head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_us: Option<i64>,
    pub duration_us: i64,
    pub bytes_in: i64,
    pub bytes_out: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    pub stream: bool,
    pub tools: bool,
    pub images: bool,
    /// JSON.
    #[serde(skip_serializing_if = "Option::is_none", with = "json")]
    pub metadata: Option<String>,
    /// JSON, or as much of its text as is kept.
    #[serde(skip_serializing_if = "Option::is_none", with = "json")]
    pub request: Option<String>,
    /// JSON, or as much of its text as is kept.
    #[serde(skip_serializing_if = "Option::is_none", with = "json")]
    pub response: Option<String>,
}

/// Digits of an id that tell the time.
const TIME: usize = 12;
const LAST: i64 = (1 << 48) - 1;

// === impl Row ===

impl Row {
    /// The row of a record that ended at `ended`, in Unix milliseconds.
    pub fn new(id: String, record: &Record) -> Self {
        let text = |text: &Option<Arc<str>>| text.as_deref().map(clean);
        let micros =
            |time: std::time::Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let spent = record.spent;
        Self {
            id,
            at: record.at,
            request_id: clean(&record.request_id),
            method: record.method.to_owned(),
            endpoint: record.endpoint.to_owned(),
            principal: text(&record.principal),
            key_name: text(&record.key),
            user_id: text(&record.user),
            client_dialect: record.client_dialect.to_owned(),
            provider_dialect: record.provider_dialect.map(str::to_owned),
            asked_model: text(&record.asked_model),
            model: text(&record.model),
            served_model: text(&record.served_model),
            provider: text(&record.provider),
            replica: record.replica.map(|replica| replica.to_string()),
            attempts: i64::from(record.attempts),
            status: i64::from(record.status),
            client_gone: record.client_gone,
            error: record.error.map(str::to_owned),
            failure: text(&record.failure),
            stop: text(&record.stop),
            prompt_tokens: spent.map(|spent| number(spent.prompt)),
            completion_tokens: spent.map(|spent| number(spent.completion)),
            cached_tokens: spent.map(|spent| number(spent.cached)),
            reasoning_tokens: spent.map(|spent| number(spent.reasoning)),
            estimated: spent.map(|spent| spent.estimated),
            cost_nanos: spent.map(|spent| number(spent.cost_nanos)),
            queued_us: record.queued.map(micros),
            first_token_us: record.first_token.map(micros),
            duration_us: micros(record.duration),
            bytes_in: number(record.bytes_in),
            bytes_out: number(record.bytes_out),
            client: record.client.map(|client| client.to_string()),
            user_agent: text(&record.user_agent),
            stream: record.stream,
            tools: record.tools,
            images: record.images,
            metadata: None,
            request: None,
            response: None,
        }
    }

    /// When it ended, in Unix milliseconds.
    pub fn ended(&self) -> i64 {
        let digits = self.id.get(..TIME).unwrap_or_default();
        i64::from_str_radix(digits, 16).unwrap_or(0)
    }

    /// The first id of a moment, in Unix milliseconds.
    pub fn first_id(moment: i64) -> String {
        format!("{:012x}", moment.clamp(0, LAST))
    }
}

/// PostgreSQL's texts have no zero bytes.
fn clean(text: &str) -> String {
    if text.contains('\0') { text.replace('\0', "") } else { text.to_owned() }
}

/// JSON within JSON; what is not JSON, having been cut off, is a text.
mod json {
    use super::{Deserialize, RawValue, Serialize};
    use serde::{Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub fn serialize<S: Serializer>(text: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
        let text = text.as_deref().unwrap_or("null");
        match serde_json::from_str::<&RawValue>(text) {
            // A row is one line. Outside of strings, which have none, line breaks mean nothing.
            Ok(_) if text.contains(['\n', '\r']) => {
                let json = RawValue::from_string(text.replace(['\n', '\r'], ""));
                json.map_err(serde::ser::Error::custom)?.serialize(to)
            }
            Ok(json) => json.serialize(to),
            Err(_) => text.serialize(to),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
        let json = Box::<RawValue>::deserialize(from)?;
        let text = serde_json::from_str::<String>(json.get());
        Ok(Some(text.unwrap_or_else(|_| json.get().to_owned())).filter(|text| text != "null"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_from_json_as_it_was() {
        let record = Record { status: 200, key: Some("k\0".into()), ..Record::default() };
        let mut row = Row::new(format!("{}{:016x}", Row::first_id(1_700_000_000_000), 7), &record);
        row.request = Some(r#"{"model":"m","messages":[]}"#.to_owned());
        row.response = Some("{\"cut\":\"of".to_owned());
        let line = serde_json::to_string(&row).unwrap();
        assert!(line.contains(r#""request":{"model":"m""#) && !line.contains("metadata"), "{line}");
        assert_eq!(serde_json::from_str::<Row>(&line).unwrap(), row);
        assert_eq!(row.ended(), 1_700_000_000_000);
        assert_eq!(row.key_name.as_deref(), Some("k"));
        row.response = Some("{\r\n  \"text\": \"a\\nb\"\n}\n".to_owned());
        let line = serde_json::to_string(&row).unwrap();
        assert!(!line.contains(['\n', '\r']), "{line}");
        row.response = Some("{  \"text\": \"a\\nb\"}".to_owned());
        assert_eq!(serde_json::from_str::<Row>(&line).unwrap(), row);
        assert!(Row::first_id(5) <= row.id && Row::first_id(1_700_000_000_001) > row.id);
    }
}
