//! A stream cut in any two ways gives the same events, all of its bytes, and the same edits.
#![no_main]

use bytes::Bytes;
use forebay::config::{ResponseEdits, Thinking};
use forebay::protocol::edit::{StreamEditor, StreamOptions};
use forebay::protocol::framing::sse::{Decoder, Event};
use libfuzzer_sys::fuzz_target;

// The first byte chooses the edit, the second the size of the pieces; the rest is the stream.
fuzz_target!(|input: &[u8]| {
    let [mode, size, stream @ ..] = input else { return };
    let cut = usize::from(*size) + 1;
    let events = decode(stream, stream.len().max(1));
    assert_eq!(decode(stream, cut), events);
    let raws: Vec<u8> = events.iter().flat_map(|event| event.raw.to_vec()).collect();
    assert_eq!(raws, stream);

    let options = options(*mode);
    let edited = edit(&options, stream, stream.len().max(1));
    assert_eq!(edit(&options, stream, cut), edited);
    let untouched = edit(&StreamOptions::default(), stream, cut);
    assert_eq!(untouched, stream);
});

fn decode(stream: &[u8], size: usize) -> Vec<Event> {
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    for chunk in stream.chunks(size) {
        decoder.push(Bytes::copy_from_slice(chunk));
        events.extend(decoder.by_ref());
    }
    events.extend(decoder.finish());
    events
}

fn options(mode: u8) -> StreamOptions {
    let modes = [
        Thinking::Passthrough,
        Thinking::Strip,
        Thinking::Tag,
        Thinking::Reasoning,
        Thinking::ReasoningContent,
    ];
    let thinking = modes[usize::from(mode) % modes.len()];
    let prefix = (mode & 0x40 != 0).then(|| "<think>\n".to_owned());
    StreamOptions { edits: ResponseEdits { prefix, thinking }, withhold_usage: mode & 0x80 != 0 }
}

fn edit(options: &StreamOptions, stream: &[u8], size: usize) -> Vec<u8> {
    let mut editor = StreamEditor::new(options.clone());
    let mut out = Vec::new();
    for chunk in stream.chunks(size) {
        editor.push(Bytes::copy_from_slice(chunk), &mut out);
    }
    editor.finish(&mut out);
    out.concat()
}
