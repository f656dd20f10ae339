"""OpenAI chat completions."""

import json

from meaning import Call, Result, Text
from validators.heard import Heard, objects

TOP = {
    "messages", "model", "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens",
    "max_tokens", "metadata", "n", "parallel_tool_calls", "presence_penalty", "prompt_cache_key",
    "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop",
    "store", "stream", "stream_options", "temperature", "tool_choice", "tools", "top_logprobs",
    "top_p", "user", "verbosity",
}  # fmt: skip
MEDIA = {"image/jpeg", "image/png", "image/gif", "image/webp"}
NAME = r"[a-zA-Z0-9_-]{1,64}"
EFFORTS = {"none", "minimal", "low", "medium", "high", "xhigh", "max"}


def hear(request):
    body, heard = request.body, Heard(model=request.model)
    heard.known(body, TOP, "body")
    hear_key(request, heard)
    for message in body.get("messages", []):
        hear_message(message, heard)
    heard.require(body.get("messages"), "no messages")
    heard.answered()
    hear_order(body.get("messages", []), heard)
    if "tools" in body:
        heard.require(body["tools"], "tools are an empty list")
    for tool in body.get("tools", []):
        heard.require(tool["type"] == "function", f"a tool of type {tool['type']}")
        function = tool["function"]
        heard.known(function, {"name", "description", "parameters", "strict"}, "function")
        heard.tool(
            function["name"], function.get("description"), function.get("parameters"), NAME
        )
    hear_choice(body, heard, lambda choice: choice["function"]["name"])
    heard.parallel = body.get("parallel_tool_calls", True)
    format = body.get("response_format", {"type": "text"})
    if format["type"] == "json_schema":
        hear_schema(format["json_schema"], heard)
    heard.effort = body.get("reasoning_effort")
    heard.require(heard.effort in EFFORTS | {None}, f"reasoning_effort {heard.effort}")
    # A chat has no word for it: servers that can tell, do.
    heard.shown = True
    caps = {"max_tokens", "max_completion_tokens"} & body.keys()
    heard.require(len(caps) <= 1, "both max_tokens and max_completion_tokens")
    heard.max_tokens = next((body[cap] for cap in caps), None)
    stop = body.get("stop", [])
    heard.stop = [stop] if isinstance(stop, str) else stop
    heard.require(len(heard.stop) <= 4, "more than four stop sequences")
    heard.temperature = body.get("temperature")
    alone = not body.get("stream") and "stream_options" in body
    heard.require(not alone, "stream_options without stream")
    if body.get("stream"):
        counted = body.get("stream_options", {}).get("include_usage")
        heard.require(counted, "a stream that nobody counts")
    return heard


def hear_key(request, heard):
    key = request.headers.get("authorization")
    heard.require(key == "Bearer sk-upstream", f"authorization {key!r}")


def hear_message(message, heard):
    role = message["role"]
    match role:
        case "system" | "developer":
            said = "".join(part.text for part in parts(message["content"], heard))
            heard.require(not heard.turns, "a system message after the first turn")
            heard.system = "\n".join(filter(None, [heard.system, said]))
        case "tool":
            text = "".join(part.text for part in parts(message["content"], heard))
            failed = text.startswith("Error: ")
            text = text.removeprefix("Error: ")
            heard.say("user", [Result(message["tool_call_id"], "", text, error=failed)])
        case "assistant":
            blocks = parts(message.get("content"), heard)
            for call in message.get("tool_calls", []):
                heard.require(call["type"] == "function", f"a call of type {call['type']}")
                heard.require(0 < len(call["id"]) <= 40, f"tool call id `{call['id']}`")
                heard.require(
                    isinstance(call["function"]["arguments"], str), "arguments are no string"
                )
                arguments = json.loads(call["function"]["arguments"])
                blocks.append(Call(call["id"], call["function"]["name"], arguments))
            heard.require(blocks, "an assistant message says nothing")
            heard.say("assistant", blocks)
        case "user":
            blocks = parts(message["content"], heard)
            # What a result has beside text comes after it, with a word whose it is.
            answered = heard.just_answered()
            heard.say("user", [block for block in blocks if not names(block, answered)])
        case _:
            heard.wrong.append(f"a message of {role}")


def names(block, ids):
    return isinstance(block, Text) and any(id in block.text for id in ids)


def parts(content, heard):
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(content)]
    said = []
    for part in content:
        match part["type"]:
            case "text":
                said.append(Text(part["text"]))
            case "image_url":
                said.append(hear_image(part["image_url"]["url"], heard))
            case "file":
                said.append(hear_file(part["file"], heard))
            case kind:
                heard.wrong.append(f"a part of type {kind}")
    return said


def hear_image(url, heard):
    head, _, data = url.partition(";base64,")
    heard.require(head.startswith("data:"), f"an image from {url[:40]}")
    return heard.image(head.removeprefix("data:"), data, MEDIA)


def hear_file(file, heard):
    head, _, data = file["file_data"].partition(";base64,")
    heard.require(head == "data:application/pdf", f"a file of {head}")
    heard.require(file.get("filename"), "a file without its name")
    return heard.document(file.get("filename"), data)


def hear_order(messages, heard):
    """The messages after calls are their results, before anything else."""
    waiting = set()
    for message in messages:
        if message["role"] == "tool":
            waiting.discard(message["tool_call_id"])
            continue
        heard.require(
            not waiting, f"tool_call_ids without response messages: {sorted(waiting)}"
        )
        waiting = {call["id"] for call in message.get("tool_calls", [])}


def hear_choice(body, heard, named):
    choice = body.get("tool_choice")
    if choice is None:
        return
    heard.require(body.get("tools"), "tool_choice without tools")
    if isinstance(choice, str):
        heard.require(choice in ("auto", "none", "required"), f"tool_choice {choice}")
        heard.choice = choice
    else:
        heard.require(choice["type"] == "function", f"tool_choice {choice}")
        heard.choice = named(choice)


def hear_schema(format, heard):
    heard.schema = format["schema"]
    heard.require(format.get("name"), "a schema without a name")
    if format.get("strict"):
        for one in objects(heard.schema):
            closed = one.get("additionalProperties") is False
            heard.require(closed, "strict, but an object is open")
            every = set(one.get("properties", {})) == set(one.get("required", []))
            heard.require(every, "strict, but a property is not required")
