"""The `google-genai` package."""

import httpx2
from google import genai
from google.genai import errors, types

from meaning import END, FILTERED, LENGTH, Call, Document, Failure, Image, Meaning, Result, Text

REASONS = {
    "STOP": END,
    "MAX_TOKENS": LENGTH,
    "SAFETY": FILTERED,
    "RECITATION": FILTERED,
    "LANGUAGE": FILTERED,
    "BLOCKLIST": FILTERED,
    "PROHIBITED_CONTENT": FILTERED,
    "SPII": FILTERED,
    "MODEL_ARMOR": FILTERED,
}
ROLES = {"user": "user", "assistant": "model"}
LEVELS = {"low": 1024, "medium": 8192, "high": 24576}


def connect(url, key):
    options = types.HttpOptions(
        base_url=url,
        timeout=20_000,
        retry_options=types.HttpRetryOptions(attempts=1),
    )
    return genai.Client(api_key=key, http_options=options)


def arguments(ask):
    config = {}
    if ask.system:
        config["system_instruction"] = ask.system
    if ask.tools:
        declared = [
            {
                "name": tool.name,
                "description": tool.description,
                "parameters_json_schema": tool.schema,
            }
            for tool in ask.tools
        ]
        config["tools"] = [{"function_declarations": declared}]
        config["automatic_function_calling"] = {"disable": True}
    if ask.choice:
        mode = {"auto": "AUTO", "required": "ANY", "none": "NONE"}.get(ask.choice, "ANY")
        calling = {"mode": mode}
        if ask.choice not in ("auto", "required", "none"):
            calling["allowed_function_names"] = [ask.choice]
        config["tool_config"] = {"function_calling_config": calling}
    if ask.schema:
        config["response_mime_type"] = "application/json"
        config["response_json_schema"] = ask.schema
    if ask.effort:
        thinking = {"include_thoughts": True, "thinking_budget": LEVELS[ask.effort]}
        config["thinking_config"] = thinking
    if ask.max_tokens:
        config["max_output_tokens"] = ask.max_tokens
    if ask.stop:
        config["stop_sequences"] = ask.stop
    if ask.temperature is not None:
        config["temperature"] = ask.temperature
    contents = [
        {"role": ROLES[role], "parts": [part(block) for block in blocks]}
        for role, blocks in ask.turns
    ]
    return {"model": ask.model, "contents": contents, "config": config}


def part(block):
    match block:
        case Text(text):
            return {"text": text}
        case Image(media_type, data):
            return {"inline_data": {"mime_type": media_type, "data": data}}
        case Document(_, data):
            return {"inline_data": {"mime_type": "application/pdf", "data": data}}
        case Call(id, name, arguments):
            return {"function_call": {"id": id, "name": name, "args": arguments}}
        case Result(id, name, text, image, error):
            said = {"id": id, "name": name, "response": {"error" if error else "output": text}}
            if image:
                blob = {"mime_type": image.media_type, "data": image.data}
                said["parts"] = [{"inline_data": blob}]
            return {"function_response": said}


def resume(said, turn, results):
    answered = {"role": "user", "parts": [part(one) for one in results]}
    return {**said, "contents": [*said["contents"], turn, answered]}


def call(client, said):
    client.models.generate_content(**said)


def read(client, ask, stream, strict=False):
    meaning = Meaning()
    rules = Rules(meaning) if strict else None
    last = None
    try:
        if stream:
            for chunk in client.models.generate_content_stream(**arguments(ask)):
                last = seen(chunk, meaning, rules, last)
        else:
            last = seen(client.models.generate_content(**arguments(ask)), meaning, rules, last)
    except errors.APIError as error:
        # The status of an error within a stream is written in it, not said by HTTP.
        status = None if last is not None else error.code
        headers = getattr(error.response, "headers", None) or {}
        retry = headers.get("retry-after")
        meaning.failure = Failure(
            type(error).__name__, status, error.message or "", error.status, retry
        )
    except (httpx2.HTTPError, errors.UnknownApiResponseError) as error:
        meaning.failure = Failure(type(error).__name__, None, str(error))
    else:
        meaning.stopped(last or None, REASONS)
        if rules:
            rules.end()
    return meaning


def seen(chunk, meaning, rules, last):
    """Adds a chunk, and says the latest reason to stop; an empty one when there is none yet."""
    last = last or ""
    if rules:
        rules.see(chunk)
    if chunk.prompt_feedback and chunk.prompt_feedback.block_reason:
        meaning.stop = FILTERED
        last = "SAFETY"
    for candidate in chunk.candidates or []:
        meaning.turn = candidate.content
        for part in (candidate.content and candidate.content.parts) or []:
            if part.function_call:
                meaning.call(
                    part.function_call.id, part.function_call.name, part.function_call.args
                )
            elif part.thought:
                meaning.reasoning += part.text or ""
            else:
                meaning.text += part.text or ""
        if candidate.finish_reason:
            last = candidate.finish_reason.value
    used(chunk.usage_metadata, meaning)
    return last


def used(usage, meaning):
    """Each chunk's count stands for all up to it."""
    if not usage:
        return
    meaning.input = (usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0)
    meaning.output = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
    if usage.total_token_count:
        # Hosts differ in whether the candidates include the thoughts; the total does not lie.
        meaning.output = usage.total_token_count - meaning.input


class Rules:
    """What Google's chunks are like."""

    def __init__(self, meaning):
        self.meaning = meaning
        self.finishes = 0
        self.counted = None

    def see(self, chunk):
        require = self.meaning.require
        require(chunk.response_id, "a chunk without responseId")
        require(chunk.model_version, "a chunk without modelVersion")
        require(len(chunk.candidates or []) <= 1, "more than one candidate")
        for candidate in chunk.candidates or []:
            content = candidate.content
            require(
                not content or not content.parts or content.role == "model", "a role but model"
            )
            self.finishes += bool(candidate.finish_reason)
        require(
            not chunk.candidates or not self.finishes or chunk.candidates[0].finish_reason,
            "content after the finish",
        )
        self.counted = chunk.usage_metadata
        usage = chunk.usage_metadata
        if usage and usage.total_token_count:
            parts = (
                usage.prompt_token_count,
                usage.tool_use_prompt_token_count,
                usage.candidates_token_count,
                usage.thoughts_token_count,
            )
            require(
                sum(part or 0 for part in parts) == usage.total_token_count,
                "the total is no sum",
            )

    def end(self):
        blocked = self.meaning.stop == FILTERED
        self.meaning.require(self.finishes == 1 or blocked, f"{self.finishes} finish reasons")
        self.meaning.require(self.counted, "the last chunk has no usage")
