use super::*;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message as Reference};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

/// Frames that botocore's parser reads as told here.
fn message_start() -> Vec<u8> {
    hex::decode(concat!(
        "00000085000000529941d0530b3a6576656e742d7479706507000c6d65737361676553746172740d3a636f6e",
        "74656e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700",
        "056576656e747b2270223a226162636465666768222c22726f6c65223a22617373697374616e74227d3d593a",
        "c6",
    ))
    .unwrap()
}

fn throttling() -> Vec<u8> {
    let text = concat!(
        "AAAAsAAAAGFPUIazDzpleGNlcHRpb24tdHlwZQcAE3Rocm90dGxpbmdFeGNlcHRpb24NOmNvbnRlbnQtdHlwZQcA",
        "EGFwcGxpY2F0aW9uL2pzb24NOm1lc3NhZ2UtdHlwZQcACWV4Y2VwdGlvbnsibWVzc2FnZSI6IlRvbyBtYW55IHRv",
        "a2VucywgcGxlYXNlIHdhaXQgYmVmb3JlIHRyeWluZyBhZ2Fpbi4iffcK5X8=",
    );
    STANDARD.decode(text).unwrap()
}

fn decode(chunks: impl IntoIterator<Item = Vec<u8>>) -> Vec<Result<Message, Malformed>> {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    for chunk in chunks {
        decoder.push(chunk.into());
        messages.extend(decoder.by_ref());
    }
    messages
}

fn one(bytes: &[u8]) -> Message {
    let [message] = decode([bytes.to_vec()]).try_into().unwrap();
    message.unwrap()
}

#[test]
fn an_event_is_read() {
    let message = one(&message_start());
    assert_eq!(message.kind(), Kind::Event("messageStart"));
    assert_eq!(message.header(":content-type"), Some("application/json"));
    assert_eq!(message.header("absent"), None);
    assert_eq!(&message.payload[..], br#"{"p":"abcdefgh","role":"assistant"}"#);
    assert_eq!(message.raw, message_start());
}

#[test]
fn an_exception_is_read() {
    let message = one(&throttling());
    assert_eq!(message.kind(), Kind::Exception("throttlingException"));
    let said = br#"{"message":"Too many tokens, please wait before trying again."}"#;
    assert_eq!(&message.payload[..], said);
}

#[test]
fn what_is_written_is_byte_for_byte_what_aws_writes() {
    let mut out = b"before".to_vec();
    let payload = |out: &mut Vec<u8>| {
        out.extend_from_slice(br#"{"p":"abcdefgh","role":"assistant"}"#);
    };
    write_event("messageStart", &mut out, payload).unwrap();
    assert_eq!(out, [b"before".as_slice(), &message_start()].concat());
    let mut out = Vec::new();
    let payload = |out: &mut Vec<u8>| {
        let said = br#"{"message":"Too many tokens, please wait before trying again."}"#;
        out.extend_from_slice(said);
    };
    write_exception("throttlingException", &mut out, payload).unwrap();
    assert_eq!(out, throttling());
}

#[test]
fn messages_are_the_same_wherever_the_network_cuts() {
    let stream = [message_start(), throttling(), message_start()].concat();
    let whole = decode([stream.clone()]);
    assert_eq!(whole.len(), 3);
    for at in 0..=stream.len() {
        let (left, right) = stream.split_at(at);
        assert_eq!(decode([left.to_vec(), right.to_vec()]), whole, "cut at {at}");
    }
    for size in [1, 2, 3, 7, 13] {
        assert_eq!(decode(stream.chunks(size).map(<[u8]>::to_vec)), whole, "pieces of {size}");
    }
}

#[test]
fn a_message_that_lies_whole_in_a_chunk_is_not_copied() {
    let chunk = Bytes::from([message_start(), throttling()].concat());
    let mut decoder = Decoder::new();
    decoder.push(chunk.clone());
    let first = decoder.next().unwrap().unwrap();
    assert_eq!(first.raw.as_ptr(), chunk.as_ptr());
}

#[test]
fn a_bit_that_is_wrong_is_noticed_wherever_it_is() {
    let frame = message_start();
    for at in 0..frame.len() {
        let mut frame = frame.clone();
        frame[at] ^= 1;
        let wrong = if at < PRELUDE { Malformed::PreludeChecksum } else { Malformed::Checksum };
        assert_eq!(decode([frame]), [Err(wrong)], "at {at}");
    }
}

#[test]
fn a_wrong_prelude_is_noticed_before_its_length_is_waited_for() {
    let mut prelude = message_start()[..PRELUDE].to_vec();
    prelude[0] = 0x01;
    assert_eq!(decode([prelude]), [Err(Malformed::PreludeChecksum)]);
}

fn prelude(total: u32, headers: u32) -> Vec<u8> {
    let lengths = [total.to_be_bytes(), headers.to_be_bytes()].concat();
    let checksum = crc32fast::hash(&lengths).to_be_bytes();
    [lengths, checksum.to_vec()].concat()
}

#[test]
fn lengths_beyond_the_limits_are_refused_before_anything_is_kept() {
    let most = u32::try_from(AROUND + MAX_HEADERS + MAX_PAYLOAD).unwrap();
    let headers = u32::try_from(MAX_HEADERS).unwrap();
    assert_eq!(decode([prelude(most, headers)]), []);
    for (total, headers) in [
        (most + 1, headers),
        (most, headers + 1),
        (15, 0),
        (0, 0),
        (16, 1),
        (u32::MAX, 0),
        (20, u32::MAX),
    ] {
        assert_eq!(
            decode([prelude(total, headers)]),
            [Err(Malformed::Length)],
            "{total} {headers}"
        );
    }
}

#[test]
fn nothing_is_read_behind_an_error() {
    let mut broken = message_start();
    broken[0] = 1;
    let messages = decode([message_start(), broken, message_start()]);
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[1], Err(Malformed::PreludeChecksum));
}

#[test]
fn it_is_known_whether_the_stream_ends_within_a_message() {
    let mut decoder = Decoder::new();
    assert!(decoder.is_between_messages());
    decoder.push(message_start().into());
    assert!(decoder.next().is_some());
    assert!(decoder.is_between_messages());
    decoder.push(Bytes::copy_from_slice(&message_start()[..20]));
    assert!(decoder.next().is_none());
    assert!(!decoder.is_between_messages());
}

#[test]
fn what_is_too_large_is_not_written() {
    let mut out = b"before".to_vec();
    let large = |out: &mut Vec<u8>| out.resize(out.len() + MAX_PAYLOAD + 1, b'x');
    assert_eq!(write_event("chunk", &mut out, large), Err(TooLarge));
    let name = "n".repeat(40_000);
    assert_eq!(write_event(&name, &mut out, |_| ()), Err(TooLarge));
    assert_eq!(out, b"before");
    let largest = |out: &mut Vec<u8>| out.resize(out.len() + MAX_PAYLOAD, b'x');
    write_event("chunk", &mut out, largest).unwrap();
    assert_eq!(one(&out[6..]).payload.len(), MAX_PAYLOAD);
}

/// The headers, with their values where they are text, and the payload.
type Parts = (Vec<(String, Option<String>)>, Bytes);

/// What AWS's own reader says of the same bytes: the text headers and the payload.
fn reference(bytes: &[u8]) -> Option<Parts> {
    let read = aws_smithy_eventstream::frame::read_message_from(bytes).ok()?;
    let headers = read.headers().iter().map(|header| {
        let value = header.value().as_string().ok().map(|text| text.as_str().to_owned());
        (header.name().as_str().to_owned(), value)
    });
    Some((headers.collect(), read.payload().clone()))
}

fn ours(bytes: &[u8]) -> Option<Parts> {
    let message = decode([bytes.to_vec()]).into_iter().next()?.ok()?;
    let mut headers = Headers(&message.headers);
    let mut read = Vec::new();
    while let Some((name, value)) = headers.read().unwrap() {
        read.push((name.to_owned(), value.map(str::to_owned)));
    }
    Some((read, message.payload.clone()))
}

fn value() -> impl Strategy<Value = HeaderValue> {
    prop_oneof![
        any::<bool>().prop_map(HeaderValue::Bool),
        any::<i8>().prop_map(HeaderValue::Byte),
        any::<i16>().prop_map(HeaderValue::Int16),
        any::<i32>().prop_map(HeaderValue::Int32),
        any::<i64>().prop_map(HeaderValue::Int64),
        any::<u128>().prop_map(HeaderValue::Uuid),
        prop::collection::vec(any::<u8>(), 0..40)
            .prop_map(|bytes| HeaderValue::ByteArray(bytes.into())),
        "\\PC{0,20}".prop_map(|text| HeaderValue::String(text.into())),
        (0..4_000_000_000_i64).prop_map(|seconds| {
            HeaderValue::Timestamp(aws_smithy_types::DateTime::from_secs(seconds))
        }),
    ]
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let headers = prop::collection::vec(("[:a-z-]{1,20}", value()), 0..6);
    (headers, prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(headers, payload)| {
        let message =
            headers.into_iter().fold(Reference::new(payload), |message, (name, value)| {
                message.add_header(Header::new(name, value))
            });
        let mut frame = Vec::new();
        aws_smithy_eventstream::frame::write_message_to(&message, &mut frame).unwrap();
        frame
    })
}

/// Sets both checksums right, so that what is behind them is looked at.
fn mended(mut frame: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&frame[..8]).to_be_bytes();
    frame[8..PRELUDE].copy_from_slice(&checksum);
    let end = frame.len() - 4;
    let checksum = crc32fast::hash(&frame[..end]).to_be_bytes();
    frame[end..].copy_from_slice(&checksum);
    frame
}

proptest! {
    #[test]
    fn what_aws_writes_is_read_as_aws_reads_it(frame in frame()) {
        prop_assert!(reference(&frame).is_some());
        prop_assert_eq!(ours(&frame), reference(&frame));
    }

    #[test]
    fn what_aws_refuses_is_refused(frame in frame(), at in any::<usize>(), byte in any::<u8>()) {
        let mut frame = frame;
        let at = at % frame.len();
        frame[at] = byte;
        prop_assert_eq!(ours(&frame), reference(&frame));
        // The total length is what says how many bytes are read, and must stay.
        if at >= 4 {
            let frame = mended(frame);
            prop_assert_eq!(ours(&frame), reference(&frame));
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode([bytes]);
    }
}
