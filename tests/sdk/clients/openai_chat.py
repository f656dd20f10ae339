"""The `openai` package, chat completions."""

import base64
import json

import openai
import pydantic

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
    "stop": END,
    "tool_calls": TOOL,
    "function_call": TOOL,
    "length": LENGTH,
    "content_filter": FILTERED,
}


def connect(url, key):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=20.0)


def arguments(ask):
    messages = [{"role": "system", "content": ask.system}] if ask.system else []
    for role, blocks in ask.turns:
        messages += message(role, blocks)
    said = {"model": ask.model, "messages": messages}
    if ask.tools:
        said["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.schema,
                },
            }
            for tool in ask.tools
        ]
    if ask.choice in ("auto", "required", "none"):
        said["tool_choice"] = ask.choice
    elif ask.choice:
        said["tool_choice"] = {"type": "function", "function": {"name": ask.choice}}
    if ask.parallel is not None:
        said["parallel_tool_calls"] = ask.parallel
    if ask.schema:
        schema = {"name": "answer", "schema": ask.schema, "strict": True}
        said["response_format"] = {"type": "json_schema", "json_schema": schema}
    if ask.effort:
        said["reasoning_effort"] = ask.effort
    if ask.max_tokens:
        said["max_completion_tokens"] = ask.max_tokens
    if ask.stop:
        said["stop"] = ask.stop
    if ask.temperature is not None:
        said["temperature"] = ask.temperature
    return said


def message(role, blocks):
    """One turn as messages: each result of a tool is one of its own."""
    results = [block for block in blocks if isinstance(block, Result)]
    said = [{"role": "tool", "tool_call_id": one.id, "content": one.text} for one in results]
    calls = [block for block in blocks if isinstance(block, Call)]
    texts = [block.text for block in blocks if isinstance(block, Text)]
    media = [block for block in blocks if isinstance(block, (Image, Document))]
    if role == "assistant":
        whole = {"role": role, "content": "".join(texts) or None}
        if calls:
            whole["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
                }
                for call in calls
            ]
        return [whole]
    if media:
        parts = [{"type": "text", "text": text} for text in texts]
        parts += [medium(one) for one in media]
        said.append({"role": role, "content": parts})
    elif texts:
        said.append({"role": role, "content": "".join(texts)})
    return said


def medium(one):
    data = base64.b64encode(one.data).decode()
    if isinstance(one, Document):
        file = {"filename": one.name, "file_data": f"data:application/pdf;base64,{data}"}
        return {"type": "file", "file": file}
    return {"type": "image_url", "image_url": {"url": f"data:{one.media_type};base64,{data}"}}


def resume(said, turn, results):
    answered = [
        {"role": "tool", "tool_call_id": one.id, "content": one.text} for one in results
    ]
    messages = [*said["messages"], turn.to_dict(), *answered]
    return {**said, "messages": messages}


def call(client, said):
    client.chat.completions.create(**said)


def read(client, ask, stream, strict=False):
    meaning = Meaning()
    try:
        if stream:
            read_stream(client, arguments(ask), meaning, strict)
        else:
            read_whole(client, arguments(ask), meaning, strict)
    except openai.APIError as error:
        meaning.failure = failure(error)
    return meaning


def failure(error):
    status = getattr(error, "status_code", None)
    retry = error.response.headers.get("retry-after") if status else None
    return Failure(type(error).__name__, status, error.message, error.code, retry)


def read_whole(client, said, meaning, strict):
    completion = client.chat.completions.create(**said)
    if strict:
        valid(completion, meaning)
    [choice] = completion.choices
    answer = choice.message
    meaning.text = answer.content or ""
    meaning.reasoning = reasoned(answer)
    for call in answer.tool_calls or []:
        meaning.call(call.id, *function(call))
    meaning.stopped(choice.finish_reason, REASONS)
    meaning.turn = answer
    used(completion.usage, meaning)


def valid(value, meaning):
    """The SDK builds its types from anything; here they must hold."""
    try:
        type(value).model_validate(value.to_dict())
    except pydantic.ValidationError as error:
        wrong = error.errors()
        # Of a union, only the member that was meant.
        meant = [one for one in wrong if not other_type(one, wrong)]
        for one in (meant or wrong)[:5]:
            where = ".".join(map(str, one["loc"]))
            meaning.breaches.append(f"{type(value).__name__}.{where}: {one['msg']}")


def other_type(one, wrong):
    """Is this of a member of a union whose `type` is another one?"""
    types = [other["loc"][:-1] for other in wrong if other["loc"][-1] == "type"]
    return any(one["loc"][: len(loc)] == loc for loc in types)


def reasoned(holder):
    """Under either of the names servers give it; where both are, they must say the same."""
    extra = holder.model_extra or {}
    found = {extra[name] for name in ("reasoning", "reasoning_content") if extra.get(name)}
    assert len(found) <= 1, f"reasoning differs from reasoning_content: {found}"
    return found.pop() if found else ""


def function(call):
    if call.type == "custom":
        return call.custom.name, {"input": call.custom.input}
    return call.function.name, call.function.arguments


def used(usage, meaning):
    if usage:
        meaning.input, meaning.output = usage.prompt_tokens, usage.completion_tokens


def read_stream(client, said, meaning, strict):
    said = {**said, "stream": True, "stream_options": {"include_usage": True}}
    calls = {}
    native = None
    rules = Rules(meaning) if strict else None
    with client.chat.completions.create(**said) as stream:
        for chunk in stream:
            if rules:
                valid(chunk, meaning)
                rules.see(chunk)
            used(chunk.usage, meaning)
            for choice in chunk.choices:
                meaning.text += choice.delta.content or ""
                meaning.reasoning += reasoned(choice.delta)
                for call in choice.delta.tool_calls or []:
                    gather(calls.setdefault(call.index, {"arguments": ""}), call)
                native = choice.finish_reason or native
    for call in calls.values():
        arguments = call["arguments"]
        meaning.call(
            call.get("id"),
            call.get("name"),
            {"input": arguments} if call.get("custom") else arguments,
        )
    meaning.stopped(native, REASONS)
    if rules:
        rules.end()


def gather(call, delta):
    call["id"] = call.get("id") or delta.id
    custom = (delta.model_extra or {}).get("custom")
    if custom:
        call["custom"] = True
        call["name"] = call.get("name") or custom.get("name")
        call["arguments"] += custom.get("input") or ""
    if delta.function:
        call["name"] = call.get("name") or delta.function.name
        call["arguments"] += delta.function.arguments or ""


class Rules:
    """The order of a chat stream, as OpenAI keeps it and its clients rely on it."""

    def __init__(self, meaning):
        self.meaning = meaning
        self.roles = 0
        self.finished = False
        self.counted = False
        self.calls = 0
        self.ids = set()

    def see(self, chunk):
        require = self.meaning.require
        self.ids.add(chunk.id)
        require(not self.counted, "a chunk after the usage")
        self.counted |= chunk.usage is not None
        require(not (chunk.usage and chunk.choices), "usage beside choices")
        for choice in chunk.choices:
            require(not self.finished, "a choice after the finish")
            delta = choice.delta
            if delta.role:
                self.roles += 1
            require(self.roles == 1, "the first delta, and only it, has the role")
            for call in delta.tool_calls or []:
                require(
                    call.index <= self.calls, f"tool index {call.index} before {self.calls}"
                )
                if call.index == self.calls:
                    self.calls += 1
                    require(call.id and call.type, "a tool call begins without its id or type")
            self.finished |= choice.finish_reason is not None

    def end(self):
        require = self.meaning.require
        require(len(self.ids) == 1 and "" not in self.ids, f"ids of one answer: {self.ids}")
        require(self.finished, "no finish reason")
        require(self.counted, "no usage, though it was asked for")
