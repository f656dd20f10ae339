"""Which models there are, as each SDK lists them."""

import pytest

from clients import CLIENTS
from judges import Bench, name
from scenes import MODELS, SCENES, case

CASES = [case(SCENES[0], dialect, stream=False) for dialect in MODELS]
NAMES = {name(case, client) for case in CASES for client in CLIENTS}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("models"), CASES)
    yield bench
    bench.close()


@pytest.mark.gateway
def test_openai_lists_them(bench):
    client = bench.through["openai_chat"]
    assert {model.id for model in client.models.list()} == NAMES
    one = sorted(NAMES)[0]
    assert client.models.retrieve(one).id == one


@pytest.mark.gateway
def test_anthropic_lists_them(bench):
    client = bench.through["anthropic"]
    listed = list(client.models.list())
    assert {model.id for model in listed} == NAMES
    assert all(model.type == "model" and model.display_name for model in listed)
    one = sorted(NAMES)[0]
    assert client.models.retrieve(one).id == one


@pytest.mark.gateway
def test_google_lists_them(bench):
    client = bench.through["gemini"]
    listed = {model.name.removeprefix("models/"): model for model in client.models.list()}
    assert listed.keys() == NAMES
    one = sorted(NAMES)[0]
    assert client.models.get(model=one).name == f"models/{one}"
