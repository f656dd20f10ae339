//! Where a request stands among others (W3C Trace Context), and its spans.

use std::borrow::Cow;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Duration, timeout};

use super::Metrics;

/// Requests whose spans wait to be sent; what comes on top of them is dropped, and counted.
const QUEUE: usize = 2048;
/// How long the last spans may take to be taken over.
const LAST: Duration = Duration::from_secs(2);

/// A span's place: its trace, and itself within that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    pub trace: [u8; 16],
    pub span: [u8; 8],
    /// Whether it is recorded.
    pub sampled: bool,
}

/// Something that took its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub context: SpanContext,
    pub parent: Option<[u8; 8]>,
    pub name: String,
    pub kind: Kind,
    /// Nanoseconds since 1970.
    pub began: u64,
    pub ended: u64,
    pub attributes: Vec<(&'static str, Attribute)>,
    pub failed: bool,
}

/// On which side of a call a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It answers.
    Server,
    /// It asks.
    Client,
}

/// What is told of a span.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    Text(Cow<'static, str>),
    Texts(Vec<String>),
    Count(u64),
    Number(f64),
    Truth(bool),
}

/// Spans on their way from requests to whoever sends them. Bounded: nobody waits to put one in.
pub struct Spans {
    sender: mpsc::Sender<Parcel>,
    receiver: Mutex<mpsc::Receiver<Parcel>>,
}

/// What comes out of the queue.
pub enum Parcel {
    /// All spans of one request.
    Request(Vec<Span>),
    /// What has gathered is to be sent now; then this is told.
    Leave(oneshot::Sender<()>),
}

// === impl SpanContext ===

impl SpanContext {
    /// A new trace, with a first span.
    pub fn root(sampled: bool) -> Self {
        Self { trace: rand::random(), span: rand::random(), sampled }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span: rand::random(), ..self }
    }

    /// Reads `traceparent` (W3C Trace Context, section 3.2.2). A version to come may have more behind what is
    /// known today.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let mut parts = header.splitn(5, |byte| *byte == b'-');
        let version: [u8; 1] = digits(parts.next()?)?;
        let trace: [u8; 16] = digits(parts.next()?)?;
        let span: [u8; 8] = digits(parts.next()?)?;
        let [flags] = digits(parts.next()?)?;
        let more = parts.next().is_some();
        let sound = version != [0xFF] && !(version == [0] && more);
        let named = trace != [0; 16] && span != [0; 8];
        (sound && named).then_some(Self { trace, span, sampled: flags & 1 == 1 })
    }

    /// `traceparent`, as it is sent on.
    pub fn header(self) -> String {
        let flags = u8::from(self.sampled);
        format!("00-{}-{}-{flags:02x}", hex::encode(self.trace), hex::encode(self.span))
    }
}

/// Exactly so many bytes, in lower-case digits.
fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

// === impl Attribute ===

impl From<&'static str> for Attribute {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<u64> for Attribute {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<f64> for Attribute {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Attribute {
    fn from(truth: bool) -> Self {
        Self::Truth(truth)
    }
}

// === impl Spans ===

impl Spans {
    /// Puts the spans of a request in, if there is room.
    pub fn offer(&self, spans: Vec<Span>, metrics: &Metrics) {
        let count = spans.len() as u64;
        if self.sender.try_send(Parcel::Request(spans)).is_err() {
            metrics.count_spans("dropped", count);
        }
    }

    /// Whoever holds it is the one who sends.
    pub async fn outlet(&self) -> tokio::sync::MutexGuard<'_, mpsc::Receiver<Parcel>> {
        self.receiver.lock().await
    }

    /// Has what is in the queue sent, and waits for it, for a while.
    pub async fn close(&self) {
        let (told, done) = oneshot::channel();
        let leave = async {
            if self.sender.send(Parcel::Leave(told)).await.is_ok() {
                let _gone = done.await;
            }
        };
        let _late = timeout(LAST, leave).await;
    }
}

impl Default for Spans {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self { sender, receiver: Mutex::new(receiver) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_written_as_it_is_read() {
        let context = SpanContext::parse(KNOWN.as_bytes()).unwrap();
        assert!(context.sampled);
        assert_eq!(context.header(), KNOWN);
        let child = context.child();
        assert_eq!(child.trace, context.trace);
        assert_ne!(child.span, context.span);
        let unsampled = KNOWN.replace("-01", "-02");
        assert!(!SpanContext::parse(unsampled.as_bytes()).unwrap().sampled);
        let later = format!("cc{}-what-comes", &KNOWN[2..]);
        assert!(SpanContext::parse(later.as_bytes()).unwrap().sampled);
    }

    #[test]
    fn what_is_no_context_is_none() {
        for wrong in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        ] {
            assert_eq!(SpanContext::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let (spans, metrics) = (Spans::default(), Metrics::new().unwrap());
        let span = Span {
            context: SpanContext::root(true),
            parent: None,
            name: String::new(),
            kind: Kind::Server,
            began: 1,
            ended: 2,
            attributes: Vec::new(),
            failed: false,
        };
        for _ in 0..QUEUE + 3 {
            spans.offer(vec![span.clone(), span.clone()], &metrics);
        }
        let text = String::from_utf8(metrics.render()).unwrap();
        assert!(text.contains("forebay_spans_total{outcome=\"dropped\"} 6\n"), "{text}");
    }
}
