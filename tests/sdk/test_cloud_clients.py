"""Clients that believe to speak to a cloud: the SDKs' own for Azure and Vertex, at the gateway's address."""

import anthropic
import openai
import pytest
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials

from clients import CLIENTS
from gateway import KEY
from judges import Bench, rules
from meaning import differences
from scenes import SCENES, case

PROVIDERS = ("openai_chat", "anthropic", "gemini", "bedrock")


def azure(url):
    return openai.AzureOpenAI(
        azure_endpoint=url,
        api_key=KEY,
        api_version="2024-10-21",
        max_retries=0,
        timeout=20.0,
    )


def vertex(url):
    options = types.HttpOptions(
        base_url=url,
        timeout=20_000,
        retry_options=types.HttpRetryOptions(attempts=1),
    )
    return genai.Client(
        vertexai=True,
        project="any-project",
        location="europe-west4",
        credentials=Credentials(KEY),
        http_options=options,
    )


def anthropic_vertex(url):
    return anthropic.AnthropicVertex(
        base_url=f"{url}/v1",
        project_id="any-project",
        region="europe-west4",
        access_token=KEY,
        max_retries=0,
        timeout=20.0,
    )


SURFACES = {"openai_chat": azure, "gemini": vertex, "anthropic": anthropic_vertex}


def cases(stream):
    """A thought and a call, by each provider."""
    scene = next(scene for scene in SCENES if scene.id == "tool-thinking")
    return [case(scene, dialect, stream) for dialect in PROVIDERS]


CASES = [*cases(False), *cases(True)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("cloud-clients"), CASES)
    for client, connect in SURFACES.items():
        bench.through[client] = connect(bench.gateway.url)
    yield bench
    bench.close()


@pytest.mark.gateway
@pytest.mark.parametrize("client", SURFACES)
@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_a_client_of_a_cloud_understands_the_same(bench, case, client):
    own = bench.read_own(case)
    through = bench.read_through(case, client)
    assert differences(own, through) + rules(client, through) == []


@pytest.mark.gateway
@pytest.mark.parametrize("client", SURFACES)
def test_a_client_of_a_cloud_reads_a_refusal(bench, client):
    one = CASES[0]
    ask = one.asked_as("nobody-serves-this")
    failure = CLIENTS[client].read(bench.through[client], ask, False).failure
    assert failure.status == 404
