"""The recorded answers of real providers, as cases: a dialect's answer, and what was asked for it."""

import json
import pathlib
from dataclasses import dataclass, field

from meaning import Ask, Text, Tool
from upstream import Answer

ROOT = pathlib.Path(__file__).parent.parent / "fixtures" / "recorded"
DIALECTS = {
    "openai-chat": "openai_chat",
    "openai-responses": "openai_responses",
    "anthropic-messages": "anthropic",
    "gemini": "gemini",
    "bedrock-converse": "bedrock",
}
ANY = {"type": "object", "properties": {}}


@dataclass
class Case:
    """One answer of one provider."""

    id: str
    dialect: str
    model: str
    answer: Answer
    stream: bool
    ask: Ask = field(default_factory=Ask)
    kind: str = ""  # of the provider in the configuration; its dialect, unless said
    fails: bool = False

    def __post_init__(self):
        self.kind = self.kind or self.dialect

    def asked_as(self, model):
        ask = Ask(**vars(self.ask))
        ask.model = model
        return ask


def recorded():
    """Every recording, in the order of their names."""
    folders = sorted(path for path in ROOT.iterdir() if path.is_dir())
    assert folders, f"no recordings under {ROOT}"
    return [case(folder) for folder in folders]


def case(folder):
    meta = json.loads((folder / "meta.json").read_text())
    answer = Answer(
        dialect=DIALECTS[meta["dialect"]],
        kind=meta["kind"],
        body=(folder / "response.bin").read_bytes(),
        status=meta["status"],
        content_type=meta["content_type"],
        headers=meta.get("headers", {}),
    )
    request = folder / "request.json"
    return Case(
        id=meta["id"],
        dialect=answer.dialect,
        model=meta.get("model", "gemini-2.5-flash"),
        answer=answer,
        stream=answer.streams,
        kind="azure" if meta["provider"] == "azure" else "",
        fails=answer.status != 200 or "-failed" in meta["id"] or "-error" in meta["id"],
        ask=asked(answer.body, json.loads(request.read_text()) if request.exists() else {}),
    )


def asked(body, request):
    """What the recording's caller might have asked: the tools that were called, and to think."""
    ask = Ask(turns=[("user", [Text("What is the weather like?")])])
    ask.tools = [Tool(name, "A tool.", ANY) for name in tool_names(request)]
    thought = (
        b"reasoning_content",
        b'"reasoning"',
        b'"thought"',
        b"thinking",
        b"reasoningContent",
    )
    if any(word in body for word in (*thought, b"reasoning_text", b"summary_text")):
        ask.effort = "low"
    return ask


def tool_names(request):
    """The functions a recorded request declares, in whichever dialect."""
    for tool in request.get("tools", []):
        for inner in tool.get("functionDeclarations", [tool.get("function", tool)]):
            # A tool that the provider itself runs has another type, and cannot cross.
            if "name" in inner and tool.get("type", "function") in ("function", "custom"):
                yield inner["name"]
    for tool in request.get("toolConfig", {}).get("tools", []):
        yield tool["toolSpec"]["name"]
