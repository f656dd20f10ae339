"""What a provider refuses, each SDK raises as the exception its own provider would cause."""

import re

import pytest

from clients import CLIENTS
from judges import Bench
from scenes import refusals, refused

REFUSALS = list(refusals())
# Google says 400 of a key that is not valid.
BAD_KEY = refused(
    "bad-key",
    "gemini",
    400,
    {
        "error": {
            "code": 400,
            "message": "API key not valid. Please pass a valid API key.",
            "status": "INVALID_ARGUMENT",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "API_KEY_INVALID",
                    "domain": "googleapis.com",
                }
            ],
        }
    },
)
# What vLLM says of a prompt, and of an answer, that does not fit.
TOO_LONG = (
    "This model's maximum context length is 8192 tokens. However, you requested {} tokens "
)
TOO_LONG += (
    "({} in the messages, {} in the completion). Please reduce the length of the messages."
)


def too_long(id, prompt, answer):
    message = TOO_LONG.format(prompt + answer, prompt, answer)
    error = {"message": message, "type": "BadRequestError", "param": None, "code": 400}
    return refused(id, "openai_chat", 400, {"error": error})


LONG_PROMPT = too_long("long-prompt", 9000, 1000)
LONG_ANSWER = too_long("long-answer", 5000, 4000)
# What a caller of each dialect is told where the provider said 401 (or 403 to our key), 529 or 503.
OURS = {
    "openai_chat": 502,
    "openai_responses": 502,
    "anthropic": 502,
    "gemini": 502,
    "bedrock": 502,
}
OVERLOADED = {
    "openai_chat": 503,
    "openai_responses": 503,
    "anthropic": 529,
    "gemini": 503,
    "bedrock": 503,
}
NAMES = {
    "openai": {
        400: ("BadRequestError", None),
        404: ("NotFoundError", None),
        429: ("RateLimitError", None),
        500: ("InternalServerError", None),
        502: ("InternalServerError", "upstream_auth"),
        503: ("InternalServerError", None),
    },
    "anthropic": {
        400: ("BadRequestError", "invalid_request_error"),
        404: ("NotFoundError", "not_found_error"),
        429: ("RateLimitError", "rate_limit_error"),
        500: ("InternalServerError", "api_error"),
        502: ("InternalServerError", "api_error"),
        529: ("OverloadedError", "overloaded_error"),
    },
    "gemini": {
        400: ("ClientError", "INVALID_ARGUMENT"),
        404: ("ClientError", "NOT_FOUND"),
        429: ("ClientError", "RESOURCE_EXHAUSTED"),
        500: ("ServerError", "INTERNAL"),
        502: ("ServerError", None),
        503: ("ServerError", "UNAVAILABLE"),
    },
    "bedrock": {
        400: ("ValidationException", "ValidationException"),
        404: ("ResourceNotFoundException", "ResourceNotFoundException"),
        429: ("ThrottlingException", "ThrottlingException"),
        500: ("InternalServerException", "InternalServerException"),
        502: (None, None),
        503: ("ServiceUnavailableException", "ServiceUnavailableException"),
    },
}
NAMES |= {"openai_chat": NAMES["openai"], "openai_responses": NAMES["openai"]}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    cases = [*REFUSALS, BAD_KEY, LONG_PROMPT, LONG_ANSWER]
    bench = Bench(tmp_path_factory.mktemp("refusals"), cases)
    yield bench
    bench.close()


def expected(status, client):
    """The provider's status; our own key's failure is ours, and overload has two names."""
    if status in (401, 403):
        return OURS[client]
    if status in (503, 529):
        return OVERLOADED[client]
    return status


@pytest.mark.gateway
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("case", REFUSALS, ids=[case.id for case in REFUSALS])
def test_each_sdk_raises_its_own_exception(bench, case, client):
    failure = bench.read_through(case, client).failure
    assert failure is not None
    status = expected(case.answer.status, client)
    assert failure.status == status, failure
    exception, code = NAMES[client][status]
    assert failure.name == (exception or failure.name)
    assert failure.code == (code or failure.code)
    if status == 502:
        # Whose key it was, and what the provider thinks of it, is no caller's business.
        assert "sk-upstream" not in failure.message
    else:
        assert "The model is not amused." in failure.message
    if status == 429:
        # AWS does not say when, and Google says it in the body, which its own clients get.
        unsaid = case.dialect == "bedrock" or case.dialect == client == "gemini"
        assert failure.retry_after == (None if unsaid else "7")


@pytest.mark.gateway
@pytest.mark.parametrize("client", CLIENTS)
def test_a_stranger_is_told_so_in_the_words_of_the_client(bench, client):
    module = CLIENTS[client]
    key = "sk-of-nobody"
    secure = client == "bedrock"
    connected = (
        module.connect(bench.gateway.secure_url, key, bench.gateway.ca)
        if secure
        else module.connect(bench.gateway.url, key)
    )
    failure = module.read(connected, REFUSALS[0].asked_as("any"), stream=False).failure
    assert failure is not None
    assert failure.status == 401, failure
    codes = {"anthropic": "authentication_error", "gemini": "UNAUTHENTICATED"}
    assert failure.code == codes.get(client, failure.code)


@pytest.mark.gateway
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_model_that_is_not_offered_is_not_found(bench, client, stream):
    ask = REFUSALS[0].asked_as("no-such-model")
    failure = CLIENTS[client].read(bench.through[client], ask, stream).failure
    assert failure is not None
    assert failure.status == 404
    assert "no-such-model" in failure.message
    exception, code = NAMES[client][404]
    assert failure.name == exception
    assert failure.code == (code or failure.code)


@pytest.mark.gateway
@pytest.mark.parametrize("client", CLIENTS)
def test_a_key_that_google_calls_invalid_is_ours_not_the_callers(bench, client):
    failure = bench.read_through(BAD_KEY, client).failure
    assert failure is not None
    assert failure.status == 502


@pytest.mark.gateway
@pytest.mark.parametrize("client", CLIENTS)
def test_a_prompt_that_does_not_fit_is_the_callers_fault(bench, client):
    failure = bench.read_through(LONG_PROMPT, client).failure
    assert failure is not None
    assert failure.status == 400
    if client.startswith("openai"):
        assert failure.code == "context_length_exceeded" or client == "openai_chat"


@pytest.mark.gateway
def test_what_does_not_fit_is_said_in_the_words_that_agents_parse(bench):
    """Claude Code compacts at the one, and asks for less at the other."""
    prompt = bench.read_through(LONG_PROMPT, "anthropic").failure
    found = re.search(r"prompt is too long: (\d+) tokens > (\d+) maximum", prompt.message)
    assert found and int(found[1]) > int(found[2]) == 8192, prompt
    answer = bench.read_through(LONG_ANSWER, "anthropic").failure
    said = "input length and `max_tokens` exceed context limit: 5000 + 4000 > 8192"
    assert said in answer.message
