"""An answer held to a schema, also where the model can only be held to a tool."""

import json

import pytest

from asks import ANSWER, HELLO, WEATHER
from clients import CLIENTS
from judges import Bench, name
from meaning import END, Ask
from recordings import Case
from scenes import Scene, case
from validators import VALIDATORS

# Models that take a schema, and models that do not.
TARGETS = {
    "claude-4.5": ("anthropic", "claude-sonnet-4-5"),
    "claude-3.7": ("anthropic", "claude-3-7-sonnet-20250219"),
    "gemini-3": ("gemini", "gemini-3-flash-preview"),
    "nova": ("bedrock", "amazon.nova-pro-v1:0"),
    "gpt": ("openai_responses", "gpt-5.2"),
    "open": ("openai_chat", "qwen3-32b"),
}
SAID = {
    "places": [
        {"name": "Grüße, \u201cRom\u201d", "kind": "city"},
        {"name": 'x\\n"', "kind": "sea"},
    ]
}
PIECES = json.dumps(SAID, ensure_ascii=False)
PIECES = [PIECES[:7], PIECES[7:30], PIECES[30:]]
# Where both speak alike, the schema passes as it is.
PAIRS = [(id, client) for id in TARGETS for client in CLIENTS if TARGETS[id][0] != client]


def target(id, scene, stream):
    dialect, model = TARGETS[id]
    return Case(f"format-{id}", dialect, model, case(scene, dialect, stream).answer, stream)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    plain = Scene("plain", text=["Hi"])
    cases = [target(id, plain, stream=False) for id in TARGETS]
    bench = Bench(tmp_path_factory.mktemp("formats"), cases)
    yield bench
    bench.close()


@pytest.mark.gateway
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("id", "client"), PAIRS)
def test_an_answer_is_held_to_its_schema(bench, id, client, stream):
    dialect, _ = TARGETS[id]
    module, connected = CLIENTS[client], bench.through[client]
    first = target(id, Scene("plain", text=["{}"]), stream)
    ask = Ask(model=name(first, client), turns=[HELLO], schema=ANSWER)
    bench.upstream.say(first.answer)
    assert module.read(connected, ask, stream).failure is None
    heard = VALIDATORS[dialect].hear(bench.upstream.asked())
    assert heard.wrong == []
    if heard.schema:
        assert heard.schema == ANSWER
        scene = Scene("json", text=PIECES)
    else:
        # A tool in the schema's place, which has to be called.
        [tool] = heard.tools
        assert tool.schema["properties"] == ANSWER["properties"]
        assert heard.choice in (tool.name, "required")
        scene = Scene("json", calls=[(tool.name, PIECES)], stop="tool")
    bench.upstream.say(target(id, scene, stream).answer)
    answer = module.read(connected, ask, stream, strict=True)
    assert answer.failure is None
    assert json.loads(answer.text) == SAID
    assert answer.tools == []
    assert answer.stop == END
    assert answer.breaches == []


@pytest.mark.gateway
@pytest.mark.parametrize("client", [client for client in CLIENTS if client != "anthropic"])
def test_tools_beside_a_schema_are_still_called(bench, client):
    plain = target(
        "claude-3.7", Scene("plain", calls=[("get_weather", PIECES)], stop="tool"), False
    )
    module, connected = CLIENTS[client], bench.through[client]
    ask = Ask(model=name(plain, client), turns=[HELLO], schema=ANSWER, tools=[WEATHER])
    bench.upstream.say(plain.answer)
    answer = module.read(connected, ask, stream=False)
    heard = VALIDATORS["anthropic"].hear(bench.upstream.asked())
    assert heard.wrong == []
    assert len(heard.tools) == 2
    assert heard.choice == "required"
    assert answer.tools == [("get_weather", SAID)]
