"""Bedrock Converse and ConverseStream."""

import json

from meaning import END, FILTERED, LENGTH, TOOL
from providers.framing import eventstream

STREAM = "eventstream"
REASONS = {
    END: "end_turn",
    TOOL: "tool_use",
    LENGTH: "max_tokens",
    FILTERED: "guardrail_intervened",
}
TYPES = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}


def usage(scene):
    return {
        "inputTokens": scene.input - scene.cached,
        "outputTokens": scene.output,
        "totalTokens": scene.input + scene.output,
        "cacheReadInputTokens": scene.cached,
        "cacheWriteInputTokens": 0,
    }


def blocks(scene):
    """Each block with the events that tell it."""
    if scene.reasoning:
        text = {"text": "".join(scene.reasoning), "signature": "RXFR"}
        deltas = [{"reasoningContent": {"text": piece}} for piece in scene.reasoning]
        deltas.append({"reasoningContent": {"signature": "RXFR"}})
        yield {"reasoningContent": {"reasoningText": text}}, None, deltas
    if scene.text:
        yield {"text": "".join(scene.text)}, None, [{"text": piece} for piece in scene.text]
    for n, (name, pieces) in enumerate(scene.calls):
        head = {"toolUseId": f"tooluse_{n}", "name": name}
        call = {**head, "input": json.loads("".join(pieces) or "{}")}
        yield (
            {"toolUse": call},
            {"toolUse": head},
            [{"toolUse": {"input": piece}} for piece in pieces],
        )


def whole(scene, model):
    content = [block for block, _, _ in blocks(scene)]
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": REASONS[scene.stop],
        "usage": usage(scene),
        "metrics": {"latencyMs": 234},
    }


def stream(scene, model):
    said = [("messageStart", {"role": "assistant"})]
    for index, (_, start, deltas) in enumerate(blocks(scene)):
        at = {"contentBlockIndex": index}
        if start:
            said.append(("contentBlockStart", {**at, "start": start}))
        said += [("contentBlockDelta", {**at, "delta": delta}) for delta in deltas]
        said.append(("contentBlockStop", at))
    if scene.fault:
        said = said[:-2] if scene.calls else said[:-1]
    if scene.fault == "error":
        said.append(
            (
                "modelStreamErrorException",
                {"message": "The engine died.", "originalStatusCode": 500},
            )
        )
    if scene.fault is None:
        said.append(("messageStop", {"stopReason": REASONS[scene.stop]}))
        said.append(("metadata", {"usage": usage(scene), "metrics": {"latencyMs": 234}}))
    return eventstream([(kind, {**payload, "p": "abcdefgh"}) for kind, payload in said])


def refusal(status, message):
    kind = f"{TYPES[status]}:http://internal.amazon.com/coral/com.amazon.bedrock/"
    return {"message": message}, {"x-amzn-errortype": kind, "x-amzn-requestid": "7fdb"}
