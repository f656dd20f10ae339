"""Anthropic Messages."""

import json

from meaning import END, FILTERED, LENGTH, TOOL
from providers.framing import sse

STREAM = "sse"
REASONS = {END: "end_turn", TOOL: "tool_use", LENGTH: "max_tokens", FILTERED: "refusal"}
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


def message(scene, model, content, stop, usage):
    return {
        "id": f"msg_01{scene.key}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }


def usage(scene):
    return {
        "input_tokens": scene.input - scene.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": scene.cached,
        "output_tokens": scene.output,
    }


def blocks(scene):
    """Each block with the deltas that tell it, and as it begins."""
    if scene.reasoning:
        whole = {"type": "thinking", "thinking": "".join(scene.reasoning), "signature": "RXFR"}
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in scene.reasoning]
        deltas.append({"type": "signature_delta", "signature": "RXFR"})
        yield whole, {"thinking": "", "signature": ""}, deltas
    if scene.text:
        whole = {"type": "text", "text": "".join(scene.text)}
        yield (
            whole,
            {"text": ""},
            [{"type": "text_delta", "text": piece} for piece in scene.text],
        )
    for n, (name, pieces) in enumerate(scene.calls):
        whole = {
            "type": "tool_use",
            "id": f"toolu_{n}",
            "name": name,
            "input": json.loads("".join(pieces) or "{}"),
        }
        deltas = [
            {"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces]
        ]
        yield whole, {"input": {}}, deltas


def whole(scene, model):
    content = [block for block, _, _ in blocks(scene)]
    return message(scene, model, content, REASONS[scene.stop], usage(scene))


def stream(scene, model):
    counted = {**usage(scene), "output_tokens": 1}
    said = [{"type": "message_start", "message": message(scene, model, [], None, counted)}]
    for index, (block, empty, deltas) in enumerate(blocks(scene)):
        said.append(
            {"type": "content_block_start", "index": index, "content_block": {**block, **empty}}
        )
        said.append({"type": "ping"})
        said += [
            {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
        ]
        said.append({"type": "content_block_stop", "index": index})
    if scene.fault:
        said = said[:-2] if scene.calls else said[:-1]
    if scene.fault == "error":
        error = {"type": "overloaded_error", "message": "The engine died."}
        said.append({"type": "error", "error": error, "request_id": "req_1"})
    if scene.fault is None:
        delta = {"stop_reason": REASONS[scene.stop], "stop_sequence": None}
        total = {"output_tokens": scene.output}
        said.append({"type": "message_delta", "delta": delta, "usage": total})
        said.append({"type": "message_stop"})
    return sse(said, named=True)


def refusal(status, message):
    error = {"type": TYPES.get(status, "api_error"), "message": message}
    headers = {"request-id": "req_1", **({"retry-after": "7"} if status == 429 else {})}
    return {"type": "error", "error": error, "request_id": "req_1"}, headers
