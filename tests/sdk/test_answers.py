"""What a model said means the same to every client, whichever dialect the provider spoke.

The meaning is what the provider's own SDK reads from the provider itself. Then the client's SDK reads
the same answer through Forebay. 25 pairs of dialects: recorded answers, and written ones for what no
recording shows of all five.
"""

import pytest

from clients import CLIENTS
from judges import Bench, rules
from meaning import differences
from recordings import recorded
from scenes import FAULTS, SCENES, faults, scenes
from scenes import case as written

RECORDED = recorded()
WRITTEN = list(scenes())
FAULTY = faults()
# What a client's dialect has no place for: why, and what then differs.
UNSUPPORTED = {
    ("gem-prompt-blocked", "bedrock"): (
        "Converse has no other place for why it was blocked than the text, where guardrails put it",
        ["text: '' is read as 'The prompt violated Prompt Injection and Jailbreak filters.'"],
    ),
    ("resp-openai-stream-custom-tool", "openai_chat"): (
        "the SDK's type of a chunk knows no custom tools, its type of a whole answer does",
        ["ChatCompletionChunk.choices.0.delta.tool_calls.0.type: Input should be 'function'"],
    ),
}
# An odd number of bytes, so that every kind of border is cut.
PIECE = 13


def by_id(cases):
    return pytest.mark.parametrize("case", cases, ids=[case.id for case in cases])


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("answers"), [*RECORDED, *WRITTEN, *FAULTY])
    yield bench
    bench.close()


@pytest.mark.gateway
@pytest.mark.parametrize("client", CLIENTS)
@by_id([*RECORDED, *WRITTEN])
def test_every_client_reads_what_the_provider_meant(bench, case, client):
    own = bench.read_own(case)
    through = bench.read_through(case, client, PIECE if case.stream else 0)
    found = differences(own, through) + rules(client, through, own.input is not None)
    _, expected = UNSUPPORTED.get((case.id, client), ("", []))
    assert found == expected


@pytest.mark.gateway
@pytest.mark.parametrize("client", CLIENTS)
@by_id(FAULTY)
def test_a_stream_that_fails_is_never_closed_as_if_it_were_whole(bench, case, client):
    own = bench.read_own(case)
    through = bench.read_through(case, client)
    if through.failure and through.failure.status:
        # It failed before anything was told, so that another provider could have been asked.
        assert case.answer.broken or own.text == ""
        assert through.text == ""
        return
    assert through.text == own.text
    assert through.failure or through.stop is None, "it looks like a whole answer"
    if client != case.dialect:
        assert through.failure, "the SDK saw nothing wrong"
    if case.id.startswith("error"):
        assert "The engine died." in through.failure.message


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("scene", SCENES, ids=[scene.id for scene in SCENES])
@pytest.mark.parametrize("dialect", CLIENTS)
def test_a_written_answer_is_one_its_own_sdk_understands(upstream, dialect, scene, stream):
    """Else it would prove nothing."""
    case = written(scene, dialect, stream)
    upstream.say(case.answer)
    connected = CLIENTS[dialect].connect(upstream.url, "sk-any")
    own = CLIENTS[dialect].read(connected, case.asked_as("m"), stream, strict=True)
    assert own.failure is None
    assert own.breaches == []
    assert own.text == "".join(scene.text)
    assert own.reasoning == "".join(scene.reasoning)
    assert own.tools == scene.tools
    assert (own.stop, own.input, own.output) == (scene.stop, scene.input, scene.output)


def test_every_recording_is_judged():
    assert len(RECORDED) == 60
    assert {case.dialect for case in RECORDED} == set(CLIENTS)
    assert all(scene.fault for scene in FAULTS)
