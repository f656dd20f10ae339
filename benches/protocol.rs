//! What the wire formats cost: reading a request, and passing a stream on.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forebay::config::{RequestEdits, ResponseEdits, Thinking};
use forebay::protocol::framing::sse::Decoder;
use forebay::protocol::json;
use forebay::protocol::edit::{
    ChatCap, Edits, Operation, StreamEditor, StreamOptions, edit_request, read_usage,
};
use std::hint::black_box;

const ENGLISH: &str = r#"The forebay holds water for the turbines.\nIt is \"full\" by dawn, and "#;
const CHINESE: &str = r"前池为水轮机蓄水。\n黎明时分，它已经满了，";

/// A chat request of about `size` bytes, in turns of a kilobyte at most.
fn chat(sentence: &str, size: usize) -> Bytes {
    let turn = sentence.repeat(800 / sentence.len() + 1);
    let turn = format!(r#"{{"role":"user","content":"{turn}"}},"#);
    let turns = turn.repeat(size / turn.len());
    let body = format!(
        r#"{{"model":"llama-70b","stream":true,"messages":[{turns}{{"role":"user",
        "content":"go on"}}],"temperature":0.7,"max_tokens":512}}"#
    );
    body.into()
}

/// A stream of 128 chunks as vLLM writes them, each in a network chunk of its own.
fn stream() -> Vec<Bytes> {
    let event = |choices: &str| {
        Bytes::from(format!(
            "data: {{\"id\":\"chatcmpl-b0f44de5105cca1d\",\"object\":\"chat.completion.chunk\",\
             \"created\":1795231976,\"model\":\"tiny\",\"choices\":[{choices}]}}\n\n"
        ))
    };
    let mut chunks: Vec<Bytes> = (0..126)
        .map(|count| {
            let name = if count < 40 { "reasoning" } else { "content" };
            event(&format!(
                "{{\"index\":0,\"delta\":{{\"{name}\":\" word\"}},\"logprobs\":null,\
                 \"finish_reason\":null,\"token_ids\":null}}"
            ))
        })
        .collect();
    let usage = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":34,\
                 \"total_tokens\":160,\"completion_tokens\":126}}\n\n";
    chunks.push(usage.into());
    chunks.push("data: [DONE]\n\n".into());
    chunks
}

fn requests(criterion: &mut Criterion) {
    let request = RequestEdits::default();
    let edits = Edits {
        model: Some("meta/llama"),
        request: &request,
        include_usage: true,
        chat_cap: ChatCap::MaxTokens,
    };
    let mut group = criterion.benchmark_group("scan and splice");
    let bodies = [("1 KB", ENGLISH, 1 << 10), ("256 KB", ENGLISH, 256 << 10)];
    for (name, sentence, size) in bodies.into_iter().chain([("256 KB CJK", CHINESE, 256 << 10)]) {
        let body = chat(sentence, size);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let members = json::scan(black_box(&body)).ok()?;
                let splice =
                    edit_request(Operation::ChatCompletions, &body, &members, &edits).ok()?;
                Some(splice.pieces(&body))
            });
        });
    }
    group.finish();
}

fn events(criterion: &mut Criterion) {
    let chunks = stream();
    let event = chunks.get(60).cloned().unwrap_or_default();
    criterion.bench_function("one event, read for usage", |bencher| {
        bencher.iter(|| {
            let mut decoder = Decoder::new();
            decoder.push(black_box(event.clone()));
            decoder.next().and_then(|event| read_usage(&event.data?))
        });
    });
}

fn streams(criterion: &mut Criterion) {
    let chunks = stream();
    let edits = |prefix: Option<&str>, thinking| ResponseEdits {
        prefix: prefix.map(str::to_owned),
        thinking,
    };
    let mut group = criterion.benchmark_group("stream of 128 chunks");
    for (name, edits, withhold_usage) in [
        ("no edits", edits(None, Thinking::Passthrough), false),
        ("usage withheld", edits(None, Thinking::Passthrough), true),
        ("prefix", edits(Some("<think>\n"), Thinking::Passthrough), true),
        ("prefix and tag", edits(Some("P"), Thinking::Tag), true),
        ("reasoning_content", edits(None, Thinking::ReasoningContent), true),
    ] {
        let options = StreamOptions { edits, withhold_usage };
        group.bench_function(name, |bencher| {
            let mut out = Vec::with_capacity(256);
            bencher.iter(|| {
                out.clear();
                let mut editor = StreamEditor::new(options.clone());
                for chunk in &chunks {
                    editor.push(chunk.clone(), &mut out);
                }
                editor.finish(&mut out);
                black_box(editor.usage())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, requests, events, streams);
criterion_main!(benches);
