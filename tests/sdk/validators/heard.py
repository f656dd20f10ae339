"""A request as its provider reads it, and rules that several providers share."""

import base64
import binascii
import re
from dataclasses import dataclass, field

from meaning import Call, Document, Image, Result, Text, Tool

BUDGETS = [(1024, "low"), (2048, "low"), (8192, "medium")]


@dataclass
class Heard:
    model: str | None = None
    system: str = ""
    turns: list = field(default_factory=list)  # (role, blocks)
    tools: list = field(default_factory=list)
    choice: str | None = None
    parallel: bool = True
    schema: dict | None = None
    effort: str | None = None
    shown: bool = False  # what was thought is to be told
    max_tokens: int | None = None
    stop: list = field(default_factory=list)
    temperature: float | None = None
    signatures: list = field(default_factory=list)  # of thoughts and calls that are played back
    wrong: list = field(default_factory=list)

    def require(self, holds, rule):
        if not holds:
            self.wrong.append(rule)

    def known(self, value, names, where):
        """Providers that refuse a member they do not know, or a null where none may be."""
        for name in value:
            self.require(name in names, f"{where}: unknown member `{name}`")
            self.require(value[name] is not None, f"{where}.{name} is null")

    def say(self, role, blocks):
        if self.turns and self.turns[-1][0] == role:
            self.turns[-1][1].extend(blocks)
        else:
            self.turns.append((role, list(blocks)))

    def just_answered(self):
        """The ids of the results in the turn so far."""
        last = self.turns[-1][1] if self.turns else []
        return {block.id for block in last if isinstance(block, Result)}

    def image(self, media_type, data, allowed, altchars=None):
        """An image. `altchars`: the alphabet of addresses is taken too."""
        self.require(media_type in allowed, f"image of type {media_type}")
        try:
            if altchars:
                data = data.replace("+", altchars[0]).replace("/", altchars[1])
            return Image(media_type, base64.b64decode(data, altchars, validate=True))
        except (binascii.Error, TypeError, ValueError) as error:
            self.wrong.append(f"image data: {error}")
            return Image(media_type, b"")

    def document(self, name, data, altchars=None):
        """A PDF."""
        return Document(
            name, self.image("application/pdf", data, {"application/pdf"}, altchars).data
        )

    def tool(self, name, description, schema, pattern):
        self.require(re.fullmatch(pattern, name or ""), f"tool name `{name}`")
        self.tools.append(Tool(name, description, schema))

    def alternate(self, roles):
        """The first turn is the user's, and no two in a row are of one role."""
        self.require(roles and roles[0] == "user", f"the first turn is the user's: {roles}")
        twice = any(one == other for one, other in zip(roles, roles[1:]))
        self.require(not twice, f"turns alternate: {roles}")

    def answered(self, ordered=False):
        """Every call is answered in the next turn, and nothing else is."""
        for (role, blocks), (_, after) in zip(self.turns, [*self.turns[1:], ("none", [])]):
            calls = [block.id for block in blocks if isinstance(block, Call)]
            if role != "assistant" or not calls:
                continue
            results = [block.id for block in after if isinstance(block, Result)]
            self.require(len(set(calls)) == len(calls), f"two calls have one id: {calls}")
            if ordered:
                self.require(
                    calls == results, f"results {results} are not in the order of {calls}"
                )
            else:
                self.require(
                    sorted(calls) == sorted(results), f"calls {calls}, results {results}"
                )
        orphans = [
            block.id
            for index, (role, blocks) in enumerate(self.turns)
            for block in blocks
            if isinstance(block, Result)
            and not any(
                isinstance(call, Call) and call.id == block.id
                for call in (self.turns[index - 1][1] if index else [])
            )
        ]
        self.require(not orphans, f"results of no call: {orphans}")

    def meant(self):
        """The turns without ids: a result is known by the number of its call."""
        return meant(self.turns)


def meant(turns):
    """What turns say, whatever the ids are: results in the order of their calls, then the rest."""
    said, calls = [], []
    for role, blocks in merged(turns):
        one = []
        if role == "assistant":
            calls = [block.id for block in blocks if isinstance(block, Call)]
        results = [block for block in blocks if isinstance(block, Result)]
        known = {id: number for number, id in enumerate(calls)}
        for result in sorted(results, key=lambda result: known.get(result.id, 99)):
            failed = ["error"] if result.error else []
            one.append(("result", known.get(result.id, result.id), result.text, *failed))
        # Some dialects tell the images of results beside them.
        images = [result.image for result in results if result.image]
        one += [("image", image.media_type, image.data) for image in images]
        for block in blocks:
            match block:
                case Text(text):
                    one.append(("text", text))
                case Image(media_type, data):
                    one.append(("image", media_type, data))
                case Document(_, data):
                    one.append(("document", data))
                case Call(_, name, arguments):
                    one.append(("call", name, arguments))
        said.append((role, one))
    return said


def merged(turns):
    out = []
    for role, blocks in turns:
        if out and out[-1][0] == role:
            out[-1][1].extend(blocks)
        else:
            out.append((role, list(blocks)))
    return out


def effort_of(budget):
    """A budget in words, by the ranges that clients of words and clients of budgets agree on."""
    return next((word for most, word in BUDGETS if budget <= most), "high")


def objects(schema):
    """Every object schema within a schema."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)
