"""Anthropic."""

from meaning import END, FILTERED, TOOL
from providers.framing import sse
from quirks.listing import HEARD, quirk


def start(**usage):
    usage = {"input_tokens": 9, "output_tokens": 1, **usage}
    return {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        },
    }


def block(index, block, *deltas):
    begin = {"type": "content_block_start", "index": index, "content_block": block}
    between = [{"type": "content_block_delta", "index": index, "delta": one} for one in deltas]
    return [begin, *between, {"type": "content_block_stop", "index": index}]


def end(reason="end_turn", sequence=None, **usage):
    delta = {"stop_reason": reason, "stop_sequence": sequence}
    said = {"type": "message_delta", "delta": delta}
    return [said | ({"usage": usage} if usage else {}), {"type": "message_stop"}]


def spoken(text):
    return {"type": "text_delta", "text": text}


def messages(id, *events, **meaning):
    quirk(id, "anthropic", sse(events, named=True), **meaning)


HI = block(0, {"type": "text", "text": ""}, spoken("Hi"))

messages("two-message-starts", start(), start(), *HI, *end(output_tokens=4), **HEARD)
messages("delta-without-usage", start(), *HI, *end(), text="Hi", stop=END, input=9)
messages(
    "two-message-deltas", start(), *HI, end(output_tokens=2)[0], *end(output_tokens=4), **HEARD
)
messages(
    "input-counted-at-the-end",
    start(input_tokens=0),
    *HI,
    *end(input_tokens=5, cache_read_input_tokens=4, output_tokens=4),
    **HEARD,
)
messages(
    "unknown-events-and-deltas",
    start(),
    {"type": "weather_report", "weather": {"type": "sunny"}},
    HI[0],
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "mood_delta", "mood": "good"},
    },
    *HI[1:],
    *end(output_tokens=4),
    **HEARD,
)
messages(
    "text-in-the-start-of-its-block",
    start(),
    *block(0, {"type": "text", "text": "H"}, spoken("i")),
    *end(output_tokens=4),
    **HEARD,
)
messages(
    "input-in-the-start-of-its-block",
    start(),
    *block(0, {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}),
    *end("tool_use", output_tokens=4),
    tools=[("f", {"a": 1})],
    stop=TOOL,
    input=9,
    output=4,
)
messages(
    "thinking-omitted",
    start(),
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "signature_delta", "signature": "RXFR"},
    ),
    *block(1, {"type": "text", "text": ""}, spoken("Hi")),
    *end(output_tokens=4),
    **HEARD,
)
messages(
    "thinking-redacted",
    start(),
    *block(0, {"type": "redacted_thinking", "data": "RXFR"}),
    *block(1, {"type": "text", "text": ""}, spoken("Hi")),
    *end(output_tokens=4),
    **HEARD,
)
messages("stop-sequence", start(), *HI, *end("stop_sequence", "END", output_tokens=4), **HEARD)
messages(
    "refused-without-a-word",
    start(),
    {"type": "ping"},
    *end("refusal", output_tokens=4),
    text="",
    stop=FILTERED,
    input=9,
    output=4,
)
messages("nothing-said", start(), *end(output_tokens=4), text="", stop=END, input=9, output=4)
messages(
    "thought-between-calls",
    start(),
    *block(
        0, {"type": "thinking", "thinking": ""}, {"type": "thinking_delta", "thinking": "A."}
    ),
    *block(
        1,
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
        {"type": "input_json_delta", "partial_json": "{}"},
    ),
    *block(
        2, {"type": "thinking", "thinking": ""}, {"type": "thinking_delta", "thinking": "B."}
    ),
    *block(3, {"type": "text", "text": ""}, spoken("C.")),
    *block(4, {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}}),
    *end("tool_use", output_tokens=4),
    reasoning="A.B.",
    text="C.",
    tools=[("f", {}), ("g", {})],
    stop=TOOL,
)
