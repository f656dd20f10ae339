"""Gemini generateContent, second and third generation."""

import re

from meaning import Call, Result, Text
from validators.heard import Heard, effort_of

TOP = {
    "contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings",
    "cachedContent", "labels", "serviceTier", "store",
}  # fmt: skip
CONFIG = {
    "temperature", "topP", "topK", "candidateCount", "maxOutputTokens", "stopSequences",
    "responseMimeType", "responseJsonSchema", "responseSchema", "seed", "presencePenalty",
    "frequencyPenalty", "responseLogprobs", "logprobs", "thinkingConfig", "responseModalities",
    "mediaResolution", "speechConfig",
}  # fmt: skip
DATA = {"text", "inlineData", "fileData", "functionCall", "functionResponse"}
MEDIA = {"image/jpeg", "image/png", "image/webp", "image/heic", "image/heif"}
ROLES = {"user": "user", "model": "assistant"}
THIRD = re.compile(r"gemini-3")


def hear(request):
    body, heard = camel(request.body), Heard(model=request.model)
    heard.known(body, TOP, "body")
    heard.require(request.headers.get("x-goog-api-key") == "sk-upstream", "no x-goog-api-key")
    heard.require("key" not in request.query, "the key is in the address")
    system = body.get("systemInstruction", {}).get("parts", [])
    heard.system = "\n".join(part["text"] for part in system)
    contents = body.get("contents", [])
    heard.alternate([ROLES.get(content.get("role"), "none") for content in contents])
    third = bool(THIRD.search(request.model or ""))
    for content in contents:
        heard.known(content, {"role", "parts"}, "content")
        heard.require(content.get("parts"), "a content without parts")
        blocks = [hear_part(part, heard, third) for part in content.get("parts", [])]
        if third:
            hear_signatures(content["parts"], heard)
        signed = (part.get("thoughtSignature") for part in content["parts"])
        heard.signatures += filter(None, signed)
        heard.say(ROLES[content["role"]], blocks)
    match_results(heard)
    for tool in body.get("tools", []):
        heard.known(tool, {"functionDeclarations"}, "tool")
        for function in tool["functionDeclarations"]:
            hear_function(function, heard)
    hear_choice(body, heard)
    hear_config(body.get("generationConfig", {}), heard, third)
    if not third and heard.schema:
        heard.require(not heard.tools, "a schema of the answer beside functions")
    return heard


def camel(value):
    """Google takes its members in either spelling. What is the caller's own stays as it is."""
    if isinstance(value, list):
        return [camel(one) for one in value]
    if not isinstance(value, dict):
        return value
    own = {
        "args",
        "response",
        "parametersJsonSchema",
        "responseJsonSchema",
        "parameters",
        "labels",
    }
    out = {}
    for name, one in value.items():
        name = re.sub(r"_(\w)", lambda found: found[1].upper(), name)
        out[name] = one if name in own else camel(one)
    return out


def hear_part(part, heard, third):
    heard.known(part, DATA | {"thought", "thoughtSignature", "videoMetadata"}, "part")
    kinds = DATA & part.keys()
    heard.require(len(kinds) == 1, f"a part is one thing, not {sorted(kinds)}")
    match next(iter(kinds), None):
        case "text":
            return Text(part["text"])
        case "inlineData":
            data = part["inlineData"]
            if data.get("mimeType") == "application/pdf":
                return heard.document("", data.get("data"), "-_")
            return heard.image(data.get("mimeType"), data.get("data"), MEDIA, "-_")
        case "functionCall":
            call = part["functionCall"]
            heard.known(call, {"id", "name", "args"}, "functionCall")
            heard.require(third or "id" not in call, "an id, to a model that knows none")
            heard.require(isinstance(call.get("args", {}), dict), "args are no object")
            return Call(call.get("id"), call["name"], call.get("args", {}))
        case "functionResponse":
            answer = part["functionResponse"]
            heard.known(answer, {"id", "name", "response", "parts"}, "functionResponse")
            heard.require(third or "id" not in answer, "an id, to a model that knows none")
            heard.require(answer.get("name"), "a functionResponse without its name")
            response = answer.get("response")
            heard.require(isinstance(response, dict), "a response is no object")
            error = (response or {}).get("error")
            text = error or (response or {}).get("output")
            heard.require(
                third or "parts" not in answer, "media, to a model that takes none there"
            )
            image = None
            for inner in answer.get("parts", []):
                data = inner["inlineData"]
                image = heard.image(data.get("mimeType"), data.get("data"), MEDIA, "-_")
            return Result(answer.get("id"), answer.get("name"), text, image, bool(error))
        case kind:
            heard.wrong.append(f"a part of {kind}")
            return Text("")


def hear_signatures(parts, heard):
    """The first call of a step has the signature it came with, or the mark of a foreign one."""
    calls = [part for part in parts if "functionCall" in part]
    if calls:
        signed = bool(calls[0].get("thoughtSignature"))
        heard.require(signed, "Function call is missing a thought_signature")


def match_results(heard):
    """As many results as calls, in their order, right after them: ids or none."""
    for (role, blocks), (_, after) in zip(heard.turns, [*heard.turns[1:], ("none", [])]):
        calls = [block for block in blocks if isinstance(block, Call)]
        if role != "assistant" or not calls:
            continue
        results = [block for block in after if isinstance(block, Result)]
        names = [one.name for one in calls], [one.name for one in results]
        heard.require(names[0] == names[1], f"calls of {names[0]}, results of {names[1]}")
        ids = [one.id for one in calls], [one.id for one in results]
        heard.require(ids[0] == ids[1], f"calls {ids[0]}, results {ids[1]}")
        # So that they can be told apart where the wire has no ids.
        for number, (call, result) in enumerate(zip(calls, results)):
            call.id = result.id = f"{id(blocks)}-{number}"


def hear_function(function, heard):
    known = {"name", "description", "parametersJsonSchema", "parameters", "responseJsonSchema"}
    heard.known(function, known, "functionDeclaration")
    schema = function.get("parametersJsonSchema", function.get("parameters"))
    if schema is not None and "parametersJsonSchema" in function:
        heard.require(schema.get("type") == "object", "parameters are no object")
    pattern = r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}"
    heard.tool(function["name"], function.get("description"), schema, pattern)


def hear_choice(body, heard):
    calling = body.get("toolConfig", {}).get("functionCallingConfig")
    if not calling:
        return
    heard.known(calling, {"mode", "allowedFunctionNames"}, "functionCallingConfig")
    mode, names = calling.get("mode"), calling.get("allowedFunctionNames", [])
    heard.require(mode in ("AUTO", "ANY", "NONE", "VALIDATED"), f"mode {mode}")
    heard.require(not names or mode in ("ANY", "VALIDATED"), f"names allowed with mode {mode}")
    heard.require(
        set(names) <= {tool.name for tool in heard.tools}, f"unknown functions {names}"
    )
    heard.choice = {"AUTO": "auto", "NONE": "none", "VALIDATED": "auto"}.get(mode, "required")
    if len(names) == 1:
        [heard.choice] = names


def hear_config(config, heard, third):
    heard.known(config, CONFIG, "generationConfig")
    heard.max_tokens = config.get("maxOutputTokens")
    heard.stop = config.get("stopSequences", [])
    heard.require(len(heard.stop) <= 5, "more than five stop sequences")
    heard.temperature = config.get("temperature")
    heard.require(0 <= (heard.temperature or 0) <= 2, f"temperature {heard.temperature}")
    heard.schema = config.get("responseJsonSchema", config.get("responseSchema"))
    if heard.schema:
        json = config.get("responseMimeType") == "application/json"
        heard.require(json, "a schema needs responseMimeType application/json")
    for name in ("presencePenalty", "frequencyPenalty"):
        heard.require(not third or name not in config, f"{name}, which this model refuses")
    thinking = config.get("thinkingConfig", {})
    heard.known(
        thinking, {"includeThoughts", "thinkingBudget", "thinkingLevel"}, "thinkingConfig"
    )
    both = "thinkingBudget" in thinking and "thinkingLevel" in thinking
    heard.require(not both, "a budget and a level")
    heard.shown = thinking.get("includeThoughts", False)
    if "thinkingLevel" in thinking:
        heard.require(third, "a level, to a model that needs a budget")
        heard.effort = thinking["thinkingLevel"].lower()
    elif "thinkingBudget" in thinking:
        heard.effort = effort_of(thinking["thinkingBudget"])
