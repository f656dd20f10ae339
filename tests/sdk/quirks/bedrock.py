"""Bedrock."""

from meaning import END, LENGTH
from providers.framing import eventstream
from quirks.listing import HEARD, quirk

COUNTS = {"inputTokens": 9, "outputTokens": 4, "totalTokens": 13}
BEGIN = ("messageStart", {"role": "assistant", "p": "abc"})
STOPPED = ("messageStop", {"stopReason": "end_turn", "p": "abcdef"})
METADATA = ("metadata", {"usage": COUNTS, "metrics": {"latencyMs": 1}, "p": "a"})


def delta(index, **delta):
    return ("contentBlockDelta", {"contentBlockIndex": index, "delta": delta, "p": "abcd"})


def stop(index):
    return ("contentBlockStop", {"contentBlockIndex": index})


def bedrock(id, *events, **meaning):
    quirk(id, "bedrock", eventstream(events), **meaning)


bedrock(
    "metadata-before-the-stop",
    *(BEGIN, delta(0, text="Hi"), stop(0), METADATA, STOPPED),
    **HEARD,
)
bedrock(
    "text-with-a-start",
    BEGIN,
    ("contentBlockStart", {"contentBlockIndex": 0, "start": {}}),
    *(delta(0, text="Hi"), stop(0), STOPPED, METADATA),
    **HEARD,
)
bedrock(
    "blocks-that-skip",
    *(BEGIN, delta(1, text="H"), stop(1), delta(4, text="i"), stop(4), STOPPED, METADATA),
    **HEARD,
)
bedrock(
    "reasoning-redacted",
    BEGIN,
    delta(0, reasoningContent={"redactedContent": "RXFR"}),
    *(stop(0), delta(1, text="Hi"), stop(1), STOPPED, METADATA),
    **HEARD,
)
bedrock(
    "never-counted",
    *(BEGIN, delta(0, text="Hi"), stop(0), STOPPED),
    text="Hi",
    stop=END,
)
bedrock(
    "window-full",
    *(BEGIN, delta(0, text="Hi"), stop(0)),
    ("messageStop", {"stopReason": "model_context_window_exceeded"}),
    METADATA,
    **{**HEARD, "stop": LENGTH},
)
quirk(
    "whole-without-content",
    "bedrock",
    {
        "output": {"message": {"role": "assistant", "content": []}},
        "stopReason": "end_turn",
        "usage": COUNTS,
        "metrics": {"latencyMs": 1},
    },
    text="",
    stop=END,
    input=9,
    output=4,
)
