"""The `anthropic` package."""

from __future__ import annotations

import base64

import anthropic
import httpx2

from clients.openai_chat import valid
from meaning import (
    END,
    FILTERED,
    LENGTH,
    TOOL,
    Call,
    Document,
    Failure,
    Image,
    Meaning,
    Result,
    Text,
)

REASONS = {
    "end_turn": END,
    "stop_sequence": END,
    "tool_use": TOOL,
    "max_tokens": LENGTH,
    "model_context_window_exceeded": LENGTH,
    "pause_turn": LENGTH,
    "refusal": FILTERED,
}
# What each kind of block is told in.
DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
}
BUDGETS = {"low": 1024, "medium": 4096, "high": 16384}


def connect(url, key):
    return anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, timeout=20.0)


def arguments(ask):
    said = {
        "model": ask.model,
        "max_tokens": ask.max_tokens or 20000,
        "messages": [{"role": role, "content": content(blocks)} for role, blocks in ask.turns],
    }
    if ask.system:
        said["system"] = ask.system
    if ask.tools:
        said["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
            for tool in ask.tools
        ]
    if ask.choice:
        kind = {"auto": "auto", "required": "any", "none": "none"}.get(ask.choice, "tool")
        said["tool_choice"] = {"type": kind}
        if kind == "tool":
            said["tool_choice"]["name"] = ask.choice
    if ask.parallel is False:
        said.setdefault("tool_choice", {"type": "auto"})["disable_parallel_tool_use"] = True
    if ask.schema:
        said["output_config"] = {"format": {"type": "json_schema", "schema": ask.schema}}
    if ask.effort:
        said["thinking"] = {"type": "enabled", "budget_tokens": BUDGETS[ask.effort]}
    if ask.stop:
        said["stop_sequences"] = ask.stop
    if ask.temperature is not None:
        said["extra_body"] = {"temperature": ask.temperature}
    return said


def content(blocks):
    said = []
    for block in blocks:
        match block:
            case Text(text):
                said.append({"type": "text", "text": text})
            case Image(media_type, data):
                said.append({"type": "image", "source": source(media_type, data)})
            case Document(name, data):
                pdf = source("application/pdf", data)
                said.append({"type": "document", "source": pdf, "title": name})
            case Call(id, name, arguments):
                said.append({"type": "tool_use", "id": id, "name": name, "input": arguments})
            case Result(id, _, text, image, error):
                inner = text if not image else content([Text(text), image])
                result = {"type": "tool_result", "tool_use_id": id, "content": inner}
                said.append(result | ({"is_error": True} if error else {}))
    return said


def source(media_type, data):
    data = base64.b64encode(data).decode()
    return {"type": "base64", "media_type": media_type, "data": data}


def resume(said, turn, results):
    answered = [
        {"role": "assistant", "content": turn},
        {"role": "user", "content": content(results)},
    ]
    return {**said, "messages": said["messages"] + answered}


def call(client, said):
    client.messages.create(**said)


def read(client, ask, stream, strict=False):
    meaning = Meaning()
    try:
        if stream:
            read_stream(client, arguments(ask), meaning, strict)
        else:
            message = client.messages.create(**arguments(ask))
            if strict:
                valid(message, meaning)
            read_message(message, meaning)
            meaning.turn = message.content
    except anthropic.APIError as error:
        meaning.failure = failure(error)
    except httpx2.HTTPError as error:
        meaning.failure = Failure(type(error).__name__, None, str(error))
    return meaning


def failure(error):
    status = getattr(error, "status_code", None)
    retry = error.response.headers.get("retry-after") if status else None
    # An error within a stream has the status of the stream.
    if status == 200:
        status = None
    inner = error.body.get("error", {}) if isinstance(error.body, dict) else {}
    message = inner.get("message") or error.message
    return Failure(type(error).__name__, status, message, inner.get("type"), retry)


def read_message(message, meaning):
    meaning.text = meaning.reasoning = ""
    for block in message.content:
        match block.type:
            case "text":
                meaning.text += block.text
            case "thinking":
                meaning.reasoning += block.thinking
            case "tool_use":
                meaning.call(block.id, block.name, block.input)
    meaning.stopped(message.stop_reason, REASONS)
    if message.stop_reason == "tool_use":
        # Clients cut thoughts off the end of a turn, as the API refuses a turn that ends in one.
        last = message.content[-1].type
        meaning.require("thinking" not in last, f"a turn that calls a tool ends with {last}")
    usage = message.usage
    meaning.input = usage.input_tokens
    meaning.input += (usage.cache_read_input_tokens or 0) + (
        usage.cache_creation_input_tokens or 0
    )
    meaning.output = usage.output_tokens


def read_stream(client, said, meaning, strict):
    rules = Rules(meaning) if strict else None
    with client.messages.stream(**said) as stream:
        for event in stream:
            if rules:
                rules.see(event)
            # Should the stream fail, this is what was heard.
            if event.type == "text":
                meaning.text += event.text
            elif event.type == "thinking":
                meaning.reasoning += event.thinking
        message = stream.get_final_message()
    told = meaning.text, meaning.reasoning
    read_message(message, meaning)
    if rules:
        meaning.require(told == (meaning.text, meaning.reasoning), f"the deltas were {told}")
        rules.end()


class Rules:
    """The order of a Messages stream: one block at a time."""

    def __init__(self, meaning):
        self.meaning = meaning
        self.begun = self.stopped = self.told = False
        self.next = 0
        self.open = None

    def see(self, event):
        require = self.meaning.require
        require(not self.stopped or event.type == "message_stop", "an event after message_stop")
        match event.type:
            case "message_start":
                require(not self.begun, "two messages start")
                self.begun = True
                valid(event.message, self.meaning)
            case "content_block_start":
                require(self.begun, "a block before the message")
                require(self.open is None, "a block begins within another")
                require(
                    event.index == self.next, f"block {event.index} comes as number {self.next}"
                )
                require(not self.told, "a block after message_delta")
                self.open, self.next = event.content_block.type, self.next + 1
            case "content_block_delta":
                require(event.index == self.next - 1, "a delta of a block that is not open")
                known = DELTAS.get(self.open, set())
                require(
                    event.delta.type in known, f"a {event.delta.type} in a block of {self.open}"
                )
            case "content_block_stop":
                require(self.open is not None, "a block ends that is not open")
                self.open = None
            case "message_delta":
                require(self.open is None, "message_delta within a block")
                self.told = True
            case "message_stop":
                self.stopped = True

    def end(self):
        self.meaning.require(
            self.begun and self.told and self.stopped, "the message is not ended"
        )
