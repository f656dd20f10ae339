"""OpenAI Responses."""

import json
import re

from meaning import Call, Image, Result, Text
from validators.heard import Heard
from validators.openai_chat import (
    EFFORTS,
    NAME,
    hear_choice,
    hear_file,
    hear_image,
    hear_key,
    hear_schema,
)

TOP = {
    "model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "reasoning",
    "store", "stream", "include", "prompt_cache_key", "text", "max_output_tokens", "temperature",
    "top_p", "top_logprobs", "truncation", "metadata", "user", "safety_identifier", "service_tier",
    "stream_options",
}  # fmt: skip
THINKS = re.compile(r"(o\d|gpt-[5-9])")
# What an item's id begins with, where it has one.
IDS = {"message": "msg", "function_call": "fc", "reasoning": "rs"}


def hear(request):
    body, heard = request.body, Heard(model=request.model)
    heard.known(body, TOP, "body")
    hear_key(request, heard)
    heard.system = body.get("instructions", "")
    items = body.get("input", [])
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    heard.require(items, "no input")
    for item in items:
        hear_item(item, heard)
    heard.answered()
    for tool in body.get("tools", []):
        heard.require(tool["type"] == "function", f"a tool of type {tool['type']}")
        known = {"type", "name", "description", "parameters", "strict"}
        heard.require(known >= tool.keys(), f"unknown members in {sorted(tool)}")
        heard.tool(tool["name"], tool.get("description"), tool.get("parameters"), NAME)
    hear_choice(body, heard, lambda choice: choice["name"])
    heard.parallel = body.get("parallel_tool_calls", True)
    format = body.get("text", {}).get("format", {"type": "text"})
    if format["type"] == "json_schema":
        hear_schema(format, heard)
    reasoning = body.get("reasoning", {})
    heard.known(reasoning, {"effort", "summary"}, "reasoning")
    heard.effort = reasoning.get("effort")
    heard.shown = reasoning.get("summary") is not None
    heard.require(heard.effort in EFFORTS | {None}, f"reasoning.effort {heard.effort}")
    heard.max_tokens = body.get("max_output_tokens")
    heard.require((heard.max_tokens or 16) >= 16, f"max_output_tokens {heard.max_tokens}")
    heard.temperature = body.get("temperature")
    if THINKS.match(heard.model or ""):
        heard.require(heard.temperature is None, "temperature to a model that refuses it")
    else:
        heard.require(not heard.effort, "effort to a model that does not think")
    return heard


def hear_item(item, heard):
    kind = item.get("type", "message")
    if "id" in item:
        prefix = IDS.get(kind, "")
        heard.require(item["id"].startswith(prefix), f"the id `{item['id']}` of a {kind}")
    match kind:
        case "message":
            role = item["role"]
            blocks = parts(item["content"], role, heard)
            if role in ("system", "developer"):
                heard.require(not heard.turns, "a system message after the first turn")
                said = "".join(block.text for block in blocks)
                heard.system = "\n".join(filter(None, [heard.system, said]))
            else:
                heard.say(role, blocks)
        case "function_call":
            heard.require(0 < len(item["call_id"]) <= 64, f"call_id `{item['call_id']}`")
            heard.require(isinstance(item["arguments"], str), "arguments are no string")
            call = Call(item["call_id"], item["name"], json.loads(item["arguments"]))
            heard.say("assistant", [call])
        case "function_call_output":
            blocks = parts(item["output"], "user", heard)
            text = "".join(block.text for block in blocks if isinstance(block, Text))
            image = next((block for block in blocks if isinstance(block, Image)), None)
            failed = text.startswith("Error: ")
            text = text.removeprefix("Error: ")
            heard.say("user", [Result(item["call_id"], "", text, image, failed)])
        case "reasoning":
            heard.require("summary" in item, "reasoning without a summary")
            heard.signatures.append(item.get("encrypted_content"))
        case _:
            heard.wrong.append(f"an item of type {kind}")


def parts(content, role, heard):
    if isinstance(content, str):
        return [Text(content)]
    said = []
    for part in content:
        match part["type"]:
            case "input_text":
                heard.require(role != "assistant", "input_text of an assistant")
                said.append(Text(part["text"]))
            case "output_text":
                heard.require(role == "assistant", f"output_text of a {role}")
                said.append(Text(part["text"]))
            case "input_image":
                heard.require(role == "user", f"an image of a {role}")
                said.append(hear_image(part["image_url"], heard))
            case "input_file":
                said.append(hear_file(part, heard))
            case kind:
                heard.wrong.append(f"a part of type {kind}")
    return said
