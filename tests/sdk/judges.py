"""What every judge of the dialects needs: the upstream, the gateway before it, and the SDKs of both."""

import pathlib
import re
from dataclasses import replace

from clients import CLIENTS
from gateway import KEY, Gateway, Models
from meaning import TOOL
from upstream import Upstream

# How each dialect says that it stopped for a call; two have no word for it.
TOOL_STOPS = {"openai_chat": "tool_calls", "anthropic": "tool_use", "bedrock": "tool_use"}
IDS = {
    "anthropic": r"[a-zA-Z0-9_-]+",
    "bedrock": r"[a-zA-Z0-9_.:-]{1,64}",
}


class Bench:
    """The upstream and the gateway, with one connected client of each SDK for either."""

    def __init__(self, folder, cases, heartbeat="15s"):
        self.upstream = Upstream()
        models = Models(self.upstream.url, pathlib.Path(folder))
        for case in cases:
            for client in CLIENTS:
                models.offer(name(case, client), case.kind, case.model, case.fails)
        self.gateway = Gateway(models, heartbeat)
        self.own = {
            key: client.connect(self.upstream.url, KEY) for key, client in CLIENTS.items()
        }
        self.through = {key: self.gateway.connect(client) for key, client in CLIENTS.items()}

    def read_own(self, case):
        """As the provider's own SDK reads it, with nothing in between."""
        self.upstream.say(case.answer)
        ask = case.asked_as(case.model)
        return CLIENTS[case.dialect].read(self.own[case.dialect], ask, case.stream)

    def read_through(self, case, client, piece=0):
        """As the client's SDK reads it from the gateway, which gets it in pieces."""
        self.upstream.say(cut(case.answer, piece))
        ask = case.asked_as(name(case, client))
        strict = client != case.dialect
        return CLIENTS[client].read(self.through[client], ask, case.stream, strict)

    def close(self):
        self.gateway.stop()
        self.upstream.shutdown()


def name(case, client):
    return f"{case.id}.{client}"


def cut(answer, piece):
    return replace(answer, piece=piece)


def rules(client, meaning, counted=True):
    """What a translated answer must be beside meaning the same: `breaches`, and ids and stops.

    `counted`: the provider says how many tokens it took; where it does not, nobody can.
    """
    found = list(dict.fromkeys(meaning.breaches))
    if not counted:
        found = [breach for breach in found if "no usage" not in breach]
    if meaning.failure:
        return found
    ids = meaning.tool_ids
    if client != "gemini" and (len(set(ids)) != len(ids) or not all(ids)):
        found.append(f"tool ids {ids}")
    if pattern := IDS.get(client):
        found += [f"tool id {id!r}" for id in ids if not re.fullmatch(pattern, str(id))]
    if (
        meaning.stop == TOOL
        and client in TOOL_STOPS
        and meaning.native_stop != TOOL_STOPS[client]
    ):
        found.append(f"stopped for a call, but says {meaning.native_stop!r}")
    return found
