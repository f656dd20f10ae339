"""Bedrock Converse: AWS's own model of the operation, and what only the service says."""

import functools
import json
import re

import botocore.loaders
import botocore.model
import botocore.validate

from meaning import Call, Result, Text
from validators.heard import Heard, effort_of

ID = r"[a-zA-Z0-9_.:-]{1,64}"
FORMATS = {"png", "jpeg", "gif", "webp"}


@functools.cache
def shape():
    model = botocore.loaders.create_loader().load_service_model("bedrock-runtime", "service-2")
    return botocore.model.ServiceModel(model).operation_model("Converse").input_shape


def hear(request):
    body, heard = request.body, Heard(model=request.model)
    heard.require(
        request.headers.get("authorization") == "Bearer sk-upstream",
        f"authorization {request.headers.get('authorization')!r}",
    )
    report = botocore.validate.ParamValidator().validate(
        {"modelId": request.model, **body}, shape()
    )
    if report.has_errors():
        heard.wrong.append(report.generate_report())
    for block in body.get("system", []):
        heard.require(block.get("text", "x").strip(), "system text is blank")
    heard.system = "\n".join(
        block["text"] for block in body.get("system", []) if "text" in block
    )
    messages = body.get("messages", [])
    heard.alternate([message["role"] for message in messages])
    for message in messages:
        heard.require(message["content"], "a message is empty")
        said = [hear_block(block, message, heard) for block in message["content"]]
        heard.say(message["role"], [block for block in said if block])
    heard.answered()
    for _, blocks in heard.turns:
        kinds = [isinstance(block, Result) for block in blocks]
        heard.require(
            kinds == sorted(kinds, reverse=True), "tool results come first in their turn"
        )
    marks = str(body).count("'cachePoint'")
    heard.require(marks <= 4, f"{marks} cache points")
    hear_tools(body, heard)
    hear_limits(body, heard)
    hear_natives(body, heard)
    hear_format(body.get("outputConfig", {}), heard)
    return heard


def hear_block(block, message, heard):
    heard.require(len(block) == 1, f"a block is one thing, not {sorted(block)}")
    [(kind, value)] = list(block.items())[:1]
    match kind:
        case "text":
            heard.require(value.strip(), "text is blank")
            return Text(value)
        case "image":
            return hear_image(value, heard)
        case "document":
            heard.require(value["format"] == "pdf", f"a document of {value['format']}")
            legal = re.fullmatch(r"[A-Za-z0-9 \-()\[\]]+", value["name"])
            heard.require(
                legal and "  " not in value["name"], f"document name `{value['name']}`"
            )
            beside = any("text" in other for other in message["content"])
            heard.require(beside, "a document without a text beside it")
            return heard.document(value["name"], value["source"].get("bytes"))
        case "toolUse":
            heard.require(
                re.fullmatch(ID, value["toolUseId"]), f"toolUseId `{value['toolUseId']}`"
            )
            heard.require(isinstance(value["input"], dict), "input is no object")
            heard.require(message["role"] == "assistant", "toolUse of a user")
            return Call(value["toolUseId"], value["name"], value["input"])
        case "toolResult":
            heard.require(value["content"], "a result without content")
            text = "".join(part.get("text", "") for part in value["content"])
            images = [part["image"] for part in value["content"] if "image" in part]
            image = hear_image(images[0], heard) if images else None
            return Result(value["toolUseId"], "", text, image, value.get("status") == "error")
        case "cachePoint":
            return None
        case "reasoningContent":
            heard.require(message["role"] == "assistant", "a user reasons")
            heard.signatures.append(value["reasoningText"].get("signature"))
            return None
        case _:
            heard.wrong.append(f"a block of {kind}")
            return None


def hear_image(image, heard):
    types = {f"image/{one}" for one in FORMATS}
    return heard.image(f"image/{image['format']}", image["source"].get("bytes"), types)


def hear_tools(body, heard):
    config = body.get("toolConfig", {})
    used = any(
        isinstance(block, (Call, Result)) for _, blocks in heard.turns for block in blocks
    )
    heard.require(not used or config.get("tools"), "toolConfig is needed where tools were used")
    for tool in config.get("tools", []):
        if "cachePoint" in tool:
            continue
        spec = tool["toolSpec"]
        schema = spec["inputSchema"]["json"]
        heard.require(
            schema.get("type") == "object", f"inputSchema of {spec['name']} is no object"
        )
        heard.tool(spec["name"], spec.get("description"), schema, r"[a-zA-Z0-9_-]{1,64}")
    choice = config.get("toolChoice", {})
    for kind, value in choice.items():
        heard.choice = {"auto": "auto", "any": "required"}.get(kind, value.get("name"))


def hear_limits(body, heard):
    limits = body.get("inferenceConfig", {})
    heard.max_tokens = limits.get("maxTokens")
    heard.stop = limits.get("stopSequences", [])
    heard.temperature = limits.get("temperature")
    heard.require(0 <= (heard.temperature or 0) <= 1, f"temperature {heard.temperature}")


def hear_natives(body, heard):
    """What the model behind takes, as Claude does."""
    natives = body.get("additionalModelRequestFields", {})
    if "claude" not in (heard.model or ""):
        return
    known = {"thinking", "output_config", "top_k", "anthropic_beta", "tool_choice"}
    heard.known(natives, known, "additionalModelRequestFields")
    if choice := natives.get("tool_choice"):
        chosen = "toolChoice" in body.get("toolConfig", {})
        once = ("type" in choice) != chosen
        heard.require(once, "tool_choice.type where toolChoice says it, or neither")
        heard.parallel = not choice.get("disable_parallel_tool_use")
    thinking = natives.get("thinking", {})
    if thinking.get("type") == "enabled":
        budget = thinking.get("budget_tokens", 0)
        most = heard.max_tokens
        heard.require(1024 <= budget < (most or 10**9), f"budget_tokens {budget} of {most}")
        heard.require(heard.temperature in (None, 1), "temperature while thinking")
        heard.require(heard.choice in (None, "auto"), "a forced tool while thinking")
        heard.effort = effort_of(budget)
        heard.shown = True


def hear_format(config, heard):
    format = config.get("textFormat")
    if not format:
        return
    text = format["structure"]["jsonSchema"]["schema"]
    heard.require(isinstance(text, str), "the schema is a string here")
    heard.schema = json.loads(text)
