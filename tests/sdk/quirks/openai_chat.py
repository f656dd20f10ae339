"""OpenAI chat, and what calls itself compatible with it."""

import json

from meaning import END, LENGTH, TOOL
from providers.framing import sse
from quirks.listing import quirk


def chunk(delta, finish=None, **more):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
        **more,
    }


def call(index, id=None, name=None, arguments="", type="function"):
    function = {"arguments": arguments} | ({"name": name} if name is not None else {})
    said = {"index": index, "function": function}
    return said | ({"id": id, "type": type} if id is not None else {})


def chat(id, *chunks, end="[DONE]", **meaning):
    quirk(id, "openai_chat", sse([*chunks, *([end] if end else [])]), **meaning)


USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
ROLE = chunk({"role": "assistant", "content": ""})
COUNTED = {**chunk({}), "choices": [], "usage": USAGE}

chat(
    "head-repeated-in-every-delta",
    chunk({"role": "assistant", "tool_calls": [call(0, "t1", "f", '{"a"')]}),
    chunk({"role": "assistant", "tool_calls": [call(0, "t1", "f", ": 1")]}),
    chunk({"role": "assistant", "tool_calls": [call(0, "t1", "f", "}")]}),
    chunk({}, "tool_calls"),
    tools=[("f", {"a": 1})],
    stop=TOOL,
)
chat(
    "empty-name-and-id-on-continuations",
    ROLE,
    chunk({"tool_calls": [call(0, "t1", "f", "")]}),
    chunk({"tool_calls": [call(0, "", "", '{"a": 1}')]}),
    chunk({}, "tool_calls"),
    tools=[("f", {"a": 1})],
    stop=TOOL,
)
chat(
    "two-calls-whole-in-one-delta",
    ROLE,
    chunk({"tool_calls": [call(0, "t1", "f", '{"a": 1}'), call(1, "t2", "g", "{}")]}),
    chunk({}, "tool_calls"),
    COUNTED,
    tools=[("f", {"a": 1}), ("g", {})],
    stop=TOOL,
    input=9,
    output=4,
)
chat(
    "finish-with-content",
    ROLE,
    chunk({"content": "Hel"}),
    chunk({"content": "lo"}, "stop"),
    text="Hello",
    stop=END,
)
chat(
    "finish-with-a-call",
    ROLE,
    chunk({"tool_calls": [call(0, "t1", "f", '{"a": 1}')]}, "tool_calls"),
    tools=[("f", {"a": 1})],
    stop=TOOL,
)
chat(
    "usage-on-every-chunk",
    chunk({"role": "assistant", "content": ""}, usage={**USAGE, "completion_tokens": 0}),
    chunk({"content": "Hi"}, usage={**USAGE, "completion_tokens": 1}),
    chunk({}, "stop", usage=USAGE),
    COUNTED,
    text="Hi",
    stop=END,
    input=9,
    output=4,
)
chat(
    "empty-content-between-arguments",
    ROLE,
    chunk({"content": "", "tool_calls": [call(0, "t1", "f", '{"a"')]}),
    chunk({"content": ""}),
    chunk({"content": "", "tool_calls": [call(0, arguments=": 1}")]}),
    chunk({"content": ""}, "tool_calls"),
    tools=[("f", {"a": 1})],
    stop=TOOL,
)
chat(
    "no-done",
    ROLE,
    chunk({"content": "Hi"}),
    chunk({}, "stop"),
    end=None,
    text="Hi",
    stop=END,
)
chat(
    "reasoning-as-vllm-says-it",
    ROLE,
    chunk({"reasoning": "Hm."}),
    chunk({"content": "Hi"}),
    chunk({}, "stop"),
    reasoning="Hm.",
    text="Hi",
    stop=END,
)
chat(
    "text-while-a-call-is-open",
    ROLE,
    chunk({"tool_calls": [call(0, "t1", "f", '{"a"')]}),
    chunk({"content": "Wait."}),
    chunk({"tool_calls": [call(0, arguments=": 1}")]}),
    chunk({}, "tool_calls"),
    tools=[("f", {"a": 1})],
    text="Wait.",
    stop=TOOL,
)
chat(
    "stopped-though-a-tool-was-called",
    ROLE,
    chunk({"tool_calls": [call(0, "t1", "f", "{}")]}),
    chunk({}, "stop"),
    tools=[("f", {})],
    stop=TOOL,
)
chat(
    "no-role",
    chunk({"content": "Hi"}),
    chunk({}, "stop"),
    text="Hi",
    stop=END,
)
chat(
    "interleaved-without-order",
    ROLE,
    chunk({"tool_calls": [call(1, "t2", "g", '{"b"')]}),
    chunk({"tool_calls": [call(0, "t1", "f", '{"a"')]}),
    chunk({"tool_calls": [call(1, arguments=": 2}")]}),
    chunk({"tool_calls": [call(0, arguments=": 1}")]}),
    chunk({}, "tool_calls"),
    calls={"f": {"a": 1}, "g": {"b": 2}},
    stop=TOOL,
)
chat(
    "arguments-cut-by-the-limit",
    ROLE,
    chunk({"content": "Now."}),
    chunk({"tool_calls": [call(0, "t1", "f", '{"a": "unfin')]}),
    chunk({}, "length"),
    text="Now.",
    stop=LENGTH,
)
quirk(
    "strange-framing",
    "openai_chat",
    b"\xef\xbb\xbf: hello\r\n\r\ndata:"
    + json.dumps(ROLE).encode()
    + b"\r\nid: 7\r\n\r\nretry: 3\n\ndata:"
    + json.dumps(chunk({"content": "Hi\u2028!"}), ensure_ascii=False).encode()
    + b"\n\n: ping\n\n\n\ndata: "
    + json.dumps(chunk({}, "stop")).encode()
    + b"\n\ndata: [DONE]",
    text="Hi\u2028!",
    stop=END,
)


def completion(message, finish="stop", **more):
    message = {"role": "assistant", "content": None, **message}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    head = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m"}
    return {**head, "choices": [choice], "usage": USAGE, **more}


quirk(
    "whole-empty-arguments-and-empty-text",
    "openai_chat",
    completion(
        {
            "content": "",
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "f", "arguments": ""}}
            ],
        },
        "tool_calls",
    ),
    tools=[("f", {})],
    stop=TOOL,
    input=9,
    output=4,
)
quirk(
    "whole-only-reasoning",
    "openai_chat",
    completion({"reasoning": "Hm."}, "length"),
    reasoning="Hm.",
    stop=LENGTH,
    input=9,
    output=4,
)
quirk(
    "whole-no-calls-as-an-empty-list",
    "openai_chat",
    completion({"content": "Hi", "tool_calls": []}),
    text="Hi",
    tools=[],
    stop=END,
)
