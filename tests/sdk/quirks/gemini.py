"""Gemini."""

from meaning import FILTERED, LENGTH, TOOL
from providers.framing import sse
from quirks.listing import HEARD, quirk


def piece(parts=None, finish=None, usage=True, **more):
    candidate = {"index": 0}
    if parts is not None:
        candidate["content"] = {"role": "model", "parts": parts}
    if finish:
        candidate["finishReason"] = finish
    counts = {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13}
    said = {"candidates": [candidate], "modelVersion": "m", "responseId": "r"}
    return said | ({"usageMetadata": counts} if usage else {}) | more


def gemini(id, *chunks, end="\r\n", **meaning):
    quirk(id, "gemini", sse(chunks, end=end), **meaning)


GREETING = {"text": "Hi"}
gemini("lines-of-lf", piece([GREETING]), piece([], "STOP"), end="\n", **HEARD)
gemini(
    "usage-after-the-finish",
    piece([GREETING], "STOP", usage=False),
    {k: v for k, v in piece().items() if k != "candidates"},
    **HEARD,
)
gemini(
    "signature-alone-at-the-end",
    piece([GREETING]),
    piece([{"text": "", "thoughtSignature": "RXFR"}], "STOP"),
    **HEARD,
)
gemini(
    "calls-and-text-in-one-chunk",
    piece(
        [
            GREETING,
            {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "RXFR"},
            {"functionCall": {"name": "f", "args": {"a": 2}}},
        ]
    ),
    piece(None, "STOP"),
    text="Hi",
    tools=[("f", {"a": 1}), ("f", {"a": 2})],
    stop=TOOL,
    input=9,
    output=4,
)
gemini(
    "prompt-blocked-in-a-stream",
    {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9},
        "modelVersion": "m",
        "responseId": "r",
    },
    text="",
    stop=FILTERED,
    input=9,
    output=0,
)
gemini(
    "limit-before-the-first-word",
    piece(None, "MAX_TOKENS"),
    text="",
    stop=LENGTH,
    input=9,
    output=4,
)
gemini(
    "thoughts-within-the-candidates",
    piece([{"text": "Hm.", "thought": True}]),
    piece(
        [GREETING],
        "STOP",
        usageMetadata={
            "promptTokenCount": 9,
            "candidatesTokenCount": 4,
            "thoughtsTokenCount": 3,
            "totalTokenCount": 13,
        },
    ),
    reasoning="Hm.",
    **HEARD,
)
gemini(
    "a-reason-nobody-knows-yet",
    piece([GREETING]),
    piece(None, "BORED"),
    text="Hi",
    input=9,
    output=4,
)
gemini("recited", piece([GREETING]), piece(None, "RECITATION"), **{**HEARD, "stop": FILTERED})
quirk(
    "whole-without-content",
    "gemini",
    piece(None, "PROHIBITED_CONTENT"),
    text="",
    stop=FILTERED,
    input=9,
    output=4,
)
