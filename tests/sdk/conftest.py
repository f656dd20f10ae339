"""Clients for the server under test: Forebay over its mock, or the mock alone.

run.sh says which by the environment:
FOREBAY_BASE_URL  the server, with /v1
FOREBAY_GATEWAY   1 when it is the gateway; tests marked `gateway` are skipped without
"""

import os

import openai
import pytest

from upstream import Upstream

BASE_URL = os.environ["FOREBAY_BASE_URL"]
IS_GATEWAY = os.environ.get("FOREBAY_GATEWAY") == "1"
TIMEOUT = 20.0


def pytest_configure(config):
    # What a provider retires says nothing of the gateway.
    config.addinivalue_line("filterwarnings", "ignore:The model .* is deprecated")
    config.addinivalue_line("markers", "gateway: what only the gateway does")


def pytest_collection_modifyitems(items):
    if IS_GATEWAY:
        return
    for item in items:
        if item.get_closest_marker("gateway"):
            item.add_marker(pytest.mark.skip(reason="the mock alone is under test"))


def connect(key):
    """A client that never tries again: a test sees the first answer."""
    return openai.OpenAI(base_url=BASE_URL, api_key=key, max_retries=0, timeout=TIMEOUT)


@pytest.fixture
def client():
    """May use every model."""
    with connect("sk-sdk-test-everything") as client:
        yield client


@pytest.fixture
def narrow():
    """May use the model `mock-small` only."""
    with connect("sk-sdk-test-small-model") as client:
        yield client


@pytest.fixture
def stranger():
    """Has no valid key."""
    with connect("sk-sdk-test-unknown-key") as client:
        yield client


WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "unit"],
}


@pytest.fixture
def chat_tools():
    return [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]


@pytest.fixture
def response_tools():
    return [{"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": False}]


@pytest.fixture(scope="session")
def upstream():
    """A provider whose answers are written down, without a gateway."""
    with Upstream() as upstream:
        yield upstream
        upstream.shutdown()
