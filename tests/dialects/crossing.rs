//! One answer on its way from a provider to a client of another dialect.

use bytes::Bytes;
use forebay::config::{Dialect, Kind, RequestEdits, Translation};
use forebay::protocol::Task;
use forebay::protocol::canonical::{Asked, Failure, Rules, Target, Told, Unreadable};
use forebay::protocol::translate::{Back, Call, Route, StreamTranslator, translate};
use forebay::protocol::write_refusal;

use crate::asking::{self, MODEL};
use crate::cases::Asks;

/// What answers tell beside what the provider says: the same at any time.
pub fn told() -> Told {
    Told {
        model: MODEL.to_owned(),
        id: "0123456789abcdef".to_owned(),
        created: 1_770_000_000,
        ..Told::default()
    }
}

/// What turns an answer to a request for this back.
pub fn back(client: Dialect, provider: Dialect, asks: Asks, stream: bool) -> Back {
    let (kind, model) = match (provider, asks) {
        (Dialect::OpenaiChat, Asks::FreeText) => (Kind::Vllm, "qwen3"),
        (Dialect::OpenaiChat | Dialect::OpenaiResponses, _) => (Kind::Openai, "gpt-4.1"),
        // Models that cannot be held to a schema themselves.
        (Dialect::Anthropic, _) => (Kind::Anthropic, "claude-3-5-sonnet-20241022"),
        (Dialect::Bedrock, _) => (Kind::Bedrock, "us.anthropic.claude-3-5-sonnet-20241022-v2:0"),
        (Dialect::Gemini, _) => (Kind::Gemini, "gemini-3-flash"),
    };
    let rules = Rules::of(provider, kind, model);
    let edits = RequestEdits::default();
    let route = Route {
        client,
        provider,
        kind,
        asked: Asked { model: Some(MODEL), stream },
        target: Target { model, rules: &rules },
        translation: Translation::Lenient,
        edits: &edits,
    };
    let call = Call { task: Task::Generate, several: false };
    let body = asking::body(client, asks, stream);
    translate(&body, call, &route, told()).expect("what is asked crosses").back
}

/// A stream that came in these pieces, as the client gets it.
pub fn stream<'p>(back: Back, pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<u8> {
    through(&mut back.into_stream().expect("words are streamed"), pieces)
}

/// The same, by a translator whose judgement is asked for afterwards.
pub fn through<'p>(
    translator: &mut StreamTranslator,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        translator.push(Bytes::copy_from_slice(piece), &mut out);
    }
    translator.finish(&mut out);
    out
}

pub fn whole(mut back: Back, body: &[u8]) -> Result<Vec<u8>, Unreadable> {
    back.whole(body, false).map(|(body, _)| body)
}

pub fn failure(client: Dialect, status: u16, kind: Option<&str>, body: &[u8]) -> (Failure, Bytes) {
    let failure = Failure::read(Some(status), kind, body);
    let body = write_refusal(client, &failure.refusal("req_1"));
    (failure, body)
}
