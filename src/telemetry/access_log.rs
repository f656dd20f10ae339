//! One line per request: on the log target `access` at level info, and where `access_log` says.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};
use tokio::time::timeout;

use super::Metrics;
use crate::config::{LogFormat, format_usd};

/// The log target: `RUST_LOG=access=info` turns it on.
const TARGET: &str = "access";
/// Lines that wait to be written; what comes on top of them is dropped, and counted.
const QUEUE: usize = 4096;
/// How long the last lines may take to be written.
const LAST: Duration = Duration::from_secs(2);

/// A finished request. No content, and no key but its name.
#[derive(Default)]
pub struct Entry<'a> {
    /// Unix milliseconds.
    pub at: i64,
    pub request_id: &'a str,
    pub method: &'a str,
    pub endpoint: &'a str,
    pub status: u16,
    /// Absent when the configuration says so.
    pub client: Option<IpAddr>,
    pub key: Option<&'a str>,
    pub user: Option<&'a str>,
    pub model: Option<&'a str>,
    pub provider: Option<&'a str>,
    pub attempts: u32,
    pub duration: Duration,
    pub first_token: Option<Duration>,
    pub tokens: Option<(u64, u64)>,
    /// The upstream has not told all of them.
    pub estimated: bool,
    /// Nanodollars.
    pub cost: Option<u64>,
    /// Why the answer ended, in its dialect's word.
    pub stop: Option<&'a str>,
    /// It asked for a stream.
    pub stream: bool,
    /// Why it failed, when it did.
    pub failure: Option<&'a str>,
}

/// Lines on their way from requests to whoever writes them. Bounded: nobody waits to put one in.
pub struct AccessLog {
    sender: mpsc::Sender<Line>,
    receiver: Mutex<mpsc::Receiver<Line>>,
}

/// What comes out of the queue.
pub enum Line {
    /// With its end.
    Text(String),
    /// What has gathered is to be written now; then this is told.
    Leave(oneshot::Sender<()>),
}

// === impl Entry ===

impl Entry<'_> {
    /// Whether the log wants it.
    pub fn is_wanted() -> bool {
        log::log_enabled!(target: TARGET, log::Level::Info)
    }

    /// Writes it to the log.
    pub fn write(&self) {
        log::info!(target: TARGET, "{self}");
    }

    /// It as a line of its own, with its time and its end.
    pub fn line(&self, format: LogFormat) -> String {
        match format {
            LogFormat::Text => format!("{} {self}\n", self.time()),
            LogFormat::Json => format!("{}\n", Value::Object(self.members())),
        }
    }

    fn time(&self) -> String {
        let at = jiff::Timestamp::from_millisecond(self.at).unwrap_or_default();
        format!("{at:.3}")
    }

    fn members(&self) -> Map<String, Value> {
        let millis = |took: Duration| u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let all = [
            ("time", json!(self.time())),
            ("request_id", json!(self.request_id)),
            ("method", json!(self.method)),
            ("endpoint", json!(self.endpoint)),
            ("status", json!(self.status)),
            ("duration_ms", json!(millis(self.duration))),
            ("attempts", json!(self.attempts)),
            ("stream", json!(self.stream)),
            ("client", json!(self.client)),
            ("key", json!(self.key)),
            ("user", json!(self.user)),
            ("model", json!(self.model)),
            ("provider", json!(self.provider)),
            ("ttft_ms", json!(self.first_token.map(millis))),
            ("prompt_tokens", json!(self.tokens.map(|(prompt, _)| prompt))),
            ("completion_tokens", json!(self.tokens.map(|(_, completion)| completion))),
            ("estimated", json!(self.estimated.then_some(true))),
            ("cost_usd", json!(self.cost.map(format_usd))),
            ("stop", json!(self.stop)),
            ("failure", json!(self.failure)),
        ];
        let said = all.into_iter().filter(|(_, value)| !value.is_null());
        said.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { request_id, method, endpoint, status, attempts, duration, .. } = self;
        write!(f, "{method} {endpoint} {status} request_id={request_id}")?;
        write!(f, " duration_ms={} attempts={attempts}", duration.as_millis())?;
        field(f, "client", self.client)?;
        word(f, "key", self.key)?;
        word(f, "user", self.user)?;
        word(f, "model", self.model)?;
        word(f, "provider", self.provider)?;
        field(f, "ttft_ms", self.first_token.map(|took| took.as_millis()))?;
        field(f, "prompt_tokens", self.tokens.map(|(prompt, _)| prompt))?;
        field(f, "completion_tokens", self.tokens.map(|(_, completion)| completion))?;
        field(f, "estimated", self.estimated.then_some(true))?;
        field(f, "cost_usd", self.cost.filter(|cost| *cost > 0).map(format_usd))?;
        self.failure.map_or(Ok(()), |why| write!(f, " failure={why:?}"))
    }
}

fn field(f: &mut fmt::Formatter<'_>, name: &str, value: Option<impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, " {name}={value}"))
}

/// A name, in quotes where it would not be read as one word.
fn word(f: &mut fmt::Formatter<'_>, name: &str, value: Option<&str>) -> fmt::Result {
    let odd =
        |letter: char| letter.is_whitespace() || letter.is_control() || "\"=".contains(letter);
    match value {
        Some(value) if value.contains(odd) => write!(f, " {name}={value:?}"),
        value => field(f, name, value),
    }
}

// === impl AccessLog ===

impl AccessLog {
    /// Puts a line in, if there is room.
    pub fn offer(&self, line: String, metrics: &Metrics) {
        if self.sender.try_send(Line::Text(line)).is_err() {
            metrics.count_lines("dropped", 1);
        }
    }

    /// Whoever holds it is the one who writes.
    pub async fn outlet(&self) -> MutexGuard<'_, mpsc::Receiver<Line>> {
        self.receiver.lock().await
    }

    /// Has what is in the queue written, and waits for it, for a while.
    pub async fn close(&self) {
        let (told, done) = oneshot::channel();
        let leave = async {
            if self.sender.send(Line::Leave(told)).await.is_ok() {
                let _gone = done.await;
            }
        };
        let _late = timeout(LAST, leave).await;
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self { sender, receiver: Mutex::new(receiver) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry<'static> {
        Entry {
            at: 1_800_000_000_123,
            request_id: "abc",
            method: "POST",
            endpoint: "/v1/chat/completions",
            status: 200,
            key: Some("team \"a\"\n"),
            model: Some("m"),
            attempts: 1,
            duration: Duration::from_millis(12),
            tokens: Some((7, 3)),
            cost: Some(10_000),
            ..Entry::default()
        }
    }

    #[test]
    fn a_line_of_text_is_one_line() {
        let line = entry().line(LogFormat::Text);
        assert_eq!(
            line,
            "2027-01-15T08:00:00.123Z POST /v1/chat/completions 200 request_id=abc duration_ms=12 \
             attempts=1 key=\"team \\\"a\\\"\\n\" model=m prompt_tokens=7 completion_tokens=3 \
             cost_usd=0.00001\n"
        );
    }

    #[test]
    fn a_line_of_json_is_an_object_without_what_is_not_known() {
        let line = entry().line(LogFormat::Json);
        assert_eq!(line.matches('\n').count(), 1);
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["time"], "2027-01-15T08:00:00.123Z");
        assert_eq!((&object["key"], &object["status"]), (&json!("team \"a\"\n"), &json!(200)));
        assert!(object.get("provider").is_none() && object.get("client").is_none());
    }
}
