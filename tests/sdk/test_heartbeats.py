"""While a stream waits, something is sent that no SDK stumbles over."""

import pytest

from clients import CLIENTS
from judges import Bench
from meaning import differences
from scenes import MODELS, SCENES, case

WAIT = 2.5
CASES = [case(SCENES[0], dialect, stream=True) for dialect in MODELS]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("heartbeats"), CASES, heartbeat="1s")
    yield bench
    bench.close()


@pytest.mark.gateway
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("same", [True, False], ids=["same-dialect", "translated"])
def test_an_sdk_lives_through_the_silence_of_a_provider(bench, client, same):
    dialect = client if same else next(dialect for dialect in MODELS if dialect != client)
    case = next(case for case in CASES if case.dialect == dialect)
    own = bench.read_own(case)
    case.answer.wait = WAIT
    try:
        through = bench.read_through(case, client)
    finally:
        case.answer.wait = 0.0
    assert differences(own, through) == []
