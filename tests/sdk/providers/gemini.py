"""Gemini, as the third generation answers: calls have ids, the first of them a signature."""

import json

from meaning import END, FILTERED, LENGTH, TOOL
from providers.framing import sse

STREAM = "sse"
REASONS = {END: "STOP", TOOL: "STOP", LENGTH: "MAX_TOKENS", FILTERED: "SAFETY"}
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


def chunk(scene, model, parts, stop=None):
    candidate = {"content": {"role": "model", "parts": parts}, "index": 0}
    if stop:
        candidate["finishReason"] = stop
    usage = {
        "promptTokenCount": scene.input,
        "candidatesTokenCount": scene.output - scene.thought,
        "totalTokenCount": scene.input + scene.output,
    }
    if scene.cached:
        usage["cachedContentTokenCount"] = scene.cached
    if scene.thought:
        usage["thoughtsTokenCount"] = scene.thought
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": model,
        "responseId": scene.key,
    }


def calls(scene):
    for n, (name, pieces) in enumerate(scene.calls):
        call = {"id": f"gc{n}", "name": name}
        if pieces:
            call["args"] = json.loads("".join(pieces))
        signature = {} if n else {"thoughtSignature": "RXFR"}
        yield {"functionCall": call, **signature}


def whole(scene, model):
    parts = []
    if scene.reasoning:
        parts.append({"text": "".join(scene.reasoning), "thought": True})
    if scene.text:
        parts.append({"text": "".join(scene.text)})
    return chunk(scene, model, parts + list(calls(scene)), REASONS[scene.stop])


def stream(scene, model):
    parts = [{"text": piece, "thought": True} for piece in scene.reasoning]
    parts += [{"text": piece} for piece in scene.text]
    parts += calls(scene)
    said = [chunk(scene, model, [part]) for part in parts]
    if scene.fault == "error":
        said.append(
            {"error": {"code": 503, "message": "The engine died.", "status": "UNAVAILABLE"}}
        )
    if scene.fault is None:
        said.append(chunk(scene, model, [{"text": ""}], REASONS[scene.stop]))
    return sse(said, end="\r\n")


def refusal(status, message):
    error = {"code": status, "message": message, "status": STATUSES[status]}
    if status == 429:
        retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}
        error["details"] = [retry]
    return {"error": error}, {}
