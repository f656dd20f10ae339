"""Responses."""

from meaning import END, TOOL
from providers.framing import sse
from quirks.listing import HEARD, quirk

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
}
FUNCTION = {
    "id": "fc_1",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_1",
    "name": "f",
    "arguments": '{"a": 1}',
}
TOLD = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}


def response(status="completed", output=(), **more):
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": status,
        "output": list(output),
        "usage": TOLD if status == "completed" else None,
        **more,
    }


def responses(id, *events, **meaning):
    numbered = [{**event, "sequence_number": n} for n, event in enumerate(events)]
    quirk(id, "openai_responses", sse(numbered, named=True), **meaning)


CREATED = {"type": "response.created", "response": response("in_progress")}


def added(index, item, **empty):
    return {
        "type": "response.output_item.added",
        "output_index": index,
        "item": {**item, **empty},
    }


def done(index, item):
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def completed(*output):
    return {"type": "response.completed", "response": response("completed", output)}


def said(text, index=0, id="msg_1"):
    at = {"item_id": id, "output_index": index, "content_index": 0}
    return {"type": "response.output_text.delta", "delta": text, **at}


responses(
    "items-without-deltas",
    *(
        CREATED,
        added(0, MESSAGE, content=[]),
        done(0, MESSAGE),
        added(1, FUNCTION, arguments=""),
    ),
    *(done(1, FUNCTION), completed(MESSAGE, FUNCTION)),
    text="Hi",
    tools=[("f", {"a": 1})],
    stop=TOOL,
    input=9,
    output=4,
)
responses(
    "nothing-listed-at-the-end",
    *(CREATED, added(0, MESSAGE, content=[]), said("H"), said("i"), done(0, MESSAGE)),
    completed(),
    **HEARD,
)
responses(
    "arguments-only-when-done",
    *(CREATED, added(0, FUNCTION, arguments="")),
    {
        "type": "response.function_call_arguments.done",
        "item_id": "fc_1",
        "output_index": 0,
        "name": "f",
        "arguments": '{"a": 1}',
    },
    *(done(0, FUNCTION), completed(FUNCTION)),
    tools=[("f", {"a": 1})],
    stop=TOOL,
    input=9,
    output=4,
)
responses(
    "unknown-items-and-events",
    CREATED,
    {"type": "response.weather_report", "weather": "sunny"},
    *(added(0, {"id": "w_1", "type": "weather"}), done(0, {"id": "w_1", "type": "weather"})),
    *(added(1, MESSAGE, content=[]), said("Hi", 1), done(1, MESSAGE), completed(MESSAGE)),
    **HEARD,
)
quirk(
    "whole-two-messages-and-no-details",
    "openai_responses",
    response(
        output=[{**MESSAGE, "phase": "commentary"}, {**MESSAGE, "id": "msg_2"}],
    ),
    text="HiHi",
    stop=END,
    input=9,
    output=4,
)
