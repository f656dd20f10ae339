//! Spans as a collector reads them: OTLP's protobuf, by the numbers of its schema.

use std::collections::BTreeMap;

use super::eventually;
use super::upstream::Upstream;

/// One span, with the resource and scope it came under.
#[derive(Clone, Debug, Default)]
pub struct Span {
    pub service: String,
    pub scope: String,
    pub trace: String,
    pub id: String,
    /// Empty for a root.
    pub parent: String,
    pub name: String,
    /// 2: server, 3: client.
    pub kind: u64,
    pub began: u64,
    pub ended: u64,
    /// Values as texts.
    pub attributes: BTreeMap<String, String>,
    /// 2: an error.
    pub status: u64,
    pub flags: u64,
}

enum Value<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

/// What every export to a collector holds, once it satisfies.
pub async fn exported(
    collector: &Upstream,
    what: &str,
    mut is_so: impl FnMut(&[Span]) -> bool,
) -> Vec<Span> {
    eventually(what, async || {
        let calls = collector.calls();
        let whole = calls.iter().filter(|call| call.is_whole());
        let spans: Vec<Span> = whole.flat_map(|call| read(&call.body())).collect();
        is_so(&spans).then_some(spans)
    })
    .await
}

/// Reads an `ExportTraceServiceRequest`.
pub fn read(request: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource_spans in messages(request, 1) {
        let resource = messages(resource_spans, 1);
        let resource = attributes(resource[0], 1);
        for scope_spans in messages(resource_spans, 2) {
            let scope = messages(scope_spans, 1);
            let scope = text(messages(scope[0], 1)[0]);
            for span in messages(scope_spans, 2) {
                let service = resource["service.name"].clone();
                spans.push(Span { service, scope: scope.clone(), ..read_span(span) });
            }
        }
    }
    spans
}

fn read_span(message: &[u8]) -> Span {
    let mut span = Span { attributes: attributes(message, 9), ..Span::default() };
    for (field, value) in fields(message) {
        match (field, value) {
            (1, Value::Bytes(bytes)) => span.trace = hex::encode(bytes),
            (2, Value::Bytes(bytes)) => span.id = hex::encode(bytes),
            (4, Value::Bytes(bytes)) => span.parent = hex::encode(bytes),
            (5, Value::Bytes(bytes)) => span.name = text(bytes),
            (6, Value::Number(number)) => span.kind = number,
            (7, Value::Number(number)) => span.began = number,
            (8, Value::Number(number)) => span.ended = number,
            (9, _) => {}
            (15, Value::Bytes(bytes)) => {
                for (field, value) in fields(bytes) {
                    let Value::Number(code) = value else { panic!("a status") };
                    assert_eq!(field, 3);
                    span.status = code;
                }
            }
            (16, Value::Number(number)) => span.flags = number,
            (field, _) => panic!("field {field} of a span"),
        }
    }
    assert_eq!((span.trace.len(), span.id.len()), (32, 16));
    span
}

/// The `KeyValue`s of a field.
fn attributes(message: &[u8], field: u64) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    for pair in messages(message, field) {
        let key = text(messages(pair, 1)[0]);
        let value = messages(pair, 2)[0];
        let (field, value) = fields(value).pop().unwrap();
        let value = match (field, value) {
            (1, Value::Bytes(bytes)) => text(bytes),
            (2, Value::Number(number)) => (number == 1).to_string(),
            (3, Value::Number(number)) => number.to_string(),
            (4, Value::Number(number)) => f64::from_bits(number).to_string(),
            (5, Value::Bytes(list)) => {
                let texts = messages(list, 1).into_iter().map(|it| text(messages(it, 1)[0]));
                texts.collect::<Vec<_>>().join(",")
            }
            (field, _) => panic!("field {field} of a value"),
        };
        let before = attributes.insert(key.clone(), value);
        assert!(before.is_none(), "{key} twice");
    }
    attributes
}

fn messages(message: &[u8], wanted: u64) -> Vec<&[u8]> {
    let of = |(field, value)| match value {
        Value::Bytes(bytes) if field == wanted => Some(bytes),
        _ => None,
    };
    fields(message).into_iter().filter_map(of).collect()
}

fn fields(mut rest: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest);
        let value = match key & 7 {
            0 => Value::Number(varint(&mut rest)),
            1 => Value::Number(u64::from_le_bytes(take(&mut rest, 8).try_into().unwrap())),
            2 => {
                let length = usize::try_from(varint(&mut rest)).unwrap();
                Value::Bytes(take(&mut rest, length))
            }
            5 => {
                Value::Number(u64::from(u32::from_le_bytes(take(&mut rest, 4).try_into().unwrap())))
            }
            layout => panic!("layout {layout}"),
        };
        fields.push((key >> 3, value));
    }
    fields
}

fn varint(rest: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = take(rest, 1)[0];
        number |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return number;
        }
        shift += 7;
    }
}

fn take<'b>(rest: &mut &'b [u8], count: usize) -> &'b [u8] {
    let (taken, left) = rest.split_at(count);
    *rest = left;
    taken
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
