"""OpenAI chat completions, with reasoning as open servers say it."""

from meaning import END, FILTERED, LENGTH, TOOL
from providers.framing import interleaved, sse

STREAM = "sse"
REASONS = {END: "stop", TOOL: "tool_calls", LENGTH: "length", FILTERED: "content_filter"}
TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    404: "invalid_request_error",
}
CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


def head(scene, model, kind):
    id = f"chatcmpl-{scene.key}"
    return {"id": id, "object": kind, "created": 1770933892, "model": model}


def usage(scene):
    return {
        "prompt_tokens": scene.input,
        "completion_tokens": scene.output,
        "total_tokens": scene.input + scene.output,
        "prompt_tokens_details": {"cached_tokens": scene.cached},
        "completion_tokens_details": {"reasoning_tokens": scene.thought},
    }


def whole(scene, model):
    message = {"role": "assistant", "content": "".join(scene.text) or None, "refusal": None}
    if scene.reasoning:
        message["reasoning_content"] = "".join(scene.reasoning)
    if scene.calls:
        message["tool_calls"] = [
            {
                "id": f"call_{n}",
                "type": "function",
                "function": {"name": name, "arguments": "".join(pieces) or "{}"},
            }
            for n, (name, pieces) in enumerate(scene.calls)
        ]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": REASONS[scene.stop],
    }
    return {**head(scene, model, "chat.completion"), "choices": [choice], "usage": usage(scene)}


def stream(scene, model):
    chunks = [{"role": "assistant", "content": ""}]
    chunks += [{"reasoning_content": piece} for piece in scene.reasoning]
    chunks += [{"content": piece} for piece in scene.text]
    chunks += interleaved([call(n, *scene.calls[n]) for n in range(len(scene.calls))])
    if scene.fault and scene.calls:
        chunks.pop()
    base = head(scene, model, "chat.completion.chunk")
    said = [
        {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in chunks
    ]
    if scene.fault == "error":
        said.append(
            {
                "error": {
                    "message": "The engine died.",
                    "type": "server_error",
                    "param": None,
                    "code": None,
                }
            }
        )
    if scene.fault is None:
        last = {"index": 0, "delta": {}, "finish_reason": REASONS[scene.stop]}
        said += [
            {**base, "choices": [last]},
            {**base, "choices": [], "usage": usage(scene)},
            "[DONE]",
        ]
    return sse(said)


def call(number, name, pieces):
    first = {
        "index": number,
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": name, "arguments": ""},
    }
    deltas = [first] + [
        {"index": number, "function": {"arguments": piece}} for piece in pieces or ["{}"]
    ]
    return [{"tool_calls": [delta]} for delta in deltas]


def refusal(status, message):
    kind = TYPES.get(status, "requests" if status == 429 else "server_error")
    error = {"message": message, "type": kind, "param": None, "code": CODES.get(status)}
    return {"error": error}, {"retry-after": "7"} if status == 429 else {}
