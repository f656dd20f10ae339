"""What an answer means, whichever SDK read it, and what is asked, whichever SDK asks it."""

import json
from dataclasses import dataclass, field

END, TOOL, LENGTH, FILTERED = "end", "tool", "length", "filtered"


@dataclass
class Failure:
    """An exception an SDK raised. `status` is None where the answer had begun."""

    name: str
    status: int | None
    message: str
    code: str | None = None
    retry_after: str | None = None


@dataclass
class Meaning:
    """What a caller learns from an answer. Usage includes what was cached, and what was reasoned."""

    text: str = ""
    reasoning: str = ""
    tools: list = field(default_factory=list)  # (name, arguments as read)
    stop: str | None = None
    input: int | None = None
    output: int | None = None
    failure: Failure | None = None
    # Not compared: how the SDK's own dialect says it.
    native_stop: str | None = None
    tool_ids: list = field(default_factory=list)
    breaches: list = field(default_factory=list)  # of the rules of the client's own dialect
    turn: object = None  # what was said whole, as the SDK gives it back in the next call

    def call(self, id, name, arguments):
        self.tool_ids.append(id)
        self.tools.append((name, parsed(arguments)))

    def stopped(self, native, reasons):
        """By the dialect's table; calls make an end a call, as not every dialect has a word for it."""
        if native is None:
            return
        self.native_stop = str(native)
        self.stop = reasons.get(self.native_stop, f"unknown: {self.native_stop}")
        if self.stop == END and self.tools:
            self.stop = TOOL

    def require(self, holds, rule):
        if not holds:
            self.breaches.append(rule)


def parsed(arguments):
    """Arguments as an object, or as they are where they are not JSON."""
    if not isinstance(arguments, str):
        return {} if arguments is None else arguments
    try:
        return json.loads(arguments)
    except ValueError:
        return f"not JSON: {arguments}"


def differences(own, through):
    """How what the client's SDK read differs from what the provider's own SDK read."""
    pairs = [
        ("text", own.text, through.text),
        ("reasoning", own.reasoning, through.reasoning),
        ("tool calls", own.tools, through.tools),
        ("stop", own.stop, through.stop),
        # Where the provider does not count, neither may anyone else have an opinion.
        ("input tokens", own.input or 0, through.input or 0),
        ("output tokens", own.output or 0, through.output or 0),
        ("failure", own.failure is not None, through.failure is not None),
    ]
    if own.failure:
        # A failed answer is not counted.
        pairs = [pair for pair in pairs if not pair[0].endswith("tokens")]
    found = [
        f"{name}: {mine!r} is read as {theirs!r}"
        for name, mine, theirs in pairs
        if mine != theirs
    ]
    if found and through.failure and not own.failure:
        found.append(str(through.failure))
    return found


# What is asked: the same for every SDK, which each says in its own words.


@dataclass
class Text:
    text: str


@dataclass
class Image:
    media_type: str
    data: bytes


@dataclass
class Document:
    """A PDF."""

    name: str
    data: bytes


@dataclass
class Call:
    id: str
    name: str
    arguments: dict


@dataclass
class Result:
    id: str
    name: str
    text: str
    image: Image | None = None
    error: bool = False


@dataclass
class Tool:
    name: str
    description: str
    schema: dict


@dataclass
class Ask:
    model: str = "m"
    system: str | None = None
    turns: list = field(default_factory=lambda: [("user", [Text("Hello.")])])
    tools: list = field(default_factory=list)
    parallel: bool | None = None
    choice: str | None = None  # auto | required | none | a tool's name
    schema: dict | None = None
    effort: str | None = None  # low | medium | high
    max_tokens: int | None = None
    stop: list = field(default_factory=list)
    temperature: float | None = None
