//! Spans as OTLP has them: `ExportTraceServiceRequest` in protobuf.
//!
//! Written by hand: of the schema (opentelemetry-proto, `trace/v1` and `common/v1`) a dozen fields are needed.

use super::trace::{Attribute, Kind, Span};

/// `Span.flags`: the trace flags of W3C's `traceparent`.
const SAMPLED: u32 = 1;
/// `Status.code`: an error.
const ERROR: u64 = 2;

/// How a field's value is laid out.
#[derive(Clone, Copy)]
enum Layout {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

/// Spans of one service; `resource` says which.
pub fn encode(resource: &[(&'static str, Attribute)], spans: &[Span]) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |resource_spans| {
        resource_spans.message(1, |message| {
            for (key, value) in resource {
                message.message(1, |it| write_attribute(it, key, value));
            }
        });
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| {
                scope.bytes(1, env!("CARGO_PKG_NAME").as_bytes());
                scope.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
            });
            for span in spans {
                scope_spans.message(2, |message| write_span(message, span));
            }
        });
    });
    request.0
}

fn write_span(message: &mut Message, span: &Span) {
    message.bytes(1, &span.context.trace);
    message.bytes(2, &span.context.span);
    if let Some(parent) = &span.parent {
        message.bytes(4, parent);
    }
    message.bytes(5, span.name.as_bytes());
    let kind = match span.kind {
        Kind::Server => 2,
        Kind::Client => 3,
    };
    message.varint(6, kind);
    message.fixed64(7, span.began);
    message.fixed64(8, span.ended.max(span.began));
    for (key, value) in &span.attributes {
        message.message(9, |it| write_attribute(it, key, value));
    }
    if span.failed {
        message.message(15, |status| status.varint(3, ERROR));
    }
    message.fixed32(16, SAMPLED);
}

/// A `KeyValue` with its `AnyValue`.
fn write_attribute(message: &mut Message, key: &str, value: &Attribute) {
    message.bytes(1, key.as_bytes());
    message.message(2, |any| match value {
        Attribute::Text(text) => any.bytes(1, text.as_bytes()),
        Attribute::Texts(texts) => any.message(5, |list| {
            for text in texts {
                list.message(1, |any| any.bytes(1, text.as_bytes()));
            }
        }),
        Attribute::Truth(truth) => any.varint(2, u64::from(*truth)),
        // An `int64`.
        Attribute::Count(count) => any.varint(3, (*count).min(i64::MAX as u64)),
        Attribute::Number(number) => any.fixed64(4, number.to_bits()),
    });
}

/// A message as it grows.
#[derive(Default)]
struct Message(Vec<u8>);

// === impl Message ===

impl Message {
    fn key(&mut self, field: u64, layout: Layout) {
        self.number((field << 3) | layout as u64);
    }

    /// Seven bits a byte, the lowest first.
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7F) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push((number & 0x7F) as u8);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.key(field, Layout::Varint);
        self.number(value);
    }

    fn fixed64(&mut self, field: u64, value: u64) {
        self.key(field, Layout::Fixed64);
        self.0.extend(value.to_le_bytes());
    }

    fn fixed32(&mut self, field: u64, value: u32) {
        self.key(field, Layout::Fixed32);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, Layout::Bytes);
        self.number(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_seven_bits_a_byte() {
        let written = |number| {
            let mut message = Message::default();
            message.number(number);
            message.0
        };
        assert_eq!(written(0), [0]);
        assert_eq!(written(127), [0x7F]);
        assert_eq!(written(300), [0xAC, 0x02]);
        assert_eq!(written(u64::MAX).len(), 10);
    }

    #[test]
    fn a_status_is_told_of_failures_alone() {
        let mut span = Span {
            context: super::super::SpanContext { trace: [1; 16], span: [2; 8], sampled: true },
            parent: Some([3; 8]),
            name: "n".to_owned(),
            kind: Kind::Client,
            began: 5,
            ended: 4,
            attributes: Vec::new(),
            failed: false,
        };
        let encoded = |span: &Span| {
            let mut message = Message::default();
            write_span(&mut message, span);
            message.0
        };
        let good = encoded(&span);
        // Nothing ends before it began.
        let time = [5, 0, 0, 0, 0, 0, 0, 0];
        let times = [&[0x39][..], &time, &[0x41], &time].concat();
        assert!(good.windows(times.len()).any(|bytes| bytes == times), "{good:?}");
        span.failed = true;
        let bad = encoded(&span);
        assert!(bad.windows(4).any(|bytes| bytes == [0x7A, 2, 0x18, 2]), "{bad:?}");
        assert_eq!(good.len() + 4, bad.len());
    }
}
