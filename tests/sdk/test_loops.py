"""A tool loop: what a provider signed comes back to it, and to no other."""

import pytest

from asks import HELLO, WEATHER
from clients import CLIENTS
from judges import Bench, name
from meaning import Ask, Result
from scenes import MODELS, SCENES, case
from validators import VALIDATORS

SCENE = next(scene for scene in SCENES if scene.id == "tool-thinking")
FINAL = next(scene for scene in SCENES if scene.id == "text")
CASES = {dialect: case(SCENE, dialect, stream=False) for dialect in MODELS}
FINALS = {dialect: case(FINAL, dialect, stream=False) for dialect in MODELS}
# What each provider signs with in these answers; a chat has no signatures.
SIGNED = {
    "openai_responses": "gAAAA=",
    "anthropic": "RXFR",
    "gemini": "RXFR",
    "bedrock": "RXFR",
}
# What Gemini takes where another model made the call.
FOREIGN = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("loops"), CASES.values())
    yield bench
    bench.close()


def loop(bench, client, first, second):
    """Calls `first`, answers its tool call in a call of `second`, and says what that one heard."""
    module, connected = CLIENTS[client], bench.through[client]
    ask = Ask(model=name(CASES[first], client), turns=[HELLO], tools=[WEATHER], effort="low")
    bench.upstream.say(CASES[first].answer)
    answer = module.read(connected, ask, stream=False)
    assert answer.failure is None
    results = [Result(id, name, "18") for id, (name, _) in zip(answer.tool_ids, answer.tools)]
    said = module.resume(module.arguments(ask), answer.turn, results)
    said["modelId" if client == "bedrock" else "model"] = name(CASES[second], client)
    bench.upstream.say(FINALS[second].answer)
    module.call(connected, said)
    request = bench.upstream.asked()
    return request, VALIDATORS[second].hear(request)


@pytest.mark.gateway
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("provider", MODELS)
def test_a_provider_gets_its_own_signatures_back(bench, client, provider):
    request, heard = loop(bench, client, provider, provider)
    if client != provider:
        assert heard.wrong == [], request.body
    turns = heard.meant()
    [_, (_, called), (_, answered)] = turns
    assert [block for block in called if block[0] == "call"] == [("call", *SCENE.tools[0])]
    assert answered == [("result", 0, "18")]
    signed = [SIGNED[provider]] if provider in SIGNED else []
    assert heard.signatures == signed, request.body


@pytest.mark.gateway
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("first", "second"), [(a, b) for a in SIGNED for b in MODELS if a != b]
)
def test_no_provider_gets_the_signature_of_another(bench, client, first, second):
    request, heard = loop(bench, client, first, second)
    if client != second:
        assert heard.wrong == [], request.body
        assert set(heard.signatures) <= {FOREIGN}, request.body
    assert heard.meant()[-1] == ("user", [("result", 0, "18")])
