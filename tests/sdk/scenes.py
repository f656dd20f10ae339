"""Answers written here, the same in every dialect: what no recording shows of all five."""

import json
from dataclasses import dataclass, field

import providers
from meaning import END, FILTERED, LENGTH, TOOL, Ask, Text, Tool
from recordings import Case
from upstream import Answer

MODELS = {
    "openai_chat": "qwen3-32b",
    "openai_responses": "gpt-5.2",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-3-flash-preview",
    "bedrock": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
}
TYPES = {
    "json": "application/json",
    "sse": "text/event-stream",
    "eventstream": "application/vnd.amazon.eventstream",
}


@dataclass
class Scene:
    """What a model says. `output` includes `thought`, `input` includes `cached`."""

    id: str
    reasoning: list = field(default_factory=list)  # pieces, as a stream would bring them
    text: list = field(default_factory=list)
    calls: list = field(default_factory=list)  # (name, pieces of the arguments)
    stop: str = END
    input: int = 100
    cached: int = 0
    output: int = 40
    thought: int = 0
    key: str = "Zq1"  # what the answer's id ends in
    fault: str | None = None  # of a stream: error | cut | broken

    @property
    def tools(self):
        return [(name, json.loads("".join(pieces) or "{}")) for name, pieces in self.calls]


TEXT = ["Grüße, ", "\u201cWelt\u201d 👋🏽\n", "\n  and 日本語 ", '\\ " </b> \u2028 done.']
THOUGHT = ["Let me think", ": 2 + 2", " = 4.\n"]
PARIS = (
    "get_weather",
    ['{"ci', 'ty": "Paris", "days": ', "[1, 2.50, 12345678901234567890]", ', "unit": null}'],
)
ROME = (
    "get_weather",
    ['{"city": "Rōma",', ' "nested": {"deep": [{}, {"a": ', '"\\u00e9\\n"}]}}'],
)

SCENES = [
    Scene("text", text=TEXT),
    Scene("thinking", reasoning=THOUGHT, text=TEXT, thought=12),
    Scene("tool", calls=[PARIS], stop=TOOL),
    Scene(
        "tools-parallel",
        text=["Both."],
        calls=[PARIS, ROME, ("get_time", ['{"zone":"UTC"}'])],
        stop=TOOL,
    ),
    Scene("tool-thinking", reasoning=THOUGHT, calls=[ROME], stop=TOOL, thought=12),
    Scene("tool-no-arguments", text=["Now."], calls=[("get_time", [])], stop=TOOL),
    Scene("length", text=["Once upon a"], stop=LENGTH),
    Scene("filtered", text=["I will"], stop=FILTERED),
    Scene("cached", text=["Again."], cached=64),
]
FAULTS = [
    Scene("error-in-the-stream", text=["Half a"], fault="error"),
    Scene("error-after-a-tool-began", text=["Half."], calls=[PARIS], stop=TOOL, fault="error"),
    Scene("cut-short", text=["Half a"], fault="cut"),
    Scene("cut-short-in-a-tool", calls=[PARIS], stop=TOOL, fault="cut"),
    Scene("connection-broken", text=["Half a"], fault="broken"),
]


def scenes():
    """Every scene in every dialect, streamed and not."""
    for scene in SCENES:
        for dialect in MODELS:
            yield case(scene, dialect, stream=False)
            yield case(scene, dialect, stream=True)


def faults():
    """Every way a stream fails, in every dialect."""
    return [case(scene, dialect, stream=True) for scene in FAULTS for dialect in MODELS]


def case(scene, dialect, stream):
    provider = providers.PROVIDERS[dialect]
    model = MODELS[dialect]
    kind = provider.STREAM if stream else "json"
    body = (
        provider.stream(scene, model)
        if stream
        else json.dumps(provider.whole(scene, model)).encode()
    )
    answer = Answer(
        dialect, kind, body, content_type=TYPES[kind], broken=scene.fault == "broken"
    )
    return Case(
        id=f"{scene.id}-{'streamed' if stream else 'whole'}-{dialect}",
        dialect=dialect,
        model=model,
        answer=answer,
        stream=stream,
        fails=scene.fault is not None,
        ask=asked(scene),
    )


def asked(scene):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    names = dict.fromkeys(name for name, _ in scene.calls)
    return Ask(
        turns=[("user", [Text("What is the weather like?")])],
        tools=[Tool(name, "A tool.", schema) for name in names],
        effort="low" if scene.reasoning else None,
    )


# What providers answer instead of an answer.
STATUSES = {
    "openai_chat": [400, 401, 404, 429, 500, 503],
    "openai_responses": [400, 401, 404, 429, 500, 503],
    "anthropic": [400, 401, 404, 429, 500, 529],
    "gemini": [400, 401, 404, 429, 500, 503],
    "bedrock": [400, 403, 404, 429, 500, 503],
}


def refusals():
    """Every failure before an answer, of every dialect, to calls that stream and that do not."""
    for dialect, statuses in STATUSES.items():
        for status in statuses:
            for stream in (False, True):
                yield refusal(dialect, status, stream)


def refusal(dialect, status, stream):
    body, headers = providers.PROVIDERS[dialect].refusal(status, "The model is not amused.")
    id = f"{status}-{'streamed' if stream else 'whole'}-{dialect}"
    return refused(id, dialect, status, body, headers, stream)


def refused(id, dialect, status, body, headers=None, stream=False):
    """A failure before the answer, of a provider's very words."""
    said = json.dumps(body).encode()
    answer = Answer(dialect, "json", said, status=status, headers=headers or {})
    return Case(id, dialect, MODELS[dialect], answer, stream, fails=True)
