"""Chat completions: plain, streamed, with tools, as JSON, many at once."""

import asyncio
import json

import pytest
from openai import AsyncOpenAI

import conftest

HELLO = [{"role": "user", "content": "hello"}]


def test_a_chat_is_answered(client):
    chat = client.chat.completions.create(model="mock", messages=HELLO)
    assert chat.choices[0].message.role == "assistant"
    assert "hello" in chat.choices[0].message.content
    assert chat.choices[0].finish_reason == "stop"
    assert chat.model == "mock"
    assert chat.usage.prompt_tokens > 0
    assert chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens


def test_several_choices(client):
    chat = client.chat.completions.create(model="mock", messages=HELLO, n=3)
    assert [choice.index for choice in chat.choices] == [0, 1, 2]


def test_the_limit_is_kept(client):
    chat = client.chat.completions.create(model="mock", messages=HELLO, max_tokens=3)
    assert chat.choices[0].finish_reason == "length"
    assert chat.usage.completion_tokens == 3


def test_a_stream_says_the_same_as_the_whole(client):
    whole = client.chat.completions.create(model="mock", messages=HELLO)
    chunks = list(client.chat.completions.create(model="mock", messages=HELLO, stream=True))
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == whole.choices[0].message.content
    assert len([text for text in texts if text]) > 1, "it came in one piece"
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_stream_has_no_usage_unless_asked(client):
    chunks = list(client.chat.completions.create(model="mock", messages=HELLO, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)


def test_a_stream_ends_with_usage_when_asked(client):
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(
            model="mock", messages=HELLO, stream=True, stream_options=options
        )
    )
    assert [chunk.usage is not None for chunk in chunks].count(True) == 1
    last = chunks[-1]
    assert last.choices == []
    assert last.usage.completion_tokens == len(
        [chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    )


def test_a_stream_left_early_leaves_the_client_usable(client):
    with client.chat.completions.create(model="mock", messages=HELLO, stream=True) as stream:
        next(iter(stream))
    assert client.chat.completions.create(model="mock", messages=HELLO).choices


def test_a_tool_is_called(client, chat_tools):
    chat = client.chat.completions.create(model="mock", messages=HELLO, tools=chat_tools)
    [call] = chat.choices[0].message.tool_calls
    assert chat.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments).keys() == {"city", "unit"}


def test_a_streamed_tool_call_adds_up(client, chat_tools):
    deltas = 0
    with client.chat.completions.stream(
        model="mock", messages=HELLO, tools=chat_tools
    ) as stream:
        for event in stream:
            deltas += event.type == "tool_calls.function.arguments.delta"
        chat = stream.get_final_completion()
    assert deltas > 1, "the arguments came in one piece"
    [call] = chat.choices[0].message.tool_calls
    assert json.loads(call.function.arguments)["unit"] == "celsius"


def test_a_tool_loop_ends(client, chat_tools):
    first = client.chat.completions.create(model="mock", messages=HELLO, tools=chat_tools)
    message = first.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
    second = client.chat.completions.create(
        model="mock",
        messages=[*HELLO, message.model_dump(exclude_none=True), result],
        tools=chat_tools,
    )
    assert second.choices[0].message.tool_calls is None
    assert "sunny" in second.choices[0].message.content


def test_json_is_json(client):
    chat = client.chat.completions.create(
        model="mock", messages=HELLO, response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(chat.choices[0].message.content), dict)


@pytest.mark.parametrize("kilobytes", [1, 63, 65, 1024, 8192])
def test_a_long_prompt_arrives_whole(client, kilobytes):
    words = kilobytes * 1024 // 8
    messages = [{"role": "user", "content": "grüße. " * words}]
    chat = client.chat.completions.create(model="mock", messages=messages)
    # The mock counts one token per word, and one per message.
    assert chat.usage.prompt_tokens == words + 1


def test_twenty_streams_at_once():
    async def one(client, number):
        messages = [{"role": "user", "content": f"stream-{number}"}]
        text = ""
        stream = await client.chat.completions.create(
            model="mock", messages=messages, stream=True
        )
        async for chunk in stream:
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
        return text

    async def all_of_them():
        async with AsyncOpenAI(
            base_url=conftest.BASE_URL,
            api_key="sk-sdk-test-everything",
            max_retries=0,
            timeout=conftest.TIMEOUT,
        ) as client:
            return await asyncio.gather(*(one(client, number) for number in range(20)))

    texts = asyncio.run(all_of_them())
    for number, text in enumerate(texts):
        assert f"stream-{number}." in text
