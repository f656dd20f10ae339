"""What a client's SDK asks reaches every provider as the provider demands it, and means the same.

Each SDK says the same thing in its own words. What then arrives at the upstream is held to the rules of
its dialect, read, and compared with what was asked.
"""

from dataclasses import dataclass

import pytest

from asks import ASKS, UNSAID, WORDLESS
from clients import CLIENTS
from judges import Bench, name
from meaning import Ask
from recordings import Case
from scenes import MODELS, SCENES
from scenes import case as scene_case
from validators import VALIDATORS
from validators.heard import meant

# Beside the model of each dialect, those of other rules.
OTHERS = {
    "claude-adaptive": ("anthropic", "claude-opus-4-7"),
    "gpt-4.1": ("openai_responses", "gpt-4.1"),
    "gemini-second": ("gemini", "gemini-2.5-flash"),
}
PROVIDERS = {dialect: (dialect, model) for dialect, model in MODELS.items()} | OTHERS


@dataclass
class Target:
    """A provider and a model, answering anything that is asked."""

    id: str
    dialect: str
    model: str

    def case(self, stream):
        answer = scene_case(SCENES[0], self.dialect, stream).answer
        return Case(self.id, self.dialect, self.model, answer, stream)


TARGETS = [Target(id, *of) for id, of in PROVIDERS.items()]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(
        tmp_path_factory.mktemp("requests"), [target.case(False) for target in TARGETS]
    )
    yield bench
    bench.close()


def send(bench, target, client, ask, stream):
    """Asks, and says what the upstream heard."""
    case = target.case(stream)
    bench.upstream.say(case.answer)
    said = Ask(**{**vars(ask), "model": name(case, client)})
    answer = CLIENTS[client].read(bench.through[client], said, stream)
    assert answer.failure is None
    request = bench.upstream.asked()
    return request, VALIDATORS[target.dialect].hear(request)


def pairs():
    for key in ASKS:
        for client in CLIENTS:
            if (key, client) not in UNSAID:
                for target in TARGETS:
                    if target.dialect == client:
                        continue
                    yield pytest.param(key, client, target, id=f"{key}-{client}-{target.id}")


@pytest.mark.gateway
@pytest.mark.parametrize(("key", "client", "target"), list(pairs()))
def test_every_provider_is_asked_what_the_client_asked(bench, key, client, target):
    ask = ASKS[key]
    for stream in (False, True):
        request, heard = send(bench, target, client, ask, stream)
        assert heard.wrong == [], request.body
        assert request.model == target.model
        assert differences(ask, heard, client, target) == [], request.body


@pytest.mark.gateway
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("key", ASKS)
def test_a_provider_of_the_clients_dialect_gets_its_very_words(bench, key, client, stream):
    target = next(target for target in TARGETS if target.id == client)
    request, _ = send(bench, target, client, ASKS[key], stream)
    bench.upstream.say(target.case(stream).answer)
    said = Ask(**{**vars(ASKS[key]), "model": target.model})
    CLIENTS[client].read(bench.own[client], said, stream)
    own = bench.upstream.asked()
    assert request.body == own.body
    assert request.model == own.model
    assert request.path.endswith(own.path.split("/")[-1])


def differences(ask, heard, client, target):
    pairs = [
        ("system", ask.system or "", heard.system),
        ("turns", meant(ask.turns), heard.meant()),
        (
            "tools",
            [described(tool) for tool in ask.tools],
            [described(tool) for tool in heard.tools],
        ),
        ("tool choice", ask.choice or "auto", heard.choice or "auto"),
        ("parallel calls", ask.parallel is not False, heard.parallel),
        ("schema", ask.schema, heard.schema),
        ("temperature", ask.temperature, heard.temperature),
        ("stop", ask.stop, heard.stop),
    ]
    if not ask.tools:
        # What was called before may have to be declared, where it is not to be called again.
        pairs = [pair for pair in pairs if pair[0] != "tools"]
    if ask.effort:
        pairs.append(("effort", ask.effort, heard.effort))
        pairs.append(("thoughts shown", True, heard.shown))
    if ask.max_tokens:
        pairs.append(("max tokens", ask.max_tokens, heard.max_tokens))
    skipped = set().union(
        *(WORDLESS.get(key, ()) for key in (client, target.dialect, target.id, target.model))
    )
    return [
        f"{what}: {said!r} was asked, {got!r} arrived"
        for what, said, got in pairs
        if said != got and what not in skipped
    ]


def described(tool):
    """A tool; one that takes nothing may come without a schema."""
    takes = (tool.schema or {}).get("properties")
    return tool.name, tool.description, tool.schema if takes else None
