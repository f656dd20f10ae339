use super::*;
use proptest::prelude::*;

const VLLM: [&[u8]; 3] = [
    include_bytes!("../../../tests/fixtures/vllm/chat_stream_usage.http"),
    include_bytes!("../../../tests/fixtures/vllm/messages_stream.http"),
    include_bytes!("../../../tests/fixtures/vllm/responses_stream.http"),
];

fn decode<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> Vec<Event> {
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk));
        events.extend(decoder.by_ref());
        assert!(decoder.pending() <= MAX_EVENT);
    }
    events.extend(decoder.finish());
    assert_eq!(decoder.pending(), 0);
    events
}

fn whole(stream: &str) -> Vec<Event> {
    decode([stream.as_bytes()])
}

fn data(events: &[Event]) -> Vec<Option<&str>> {
    let text = |data| std::str::from_utf8(data).unwrap();
    events.iter().map(|event| event.data.as_deref().map(text)).collect()
}

fn raws(events: &[Event]) -> Vec<u8> {
    events.iter().flat_map(|event| event.raw.to_vec()).collect()
}

/// Every way to cut in two, and byte by byte: always the same events.
fn cuts_do_not_matter(stream: &[u8]) {
    let expected = decode([stream]);
    assert_eq!(raws(&expected), stream);
    for at in 0..=stream.len() {
        assert_eq!(decode([&stream[..at], &stream[at..]]), expected, "cut at {at}");
    }
    assert_eq!(decode(stream.chunks(1)), expected);
}

#[test]
fn an_event_within_one_chunk_is_not_copied() {
    let chunk = Bytes::from_static(b"data: a\n\ndata: b\n\n");
    let mut decoder = Decoder::new();
    decoder.push(chunk.clone());
    let events: Vec<_> = decoder.by_ref().collect();
    assert_eq!(data(&events), [Some("a"), Some("b")]);
    assert_eq!(events[1].raw.as_ptr(), chunk[9..].as_ptr());
    assert_eq!(events[1].data.as_ref().unwrap().as_ptr(), chunk[15..].as_ptr());
}

#[test]
fn a_plain_event_is_read_like_any_other() {
    let mark = "\u{feff}";
    let events = ["a\n\n", "\n\n", "b\r\n\r\n", "c\n\r\n", "d\r\r", " e\n\n", "f\ndata: g\n\n"];
    for first in events {
        for second in events {
            cuts_do_not_matter(format!("data: {first}data: {second}data: z").as_bytes());
            // A byte order mark counts at the beginning of the stream alone.
            cuts_do_not_matter(format!("data: {first}{mark}data: {second}").as_bytes());
        }
    }
    let long = |length: usize| format!("data: {}\n\n", "x".repeat(length - 8));
    assert!(!whole(&long(MAX_EVENT))[0].oversized);
    assert!(whole(&long(MAX_EVENT + 1))[0].oversized);
}

#[test]
fn every_line_ending_ends_a_line() {
    for end in ["\n", "\r", "\r\n"] {
        let stream = ["event: e", "data: a", "data: b", "", "data: c", "", ""].join(end);
        let events = whole(&stream);
        assert_eq!(data(&events), [Some("a\nb"), Some("c")], "{end:?}");
        assert_eq!(events[0].event.as_deref(), Some(&b"e"[..]));
        cuts_do_not_matter(stream.as_bytes());
    }
}

#[test]
fn fields_are_read_as_the_standard_reads_them() {
    assert_eq!(data(&whole("data:a\n\n")), [Some("a")]);
    assert_eq!(data(&whole("data:  a\n\n")), [Some(" a")]);
    assert_eq!(data(&whole("data\n\n")), [Some("")]);
    assert_eq!(data(&whole("data:\ndata\n\n")), [Some("\n")]);
    assert_eq!(data(&whole("data : a\n\n")), [None]);
    assert_eq!(data(&whole("datax: a\nid: 1\nretry: 5\n\n")), [None]);
    assert_eq!(data(&whole(": data: a\n\n: b\ndata: c\n\n")), [None, Some("c")]);
    assert_eq!(data(&whole("\n\n\ndata: a\n\n")), [None, None, None, Some("a")]);
}

#[test]
fn a_byte_order_mark_counts_only_at_the_start() {
    let stream = "\u{feff}data: a\n\n\u{feff}data: b\n\n";
    assert_eq!(data(&whole(stream)), [Some("a"), None]);
    cuts_do_not_matter(stream.as_bytes());
}

#[test]
fn an_event_without_its_blank_line_comes_at_the_end() {
    assert_eq!(data(&whole("data: a\n\ndata: [DONE]")), [Some("a"), Some("[DONE]")]);
    assert_eq!(data(&whole("data: a\r\n\r")), [Some("a")]);
    cuts_do_not_matter(b"data: a\r\n\r\ndata: b\r\n");
}

#[test]
fn recorded_streams_survive_every_cut() {
    for stream in VLLM {
        cuts_do_not_matter(&crate::protocol::fixture::body(stream));
    }
}

#[test]
fn an_oversized_event_goes_out_in_parts_and_the_next_is_read_again() {
    let line = "x".repeat(MAX_EVENT);
    for end in ["\n\n", "\r\n\r\n", "\r\r"] {
        let before = format!("data: a\n\ndata: {line}{end}");
        let stream = format!("{before}data: b\n\n");
        for size in [1000, 65_536, before.len(), stream.len()] {
            let events = decode(stream.as_bytes().chunks(size));
            assert_eq!(raws(&events), stream.as_bytes());
            let (parts, others): (Vec<_>, Vec<_>) =
                events.into_iter().partition(|event| event.oversized);
            assert_eq!(data(&others), [Some("a"), Some("b")], "{size}");
            assert!(parts.iter().all(|part| part.data.is_none() && !part.raw.is_empty()));
            assert_eq!(raws(&parts).len(), 6 + MAX_EVENT + end.len());
        }
    }
}

#[test]
fn exactly_one_mebibyte_is_still_read() {
    let stream = format!("data:{}\n\n", "x".repeat(MAX_EVENT - 7));
    assert!(decode(stream.as_bytes().chunks(4096)).iter().all(|event| event.data.is_some()));
    let stream = format!("{stream}data:{}\n\n", "x".repeat(MAX_EVENT - 6));
    assert!(decode(stream.as_bytes().chunks(4096)).iter().skip(1).all(|event| event.oversized));
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "\r\n\r\n",
        "data: ",
        "data:",
        "data",
        "event: x",
        ":",
        "é",
        "{\"a\":1}",
        " ",
        "\u{feff}",
        "id: 7",
        "[DONE]",
        "\0",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_events(
        stream in stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let expected = decode([&stream[..]]);
        prop_assert_eq!(&raws(&expected), &stream);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        at.extend([0, stream.len()]);
        at.sort_unstable();
        let chunks = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]);
        prop_assert_eq!(decode(chunks), expected);
    }

    #[test]
    fn data_is_what_a_line_by_line_reader_finds(stream in stream()) {
        let text = String::from_utf8(stream).unwrap();
        let lines = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let lines = lines.replace("\r\n", "\n").replace('\r', "\n");
        let mut expected = Vec::new();
        for block in lines.split("\n\n") {
            let data: Vec<&str> = block
                .split('\n')
                .filter_map(|line| match line.split_once(':') {
                    None => (line == "data").then_some(""),
                    Some(("data", value)) => Some(value.strip_prefix(' ').unwrap_or(value)),
                    Some(_) => None,
                })
                .collect();
            if !data.is_empty() {
                expected.push(data.join("\n"));
            }
        }
        let events = whole(&text);
        let found: Vec<&str> = data(&events).into_iter().flatten().collect();
        prop_assert_eq!(found, expected);
    }
}
