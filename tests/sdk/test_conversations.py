"""Responses that go on from one another, over providers that remember nothing."""

import secrets
from dataclasses import replace

import openai
import pytest

from asks import CLOCK
from clients import CLIENTS, openai_responses
from gateway import OTHER_KEY
from judges import Bench, name
from meaning import Ask, Text
from scenes import MODELS, SCENES, Scene, case
from validators import VALIDATORS

FOREIGN = [dialect for dialect in MODELS if dialect != "openai_responses"]
CASES = {dialect: case(SCENES[0], dialect, stream=False) for dialect in FOREIGN}
CALL = Scene("call", text=["Looking."], calls=[("get_time", ["{}"])], stop="tool")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("conversations"), CASES.values())
    yield bench
    bench.close()


def create(bench, dialect, scene, stream, key=None, **said):
    """One response; the provider answers with `scene`, by an id of its own."""
    scene = replace(scene, key=key or secrets.token_hex(8))
    bench.upstream.say(case(scene, dialect, stream).answer)
    client = bench.through["openai_responses"]
    said = {"model": name(CASES[dialect], "openai_responses"), **said}
    if not stream:
        return client.responses.create(**said)
    with client.responses.create(**said, stream=True) as events:
        return list(events)[-1].response


@pytest.mark.gateway
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("dialect", FOREIGN)
def test_a_response_goes_on_from_another(bench, dialect, stream):
    ask = Ask(turns=[("user", [Text("What time is it?")])], tools=[CLOCK])
    tools = openai_responses.arguments(ask)["tools"]
    first = create(bench, dialect, CALL, stream, input="What time is it?", tools=tools)
    [call] = [item for item in first.output if item.type == "function_call"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Noon."}
    second = create(
        bench,
        dialect,
        Scene("told", text=["It is noon."]),
        stream,
        input=[result],
        tools=tools,
        previous_response_id=first.id,
    )
    assert second.previous_response_id == first.id
    third = create(
        bench,
        dialect,
        SCENES[0],
        stream,
        input="Thanks.",
        instructions="Be brief.",
        tools=tools,
        previous_response_id=second.id,
    )
    assert third.id != second.id
    request = bench.upstream.asked()
    heard = VALIDATORS[dialect].hear(request)
    assert heard.wrong == [], request.body
    assert heard.system == "Be brief."
    assert heard.meant() == [
        ("user", [("text", "What time is it?")]),
        ("assistant", [("text", "Looking."), ("call", "get_time", {})]),
        ("user", [("result", 0, "Noon.")]),
        ("assistant", [("text", "It is noon.")]),
        ("user", [("text", "Thanks.")]),
    ]


@pytest.mark.gateway
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_what_was_not_to_be_stored_is_not(bench, stream):
    first = create(bench, "anthropic", SCENES[0], False, input="Hello.", store=False)
    with pytest.raises(openai.APIStatusError) as caught:
        create(
            bench, "anthropic", SCENES[0], stream, input="So?", previous_response_id=first.id
        )
    assert caught.value.status_code in (400, 404)
    assert caught.value.param == "previous_response_id"
    assert bench.upstream.requests == []


@pytest.mark.gateway
def test_a_provider_that_repeats_its_ids_mixes_no_conversations(bench):
    """Servers that only speak like OpenAI may call every answer the same."""
    one, other = (
        create(bench, "openai_chat", SCENES[0], False, key="same", input=said)
        for said in ("My name is Ada.", "My name is Bob.")
    )
    assert one.id != other.id
    create(bench, "openai_chat", SCENES[0], False, input="Who?", previous_response_id=one.id)
    assert "Ada" in str(bench.upstream.asked().body)


@pytest.mark.gateway
def test_a_response_of_another_tenant_is_not_there(bench):
    first = create(bench, "anthropic", SCENES[0], False, input="Hello.")
    other = openai_responses.connect(bench.gateway.url, OTHER_KEY)
    with pytest.raises(openai.APIStatusError) as caught:
        other.responses.create(
            model=name(CASES["anthropic"], "openai_responses"),
            input="So?",
            previous_response_id=first.id,
        )
    assert caught.value.status_code in (400, 404)
    with pytest.raises(openai.NotFoundError):
        other.responses.retrieve(first.id)
    with pytest.raises(openai.NotFoundError):
        other.responses.delete(first.id)
    assert len(bench.upstream.requests) == 1


@pytest.mark.gateway
def test_a_response_that_is_stored_can_be_fetched_and_forgotten(bench):
    client = bench.through["openai_responses"]
    first = create(bench, "gemini", SCENES[0], False, input="Hello.")
    assert client.responses.retrieve(first.id).output_text == first.output_text
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


@pytest.mark.gateway
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("dialect", FOREIGN)
def test_a_megabyte_crosses(bench, dialect, client):
    text = "Grüße, \u201cWelt\u201d 👋🏽 " * 30_000
    scene = Scene(
        "long", text=[text[start : start + 999] for start in range(0, len(text), 999)]
    )
    bench.upstream.say(case(scene, dialect, stream=True).answer)
    ask = Ask(model=name(CASES[dialect], client))
    answer = CLIENTS[client].read(bench.through[client], ask, stream=True)
    assert answer.failure is None
    assert answer.text == text
