"""What providers do beside their documentation is read as it is meant, and told to every client by its
own rules."""

import pytest

from clients import CLIENTS
from judges import Bench, rules
from quirks import QUIRKS

# Converse has no other place for why a prompt was blocked than the text.
UNSUPPORTED = {("gemini-prompt-blocked-in-a-stream", "bedrock"): {"text"}}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("quirks"), [case for case, _ in QUIRKS])
    yield bench
    bench.close()


def cells():
    """Every client but the provider's own, which gets the bytes as they are."""
    for case, meant in QUIRKS:
        for client in CLIENTS:
            if client != case.dialect:
                yield pytest.param(case, meant, client, id=f"{case.id}-{client}")


@pytest.mark.gateway
@pytest.mark.parametrize(("case", "meant", "client"), list(cells()))
def test_a_quirk_of_a_provider_is_no_quirk_of_the_answer(bench, case, meant, client):
    through = bench.read_through(case, client, 7 if case.stream else 0)
    assert through.failure is None
    meant = {k: v for k, v in meant.items() if k not in UNSUPPORTED.get((case.id, client), ())}
    calls = meant.pop("calls", None)
    if calls:
        assert dict(through.tools) == calls
    for what, expected in meant.items():
        got = getattr(through, what)
        # A provider that says nothing of tokens has its clients read zero, or nothing.
        assert (got or 0) == expected if what in ("input", "output") else got == expected, what
    assert rules(client, through, "input" in meant) == []
