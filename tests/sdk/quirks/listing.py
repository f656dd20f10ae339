"""The quirks, as they are written down."""

import json

from meaning import END, Ask, Text, Tool
from recordings import ANY, Case
from scenes import MODELS, TYPES
from upstream import Answer

QUIRKS = []


def quirk(id, dialect, body, **meaning):
    """An answer, and what it means; a stream when it is bytes."""
    stream = isinstance(body, bytes)
    kind = "eventstream" if dialect == "bedrock" else "sse"
    kind = kind if stream else "json"
    body = body if stream else json.dumps(body).encode()
    answer = Answer(dialect, kind, body, content_type=TYPES[kind])
    ask = Ask(
        turns=[("user", [Text("What is the weather like?")])],
        tools=[Tool("f", "A tool.", ANY), Tool("g", "Another.", ANY)],
        effort="low",
    )
    case = Case(f"{dialect}-{id}", dialect, MODELS[dialect], answer, stream, ask)
    QUIRKS.append((case, meaning))


# What most of them say.
HEARD = {"text": "Hi", "stop": END, "input": 9, "output": 4}
