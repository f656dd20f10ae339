"""The `openai` package, Responses."""

import base64
import json

import openai

from clients.openai_chat import connect, failure, valid
from meaning import END, FILTERED, LENGTH, Call, Document, Failure, Image, Meaning, Result, Text

__all__ = ["arguments", "connect", "read"]

REASONS = {"completed": END, "max_output_tokens": LENGTH, "content_filter": FILTERED}
ENDS = ("response.completed", "response.incomplete", "response.failed")


def arguments(ask):
    said = {"model": ask.model, "input": [], "store": False}
    if ask.system:
        said["instructions"] = ask.system
    for role, blocks in ask.turns:
        said["input"] += items(role, blocks)
    if ask.tools:
        said["tools"] = [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.schema,
                "strict": False,
            }
            for tool in ask.tools
        ]
    if ask.choice in ("auto", "required", "none"):
        said["tool_choice"] = ask.choice
    elif ask.choice:
        said["tool_choice"] = {"type": "function", "name": ask.choice}
    if ask.parallel is not None:
        said["parallel_tool_calls"] = ask.parallel
    if ask.schema:
        format = {"type": "json_schema", "name": "answer", "schema": ask.schema, "strict": True}
        said["text"] = {"format": format}
    if ask.effort:
        said["reasoning"] = {"effort": ask.effort, "summary": "auto"}
        said["include"] = ["reasoning.encrypted_content"]
    if ask.max_tokens:
        said["max_output_tokens"] = ask.max_tokens
    if ask.temperature is not None:
        said["temperature"] = ask.temperature
    return said


def items(role, blocks):
    said, parts = [], []
    for block in blocks:
        match block:
            case Text(text):
                kind = "output_text" if role == "assistant" else "input_text"
                parts.append({"type": kind, "text": text})
            case Image():
                parts.append(picture(block))
            case Document(name, data):
                data = f"data:application/pdf;base64,{base64.b64encode(data).decode()}"
                parts.append({"type": "input_file", "filename": name, "file_data": data})
            case Call(id, name, arguments):
                said.append(
                    {
                        "type": "function_call",
                        "call_id": id,
                        "name": name,
                        "arguments": json.dumps(arguments, ensure_ascii=False),
                    }
                )
            case Result(id, _, text, image):
                output = text
                if image:
                    output = [{"type": "input_text", "text": text}, picture(image)]
                said.append({"type": "function_call_output", "call_id": id, "output": output})
    message = [{"type": "message", "role": role, "content": parts}] if parts else []
    return message + said if role == "assistant" else said + message


def picture(image):
    url = f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"
    return {"type": "input_image", "image_url": url, "detail": "auto"}


def resume(said, turn, results):
    answered = [
        {"type": "function_call_output", "call_id": one.id, "output": one.text}
        for one in results
    ]
    return {**said, "input": [*said["input"], *(item.to_dict() for item in turn), *answered]}


def call(client, said):
    client.responses.create(**said)


def read(client, ask, stream, strict=False):
    meaning = Meaning()
    try:
        if stream:
            read_stream(client, arguments(ask), meaning, strict)
        else:
            response = client.responses.create(**arguments(ask))
            if strict:
                valid(response, meaning)
            read_response(response, meaning)
            meaning.turn = response.output
    except openai.APIError as error:
        meaning.failure = failure(error)
    return meaning


def read_response(response, meaning):
    meaning.text = meaning.reasoning = ""
    for item in response.output:
        match item.type:
            case "message":
                texts = (part.text for part in item.content if part.type == "output_text")
                meaning.text += "".join(texts)
            case "reasoning":
                parts = [*item.summary, *(item.content or [])]
                meaning.reasoning += "".join(part.text for part in parts)
            case "function_call":
                meaning.call(item.call_id, item.name, item.arguments)
            case "custom_tool_call":
                meaning.call(item.call_id, item.name, {"input": item.input})
    if response.status == "failed":
        error = response.error
        meaning.failure = Failure("response.failed", None, error.message, error.code)
    details = response.incomplete_details
    native = details.reason if response.status == "incomplete" and details else response.status
    meaning.stopped(native, REASONS)
    if usage := response.usage:
        meaning.input, meaning.output = usage.input_tokens, usage.output_tokens
        meaning.require(
            usage.total_tokens == usage.input_tokens + usage.output_tokens,
            "the total is no sum",
        )


def read_stream(client, said, meaning, strict):
    final = None
    rules = Rules(meaning) if strict else None
    with client.responses.create(**said, stream=True) as stream:
        for event in stream:
            if rules:
                rules.see(event)
            match event.type:
                case "response.output_text.delta":
                    meaning.text += event.delta
                case "response.reasoning_text.delta" | "response.reasoning_summary_text.delta":
                    meaning.reasoning += event.delta
                case "error":
                    meaning.failure = Failure("error event", None, event.message, event.code)
            if event.type in ENDS:
                final = event.response
    told = meaning.text, meaning.reasoning
    if final:
        read_response(final, meaning)
        if meaning.failure and not meaning.text:
            meaning.text, meaning.reasoning = told
        if rules:
            meaning.require(
                told == (meaning.text, meaning.reasoning), f"the deltas were {told}"
            )
            rules.end(final)


class Rules:
    """The order of a Responses stream."""

    def __init__(self, meaning):
        self.meaning = meaning
        self.types = []
        self.items = {}  # by output index: what was added, and whether it is done
        self.parts = {}
        self.arguments = {}

    def see(self, event):
        require = self.meaning.require
        valid(event, self.meaning)
        number = len(self.types)
        require(
            getattr(event, "sequence_number", None) == number,
            f"{event.type} has number {getattr(event, 'sequence_number', None)}, not {number}",
        )
        require(not self.types or self.types[-1] not in ENDS, "an event after the end")
        self.types.append(event.type)
        match event.type.removeprefix("response."):
            case "output_item.added":
                require(event.output_index == len(self.items), "items are numbered in order")
                self.items[event.output_index] = event.item
            case "output_item.done":
                added = self.items.get(event.output_index)
                require(added is not None, "an item ends that never began")
                require(added is None or added.id == event.item.id, "an item changes its id")
                self.parts[event.output_index, "done"] = event.item
            case "content_part.added":
                self.parts[event.item_id, event.content_index] = ""
            case "output_text.delta":
                key = event.item_id, event.content_index
                require(key in self.parts, "text without its part")
                self.parts[key] = self.parts.get(key, "") + event.delta
            case "output_text.done":
                key = event.item_id, event.content_index
                require(
                    self.parts.get(key) == event.text, "the text is not the sum of its deltas"
                )
            case "function_call_arguments.delta":
                told = self.arguments.get(event.item_id, "")
                self.arguments[event.item_id] = told + event.delta
            case "function_call_arguments.done":
                told = self.arguments.get(event.item_id, "")
                require(
                    told == event.arguments, "the arguments are not the sum of their deltas"
                )

    def end(self, final):
        require = self.meaning.require
        require(self.types[:1] == ["response.created"], "the first event is response.created")
        done = [self.parts.get((index, "done")) for index in self.items]
        if self.types[-1] != "response.failed":
            require(None not in done, "an item is never done")
            require(
                [item.id for item in final.output] == [item.id for item in done if item],
                "the end lists other items than the stream",
            )
            require(final.usage is not None, "the end has no usage")
