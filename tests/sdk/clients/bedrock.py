"""`boto3`: Converse and ConverseStream."""

import json
import os

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EventStreamError
from urllib3.exceptions import HTTPError

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
    "guardrail_intervened": FILTERED,
    "content_filtered": FILTERED,
}
BUDGETS = {"low": 1024, "medium": 4096, "high": 16384}


def connect(url, key, ca=None):
    """With a bearer key, which boto3 sends over TLS only; else signed, with keys nobody checks."""
    secure = url.startswith("https:")
    config = Config(
        retries={"total_max_attempts": 1},
        read_timeout=20,
        connect_timeout=5,
        proxies={},
        signature_version="bearer" if secure else "v4",
    )
    if secure:
        # The only way boto3 takes a bearer key.
        os.environ["AWS_BEARER_TOKEN_BEDROCK"] = key
    return boto3.client(
        "bedrock-runtime",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=None if secure else "AKIDEXAMPLE",
        aws_secret_access_key=None if secure else "secret",
        verify=ca,
        config=config,
    )


def arguments(ask):
    said = {
        "modelId": ask.model,
        "messages": [
            {"role": role, "content": [block(one) for one in blocks]}
            for role, blocks in ask.turns
        ],
    }
    if ask.system:
        said["system"] = [{"text": ask.system}]
    if ask.tools:
        tools = [
            {
                "toolSpec": {
                    "name": tool.name,
                    "description": tool.description,
                    "inputSchema": {"json": tool.schema},
                }
            }
            for tool in ask.tools
        ]
        said["toolConfig"] = {"tools": tools}
        if ask.choice in ("auto", "required"):
            said["toolConfig"]["toolChoice"] = {"auto" if ask.choice == "auto" else "any": {}}
        elif ask.choice and ask.choice != "none":
            said["toolConfig"]["toolChoice"] = {"tool": {"name": ask.choice}}
    natives = {}
    if ask.parallel is False:
        natives["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": True}
    if ask.schema:
        schema = {"jsonSchema": {"schema": json.dumps(ask.schema), "name": "answer"}}
        said["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": schema}}
    if ask.effort:
        natives["thinking"] = {"type": "enabled", "budget_tokens": BUDGETS[ask.effort]}
    if natives:
        said["additionalModelRequestFields"] = natives
    limits = {
        "maxTokens": ask.max_tokens,
        "stopSequences": ask.stop,
        "temperature": ask.temperature,
    }
    limits = {name: value for name, value in limits.items() if value not in (None, [])}
    if ask.effort:
        limits.setdefault("maxTokens", 20000)
    if limits:
        said["inferenceConfig"] = limits
    return said


def block(one):
    match one:
        case Text(text):
            return {"text": text}
        case Image(media_type, data):
            return {"image": {"format": media_type.split("/")[1], "source": {"bytes": data}}}
        case Document(name, data):
            source = {"bytes": data}
            return {"document": {"format": "pdf", "name": name, "source": source}}
        case Call(id, name, arguments):
            return {"toolUse": {"toolUseId": id, "name": name, "input": arguments}}
        case Result(id, _, text, image, error):
            content = [{"text": text}, *([block(image)] if image else [])]
            status = "error" if error else "success"
            return {"toolResult": {"toolUseId": id, "content": content, "status": status}}


def resume(said, turn, results):
    answered = {"role": "user", "content": [block(one) for one in results]}
    return {**said, "messages": [*said["messages"], turn, answered]}


def call(client, said):
    client.converse(**said)


def read(client, ask, stream, strict=False):
    meaning = Meaning()
    try:
        if stream:
            read_stream(client, arguments(ask), meaning, strict)
        else:
            response = client.converse(**arguments(ask))
            meaning.turn = response["output"]["message"]
            read_message(meaning.turn["content"], meaning)
            meaning.stopped(response["stopReason"], REASONS)
            used(response["usage"], meaning)
            if strict:
                meaning.require("latencyMs" in response.get("metrics", {}), "no metrics")
    except EventStreamError as error:
        said = error.response["Error"]
        meaning.failure = Failure(
            "EventStreamError", None, said.get("Message", ""), said["Code"]
        )
    except ClientError as error:
        meaning.failure = failure(error)
    except (BotoCoreError, HTTPError) as error:
        meaning.failure = Failure(type(error).__name__, None, str(error))
    return meaning


def failure(error):
    head = error.response["ResponseMetadata"]
    said = error.response["Error"]
    return Failure(
        type(error).__name__,
        head["HTTPStatusCode"],
        said.get("Message", ""),
        said.get("Code"),
        head["HTTPHeaders"].get("retry-after"),
    )


def read_message(blocks, meaning):
    for one in blocks:
        if "text" in one:
            meaning.text += one["text"]
        elif "toolUse" in one:
            call = one["toolUse"]
            meaning.call(call["toolUseId"], call["name"], call["input"])
        elif "reasoningContent" in one:
            meaning.reasoning += (
                one["reasoningContent"].get("reasoningText", {}).get("text", "")
            )


def used(usage, meaning):
    meaning.input = usage["inputTokens"]
    meaning.input += usage.get("cacheReadInputTokens", 0) + usage.get(
        "cacheWriteInputTokens", 0
    )
    meaning.output = usage["outputTokens"]
    meaning.require(
        usage["totalTokens"] == meaning.input + meaning.output, "the total is no sum"
    )


def read_stream(client, said, meaning, strict):
    rules = Rules(meaning) if strict else None
    calls, native = {}, None
    for event in client.converse_stream(**said)["stream"]:
        [(kind, value)] = event.items()
        if rules:
            rules.see(kind, value)
        match kind:
            case "contentBlockStart" if "toolUse" in value["start"]:
                calls[value["contentBlockIndex"]] = {**value["start"]["toolUse"], "input": ""}
            case "contentBlockDelta":
                delta = value["delta"]
                meaning.text += delta.get("text", "")
                meaning.reasoning += delta.get("reasoningContent", {}).get("text", "")
                if "toolUse" in delta:
                    calls[value["contentBlockIndex"]]["input"] += delta["toolUse"]["input"]
            case "messageStop":
                native = value["stopReason"]
            case "metadata":
                used(value["usage"], meaning)
    for call in calls.values():
        meaning.call(call["toolUseId"], call["name"], call["input"] or "{}")
    meaning.stopped(native, REASONS)
    if rules:
        rules.end()


class Rules:
    """The order of a ConverseStream."""

    def __init__(self, meaning):
        self.meaning = meaning
        self.kinds = []
        self.open = None
        self.closed = -1

    def see(self, kind, value):
        require = self.meaning.require
        require(self.kinds or kind == "messageStart", "the first event is messageStart")
        require(kind not in self.kinds or kind.startswith("contentBlock"), f"a second {kind}")
        require(
            "messageStop" not in self.kinds or kind == "metadata", f"{kind} after messageStop"
        )
        require("metadata" not in self.kinds, f"{kind} after metadata")
        self.kinds.append(kind)
        index = value.get("contentBlockIndex")
        if kind in ("contentBlockStart", "contentBlockDelta") and self.open is None:
            require(index == self.closed + 1, f"block {index} comes after {self.closed}")
            tool = "toolUse" in value.get("delta", {})
            require(not tool, "a tool call without its start")
            self.open = index
        elif kind.startswith("contentBlock"):
            require(index == self.open, f"{kind} of block {index} within block {self.open}")
        if kind == "contentBlockStop":
            self.open, self.closed = None, index

    def end(self):
        require = self.meaning.require
        require("messageStop" in self.kinds, "no messageStop")
        require(self.kinds[-1] == "metadata", "no metadata at the end")
