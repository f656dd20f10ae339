//! What a client may rely on in a stream of this dialect.

use serde_json::Value;

use crate::protocol::framing::sse::Decoder;

/// Panics where `stream` is not as clients expect it: one beginning with the role, one id throughout,
/// calls numbered without gaps and begun before they go on, one end, usage behind it when asked for.
pub fn validate(stream: &[u8], wants_usage: bool) {
    let mut decoder = Decoder::new();
    decoder.push(bytes::Bytes::copy_from_slice(stream));
    let events: Vec<_> = decoder.by_ref().filter_map(|event| event.data).collect();
    assert!(decoder.finish().is_none(), "the last event has no end");
    let mut state = State { wants_usage, ..State::default() };
    for data in &events {
        assert!(!state.done, "something comes after the end");
        match data.as_ref() {
            b"[DONE]" => state.done(),
            data => state.chunk(&serde_json::from_slice(data).expect("a chunk is JSON")),
        }
    }
    assert!(state.done, "there is no end");
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "what has been seen, each by itself")]
struct State {
    wants_usage: bool,
    head: Option<[Value; 3]>,
    calls: usize,
    finish: Option<String>,
    has_usage: bool,
    failed: bool,
    done: bool,
}

impl State {
    fn chunk(&mut self, chunk: &Value) {
        assert!(!self.failed, "something comes after the failure");
        if chunk["error"].is_object() {
            assert!(chunk["error"]["message"].is_string() && chunk["error"]["type"].is_string());
            // Nothing follows a failure, not even the usual end.
            (self.failed, self.done) = (true, true);
            return;
        }
        assert_eq!(chunk["object"], "chat.completion.chunk");
        let head = ["id", "model", "created"].map(|name| chunk[name].clone());
        assert!(head[0].is_string() && head[1].is_string() && head[2].is_u64());
        let is_first = self.head.is_none();
        assert_eq!(self.head.get_or_insert_with(|| head.clone()), &head, "the head changes");
        let choices = chunk["choices"].as_array().expect("choices are an array");
        match choices.as_slice() {
            [] => self.usage(chunk),
            [choice] => self.choice(choice, is_first),
            _ => panic!("there is more than one choice"),
        }
        if !choices.is_empty() {
            assert_eq!(chunk.get("usage"), self.wants_usage.then_some(&Value::Null));
        }
    }

    fn usage(&mut self, chunk: &Value) {
        assert!(self.wants_usage, "usage nobody asked for");
        assert!(self.finish.is_some() && !self.has_usage, "usage comes once, after the finish");
        let usage = &chunk["usage"];
        let [prompt, completion, total] =
            ["prompt_tokens", "completion_tokens", "total_tokens"].map(|it| usage[it].as_u64());
        assert_eq!(prompt.unwrap() + completion.unwrap(), total.unwrap());
        self.has_usage = true;
    }

    fn choice(&mut self, choice: &Value, is_first: bool) {
        assert!(self.finish.is_none(), "a choice goes on after its finish");
        assert_eq!(choice["index"], 0);
        let delta = choice["delta"].as_object().expect("a delta");
        assert_eq!(delta.get("role").and_then(Value::as_str), is_first.then_some("assistant"));
        for call in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            self.call(call);
        }
        for empty in ["reasoning", "reasoning_content", "refusal"] {
            assert_ne!(delta.get(empty), Some(&Value::from("")));
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            assert!(["stop", "length", "tool_calls", "content_filter"].contains(&reason));
            self.finish = Some(reason.to_owned());
        }
    }

    fn call(&mut self, call: &Value) {
        let index = usize::try_from(call["index"].as_u64().expect("a number")).unwrap();
        if call.get("id").is_some() {
            assert_eq!(index, self.calls, "calls are numbered without gaps");
            let form = call["type"].as_str().expect("a type");
            assert!(call[form]["name"].is_string());
            self.calls += 1;
        }
        assert!(index < self.calls, "a call goes on that has not begun");
    }

    fn done(&mut self) {
        assert!(self.finish.is_some(), "the end comes without a reason");
        self.done = true;
    }
}
