"""Failures arrive as the SDK's own exceptions, with what the caller needs to understand them."""

import openai
import pytest

HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.gateway
def test_a_wrong_key(stranger):
    with pytest.raises(openai.AuthenticationError) as caught:
        stranger.chat.completions.create(model="mock", messages=HELLO)
    assert caught.value.status_code == 401
    assert caught.value.code == "invalid_api_key"


@pytest.mark.gateway
def test_a_model_the_key_may_not_use(narrow):
    with pytest.raises(openai.PermissionDeniedError) as caught:
        narrow.chat.completions.create(model="mock", messages=HELLO)
    assert caught.value.code == "model_not_allowed"
    assert narrow.chat.completions.create(model="mock-small", messages=HELLO).choices


@pytest.mark.gateway
@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model(client, stream):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="no-such-model", messages=HELLO, stream=stream)
    assert caught.value.code == "model_not_found"
    assert "no-such-model" in caught.value.message


@pytest.mark.gateway
def test_an_unknown_model_is_not_shown(client):
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


@pytest.mark.gateway
@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_always_fails(client, stream):
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="broken", messages=HELLO, stream=stream)
    assert caught.value.status_code == 500


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_without_messages(client, stream):
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="mock", messages=[], stream=stream)


def test_what_is_not_json(client):
    with pytest.raises(openai.BadRequestError):
        client.post(
            "/chat/completions",
            cast_to=object,
            content=b'{"model": "mock", "messages": [',
            options={"headers": {"content-type": "application/json"}},
        )


def test_an_unknown_path(client):
    with pytest.raises(openai.NotFoundError):
        client.get("/no-such-path", cast_to=object)


def test_every_answer_has_a_request_id(client):
    raw = client.chat.completions.with_raw_response.create(model="mock", messages=HELLO)
    assert raw.headers["x-request-id"]
    assert raw.parse()._request_id == raw.headers["x-request-id"]


def test_every_failure_has_a_request_id(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="mock", messages=[])
    assert caught.value.request_id


def test_the_callers_request_id_is_kept(client):
    headers = {"x-request-id": "my-own-id-123"}
    raw = client.chat.completions.with_raw_response.create(
        model="mock", messages=HELLO, extra_headers=headers
    )
    assert raw.headers["x-request-id"] == "my-own-id-123"


@pytest.mark.gateway
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_tells_who_gave_it(client, stream):
    raw = client.chat.completions.with_raw_response.create(
        model="mock", messages=HELLO, stream=stream
    )
    assert raw.headers["x-forebay-provider"] == "mock"
    assert raw.headers["x-forebay-model"] == "mock"
    assert raw.headers["x-forebay-attempts"] == "1"
