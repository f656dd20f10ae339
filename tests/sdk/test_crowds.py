"""Many answers at once, in all dialects: none hears a word of another."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from clients import CLIENTS
from judges import Bench, cut, name
from scenes import MODELS, Scene, case

WORDS = 400


def scene(dialect):
    words = [f"{dialect}-{number} " for number in range(WORDS)]
    return Scene(f"crowd-{dialect}", reasoning=words, text=words)


CASES = [case(scene(dialect), dialect, stream=True) for dialect in MODELS]
ROUNDS = 1


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("crowds"), CASES)
    yield bench
    bench.close()


@pytest.mark.gateway
def test_streams_at_the_same_time_are_kept_apart(bench):
    bench.upstream.say(*(cut(case.answer, 997) for case in CASES))

    def one(case, client):
        ask = case.asked_as(name(case, client))
        return CLIENTS[client].read(bench.through[client], ask, stream=True)

    calls = [(case, client) for case in CASES for client in CLIENTS] * ROUNDS
    with ThreadPoolExecutor(len(calls)) as crowd:
        answers = list(crowd.map(lambda call: one(*call), calls))
    for (case, client), answer in zip(calls, answers, strict=True):
        expected = "".join(scene(case.dialect).text)
        assert answer.failure is None, (case.dialect, client)
        assert answer.text == expected, (case.dialect, client)
        assert answer.reasoning == expected, (case.dialect, client)
