//! What the wire formats cost: reading a request, and passing a stream on.

#![expect(clippy::expect_used, reason = "a benchmark that cannot begin ends")]
use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use forebay::config::{Dialect, Kind, RequestEdits, ResponseEdits, Thinking, Translation};
use forebay::protocol::canonical::{Asked, Rules, Target, Told};
use forebay::protocol::edit::{
    ChatCap, Edits, StreamEditor, StreamOptions, edit_request, read_usage,
};
use forebay::protocol::framing::eventstream;
use forebay::protocol::framing::sse::Decoder;
use forebay::protocol::translate::{Call, Route, StreamTranslator, Translated, translate};
use forebay::protocol::{Operation, Task, json};

/// Events of every stream here.
const EVENTS: usize = 128;
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

/// An event as vLLM writes it.
fn chat_event(choices: &str) -> Bytes {
    Bytes::from(format!(
        "data: {{\"id\":\"chatcmpl-b0f44de5105cca1d\",\"object\":\"chat.completion.chunk\",\
         \"created\":1795231976,\"model\":\"tiny\",\"choices\":[{choices}]}}\n\n"
    ))
}

/// A stream of 128 chunks as vLLM writes them, each in a network chunk of its own.
fn stream() -> Vec<Bytes> {
    let mut chunks: Vec<Bytes> = (0..EVENTS - 2)
        .map(|count| {
            let name = if count < 40 { "reasoning" } else { "content" };
            chat_event(&format!(
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
        priority: None,
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

/// The same text in every dialect's stream, each event as its provider writes it.
fn stream_of(dialect: Dialect) -> Vec<Bytes> {
    let chunks = match dialect {
        Dialect::Anthropic => anthropic_stream(),
        Dialect::Gemini => gemini_stream(),
        Dialect::Bedrock => bedrock_stream(),
        Dialect::OpenaiChat | Dialect::OpenaiResponses => stream(),
    };
    assert_eq!(chunks.len(), EVENTS);
    chunks
}

fn anthropic_stream() -> Vec<Bytes> {
    let event = |kind: &str, members: &str| {
        Bytes::from(format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{members}}}\n\n"))
    };
    let start = r#","message":{"id":"msg_014p7gG3wDgGV9EUtLvnow3U","type":"message","role":"assistant","model":"claude-opus-4-8","stop_sequence":null,"usage":{"input_tokens":472,"output_tokens":2},"content":[],"stop_reason":null}"#;
    let block = r#","index":0,"content_block":{"type":"text","text":""}"#;
    let delta = r#","index":0,"delta":{"type":"text_delta","text":" word"}"#;
    let stop =
        r#","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":126}"#;
    let mut chunks = vec![event("message_start", start), event("content_block_start", block)];
    chunks.resize(EVENTS - 3, event("content_block_delta", delta));
    chunks.push(event("content_block_stop", r#","index":0"#));
    chunks.push(event("message_delta", stop));
    chunks.push(event("message_stop", ""));
    chunks
}

fn gemini_stream() -> Vec<Bytes> {
    let event = |number: usize| {
        let end = if number == EVENTS { r#""finishReason":"STOP","# } else { "" };
        let (own, total) = (number, number + 9);
        Bytes::from(format!(
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\" word\"}}],\
             \"role\":\"model\"}},{end}\"index\":0}}],\"usageMetadata\":{{\
             \"promptTokenCount\":9,\"candidatesTokenCount\":{own},\"totalTokenCount\":{total},\
             \"promptTokensDetails\":[{{\"modality\":\"TEXT\",\"tokenCount\":9}}]}},\
             \"modelVersion\":\"gemini-2.5-flash\",\"responseId\":\"kJ8laL2-HYyqxN8PlJ7ZgQ0\"\
             }}\r\n\r\n"
        ))
    };
    (1..=EVENTS).map(event).collect()
}

fn bedrock_stream() -> Vec<Bytes> {
    let event = |kind: &str, payload: &str| {
        let mut message = Vec::new();
        let write = |out: &mut Vec<u8>| out.extend_from_slice(payload.as_bytes());
        eventstream::write_event(kind, &mut message, write).expect("a short message");
        Bytes::from(message)
    };
    let delta = r#"{"contentBlockIndex":0,"delta":{"text":" word"},"p":"abcdefghijklmnopqrstuvw"}"#;
    let took = r#"{"metrics":{"latencyMs":1234},"p":"abcd","usage":{"inputTokens":34,"outputTokens":126,"totalTokens":160}}"#;
    let mut chunks = vec![event("messageStart", r#"{"p":"abcdefghijklm","role":"assistant"}"#)];
    chunks.resize(EVENTS - 3, event("contentBlockDelta", delta));
    chunks.push(event("contentBlockStop", r#"{"contentBlockIndex":0,"p":"abcdefgh"}"#));
    chunks.push(event("messageStop", r#"{"p":"abcdefghijklmnop","stopReason":"end_turn"}"#));
    chunks.push(event("metadata", took));
    chunks
}

/// Puts a request into another dialect.
fn put_into(client: Dialect, provider: Dialect, body: &[u8]) -> Translated {
    let (model, kind) = ("claude-sonnet-4-5", Kind::OpenaiCompatible);
    let rules = Rules::of(provider, kind, model);
    let edits = RequestEdits::default();
    let route = Route {
        client,
        provider,
        kind,
        asked: Asked { model: Some("chat"), stream: true },
        target: Target { model, rules: &rules },
        translation: Translation::Lenient,
        edits: &edits,
    };
    let told = Told {
        model: "chat".to_owned(),
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        created: 1_795_231_976,
        ..Told::default()
    };
    let call = Call { task: Task::Generate, several: false };
    translate(body, call, &route, told).expect("a request that can be translated")
}

fn translations(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("translated stream of 128 events");
    group.throughput(Throughput::Elements(EVENTS as u64));
    let asked: &[u8] =
        br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let messages: &[u8] = br#"{"model":"m","stream":true,"max_tokens":512,"messages":[{"role":"user","content":"hi"}]}"#;
    let responses: &[u8] = br#"{"model":"m","stream":true,"input":"hi"}"#;
    for (name, provider, client, body) in [
        ("anthropic to chat", Dialect::Anthropic, Dialect::OpenaiChat, asked),
        ("chat to anthropic", Dialect::OpenaiChat, Dialect::Anthropic, messages),
        ("chat to responses", Dialect::OpenaiChat, Dialect::OpenaiResponses, responses),
        ("gemini to chat", Dialect::Gemini, Dialect::OpenaiChat, asked),
        ("bedrock to chat", Dialect::Bedrock, Dialect::OpenaiChat, asked),
    ] {
        let chunks = stream_of(provider);
        let begin = || put_into(client, provider, body).back.into_stream().expect("a stream");
        group.bench_function(name, |bencher| {
            let read_and_write = |mut translator: StreamTranslator| {
                for chunk in &chunks {
                    let mut out = Vec::with_capacity(512);
                    translator.push(chunk.clone(), &mut out);
                    black_box(out);
                }
                translator.finish(&mut Vec::new());
                assert!(translator.done());
            };
            bencher.iter_batched(begin, read_and_write, BatchSize::SmallInput);
        });
    }
    group.finish();
    let body = chat(ENGLISH, 1 << 10);
    criterion.bench_function("1 KB, chat to anthropic", |bencher| {
        bencher.iter(|| put_into(Dialect::OpenaiChat, Dialect::Anthropic, black_box(&body)));
    });
}

criterion_group!(benches, requests, events, streams, translations);
criterion_main!(benches);
