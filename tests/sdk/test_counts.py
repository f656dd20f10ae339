"""How many tokens a prompt has: each SDK asks in its own words, and reads what the provider counted."""

import json

import pytest

from asks import ASKS
from clients import CLIENTS
from judges import Bench, name
from meaning import Ask
from recordings import Case
from scenes import MODELS
from upstream import Answer

TOKENS = 4242
COUNTED = {
    "anthropic": {"input_tokens": TOKENS},
    "openai_responses": {"object": "response.input_tokens", "input_tokens": TOKENS},
    "gemini": {"totalTokens": TOKENS},
    "bedrock": {"inputTokens": TOKENS},
    "vllm": {"count": TOKENS, "max_model_len": 8192, "tokens": []},
}
# A server of which nothing is known but that it speaks chat counts nothing: that is estimated.
PROVIDERS = [*COUNTED, "openai_chat"]


def answer(provider):
    body = json.dumps(COUNTED.get(provider, {})).encode()
    return Answer(f"{provider}_count", "json", body)


def case(provider):
    dialect = "openai_chat" if provider == "vllm" else provider
    return Case(
        f"count-{provider}", dialect, MODELS[dialect], answer(provider), False, kind=provider
    )


CASES = {provider: case(provider) for provider in PROVIDERS}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("counts"), CASES.values())
    yield bench
    bench.close()


def anthropic(client, said):
    return client.messages.count_tokens(
        **{key: said[key] for key in said if key != "max_tokens"}
    ).input_tokens


def openai_responses(client, said):
    said = {key: said[key] for key in said if key != "store"}
    return client.responses.input_tokens.count(**said).input_tokens


def gemini(client, said):
    # Its SDK sends a system prompt and tools to Vertex only.
    return client.models.count_tokens(
        model=said["model"], contents=said["contents"]
    ).total_tokens


def bedrock(client, said):
    model = said.pop("modelId")
    return client.count_tokens(modelId=model, input={"converse": said})["inputTokens"]


COUNT = {
    "anthropic": anthropic,
    "openai_responses": openai_responses,
    "gemini": gemini,
    "bedrock": bedrock,
}


@pytest.mark.gateway
@pytest.mark.parametrize("client", COUNT)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("key", ["text-with-system", "tool-result"])
def test_a_prompt_is_counted_by_the_provider(bench, key, provider, client):
    case = CASES[provider]
    bench.upstream.say(case.answer)
    said = CLIENTS[client].arguments(Ask(**{**vars(ASKS[key]), "model": name(case, client)}))
    counted = COUNT[client](bench.through[client], said)
    if provider == "openai_chat":
        assert 0 < counted < 1000
        assert bench.upstream.requests == []
        return
    assert counted == TOKENS
    # A vLLM that has no count of the client's own dialect is asked again, in its own.
    body = bench.upstream.requests[-1].body
    assert "Grüße" in json.dumps(body, ensure_ascii=False)
    # Nobody's count takes what is only for an answer.
    assert not body.keys() & {"max_tokens", "stream", "store", "generationConfig"}
