"""Anthropic Messages, by its documentation and its own 400s."""

import re

from meaning import Call, Result, Text
from validators.heard import Heard, effort_of, objects

TOP = {
    "model", "max_tokens", "messages", "system", "tools", "tool_choice", "stop_sequences", "stream",
    "temperature", "top_p", "top_k", "thinking", "output_config", "service_tier", "metadata",
}  # fmt: skip
MEDIA = {"image/jpeg", "image/png", "image/gif", "image/webp"}
ID = r"[a-zA-Z0-9_-]+"
# Who decides itself how much to think, and who takes neither a budget nor sampling any more.
ADAPTIVE = re.compile(r"claude-((opus|sonnet)-4-[6-9]|(opus|sonnet|haiku)-5|fable)")
ADAPTIVE_ONLY = re.compile(r"claude-(opus-4-[7-9]|(opus|sonnet|haiku)-5|fable)")


def hear(request):
    body, heard = request.body, Heard(model=request.model)
    heard.known(body, TOP, "body")
    heads = request.headers
    heard.require(heads.get("anthropic-version"), "no anthropic-version")
    key = heads.get("x-api-key") or heads.get("authorization", "").removeprefix("Bearer ")
    heard.require(key == "sk-upstream", f"the key is {key!r}")
    hear_system(body.get("system", []), heard)
    messages = body.get("messages", [])
    heard.alternate([message["role"] for message in messages])
    for message in messages:
        heard.known(message, {"role", "content"}, "message")
        hear_content(message, heard)
    heard.answered()
    last = heard.turns[-1] if heard.turns else ("user", [])
    if last[0] == "assistant" and isinstance(last[1][-1], Text):
        text = last[1][-1].text
        heard.require(text == text.rstrip(), "the final assistant text ends in white space")
    for tool in body.get("tools", []):
        known = {"name", "description", "input_schema", "strict", "cache_control", "type"}
        heard.known(tool, known, "tool")
        schema = tool.get("input_schema", {})
        heard.require(
            schema.get("type") == "object", f"input_schema of {tool['name']} is no object"
        )
        heard.tool(tool["name"], tool.get("description"), schema, r"[a-zA-Z0-9_-]{1,128}")
    hear_choice(body, heard)
    hear_numbers(body, heard)
    hear_thinking(body, heard)
    hear_format(body.get("output_config", {}), heard)
    return heard


def hear_system(system, heard):
    blocks = [{"type": "text", "text": system}] if isinstance(system, str) else system
    for block in blocks:
        heard.known(block, {"type", "text", "cache_control"}, "system")
        heard.require(block["text"].strip(), "system text is empty")
    heard.system = "\n".join(block["text"] for block in blocks)


def hear_content(message, heard):
    content = message["content"]
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    heard.require(content, "a message is empty")
    blocks = []
    for block in content:
        match block["type"]:
            case "text":
                heard.known(block, {"type", "text", "cache_control"}, "text")
                heard.require(block["text"].strip(), "text is blank")
                blocks.append(Text(block["text"]))
            case "image":
                source = block["source"]
                heard.known(source, {"type", "media_type", "data"}, "image.source")
                heard.require(source["type"] == "base64", f"image source {source['type']}")
                blocks.append(heard.image(source.get("media_type"), source.get("data"), MEDIA))
            case "thinking":
                heard.known(block, {"type", "thinking", "signature"}, "thinking")
                heard.require(message["role"] == "assistant", "a user thinks")
                heard.require(not blocks, "thinking comes first in its turn")
                heard.signatures.append(block["signature"])
            case "document":
                heard.known(block, {"type", "source", "title"}, "document")
                source = block["source"]
                heard.require(source["media_type"] == "application/pdf", "a document but PDF")
                heard.require(source["type"] == "base64", f"document source {source['type']}")
                blocks.append(heard.document(block.get("title"), source.get("data")))
            case "tool_use":
                heard.known(block, {"type", "id", "name", "input", "cache_control"}, "tool_use")
                heard.require(re.fullmatch(ID, block["id"]), f"tool_use.id `{block['id']}`")
                heard.require(isinstance(block["input"], dict), "tool_use.input is no object")
                heard.require(message["role"] == "assistant", "tool_use of a user")
                blocks.append(Call(block["id"], block["name"], block["input"]))
            case "tool_result":
                known = {"type", "tool_use_id", "content", "is_error", "cache_control"}
                heard.known(block, known, "tool_result")
                after = all(isinstance(one, Result) for one in blocks)
                heard.require(after, "tool results come first in their turn")
                blocks.append(hear_result(block, heard))
            case kind:
                heard.wrong.append(f"a block of type {kind}")
    heard.say(message["role"], blocks)


def hear_result(block, heard):
    result = Result(block["tool_use_id"], "", "", error=bool(block.get("is_error")))
    content = block.get("content", "")
    if isinstance(content, str):
        result.text = content
        return result
    for part in content:
        if part["type"] == "image":
            source = part["source"]
            result.image = heard.image(source.get("media_type"), source.get("data"), MEDIA)
        else:
            result.text += part["text"]
    return result


def hear_choice(body, heard):
    choice = body.get("tool_choice")
    if not choice:
        return
    heard.known(choice, {"type", "name", "disable_parallel_tool_use"}, "tool_choice")
    heard.require(body.get("tools"), "tool_choice without tools")
    kinds = {"auto": "auto", "any": "required", "none": "none", "tool": choice.get("name")}
    heard.require(choice["type"] in kinds, f"tool_choice {choice['type']}")
    heard.choice = kinds.get(choice["type"])
    heard.parallel = not choice.get("disable_parallel_tool_use")


def hear_numbers(body, heard):
    heard.max_tokens = body.get("max_tokens")
    whole = isinstance(heard.max_tokens, int) and heard.max_tokens >= 1
    heard.require(whole, f"max_tokens is {heard.max_tokens}")
    heard.temperature = body.get("temperature")
    heard.require(0 <= (heard.temperature or 0) <= 1, f"temperature {heard.temperature}")
    heard.require(not ("temperature" in body and "top_p" in body), "temperature and top_p")
    heard.stop = body.get("stop_sequences", [])
    heard.require(all(stop.strip() for stop in heard.stop), "a blank stop sequence")
    if ADAPTIVE_ONLY.search(heard.model or ""):
        for name in ("temperature", "top_p", "top_k"):
            heard.require(name not in body, f"{name} to a model that refuses it")


def hear_thinking(body, heard):
    thinking = body.get("thinking", {"type": "disabled"})
    effort = body.get("output_config", {}).get("effort")
    adaptive = ADAPTIVE.search(heard.model or "")
    heard.known(thinking, {"type", "budget_tokens", "display"}, "thinking")
    match thinking["type"]:
        case "enabled":
            refused = ADAPTIVE_ONLY.search(heard.model or "")
            heard.require(not refused, "thinking by budget, to a model that only adapts")
            budget = thinking.get("budget_tokens", 0)
            heard.require(1024 <= budget < (heard.max_tokens or 0), f"budget_tokens {budget}")
            forced = heard.choice not in (None, "auto", "none")
            heard.require(not forced, "a forced tool while thinking")
            heard.require(heard.temperature in (None, 1), "temperature while thinking")
            heard.require("top_k" not in body, "top_k while thinking")
            heard.effort = effort_of(budget)
            heard.shown = thinking.get("display") != "omitted"
        case "adaptive":
            heard.require(adaptive, "adaptive thinking, to a model that needs a budget")
            heard.effort = effort
            heard.shown = thinking.get("display") == "summarized"
        case "disabled":
            pass
        case kind:
            heard.wrong.append(f"thinking {kind}")
    if effort:
        heard.require(adaptive, "effort, to a model that has none")


def hear_format(config, heard):
    heard.known(config, {"effort", "format"}, "output_config")
    if format := config.get("format"):
        heard.known(format, {"type", "schema"}, "output_config.format")
        heard.schema = format["schema"]
        closed = all(one.get("additionalProperties") is False for one in objects(heard.schema))
        heard.require(closed, "an object in a schema is open")
