"""OpenAI Responses."""

from meaning import FILTERED, LENGTH
from providers.framing import interleaved, sse
from providers.openai_chat import refusal

__all__ = ["STREAM", "refusal", "stream", "whole"]

STREAM = "sse"
DETAILS = {LENGTH: "max_output_tokens", FILTERED: "content_filter"}


def response(scene, model, status, output=()):
    cut = DETAILS.get(scene.stop) if status == "incomplete" else None
    return {
        "id": f"resp_{scene.key}",
        "object": "response",
        "created_at": 1770933892,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": cut} if cut else None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": list(output),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage(scene) if status in ("completed", "incomplete") else None,
    }


def usage(scene):
    return {
        "input_tokens": scene.input,
        "input_tokens_details": {"cached_tokens": scene.cached, "cache_write_tokens": 0},
        "output_tokens": scene.output,
        "output_tokens_details": {"reasoning_tokens": scene.thought},
        "total_tokens": scene.input + scene.output,
    }


def items(scene):
    if scene.reasoning:
        summary = [{"type": "summary_text", "text": "".join(scene.reasoning)}]
        yield {
            "id": "rs_1",
            "type": "reasoning",
            "summary": summary,
            "encrypted_content": "gAAAA=",
        }
    if scene.text:
        part = {
            "type": "output_text",
            "text": "".join(scene.text),
            "annotations": [],
            "logprobs": [],
        }
        cut = "incomplete" if scene.stop in DETAILS else "completed"
        yield {
            "id": "msg_1",
            "type": "message",
            "status": cut,
            "role": "assistant",
            "content": [part],
        }
    for n, (name, pieces) in enumerate(scene.calls):
        yield {
            "id": f"fc_{n}",
            "type": "function_call",
            "status": "completed",
            "call_id": f"call_{n}",
            "name": name,
            "arguments": "".join(pieces) or "{}",
        }


def whole(scene, model):
    status = "incomplete" if scene.stop in DETAILS else "completed"
    return response(scene, model, status, items(scene))


def stream(scene, model):
    begun = response(scene, model, "in_progress")
    said = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    calls = []
    for index, item in enumerate(items(scene)):
        events = TELL[item["type"]](scene, index, item)
        # Items of one kind come whole, calls may overlap.
        if item["type"] == "function_call":
            calls.append(events)
        else:
            said += events
    said += interleaved(calls)
    if scene.fault:
        said = said[:-2]
    if scene.fault == "error":
        error = {"code": "server_error", "message": "The engine died."}
        said.append(
            {"type": "error", "error": {**error, "type": "server_error", "param": None}}
        )
        failed = response(scene, model, "failed")
        said.append({"type": "response.failed", "response": {**failed, "error": error}})
    if scene.fault is None:
        final = whole(scene, model)
        said.append({"type": f"response.{final['status']}", "response": final})
    return sse([{**event, "sequence_number": n} for n, event in enumerate(said)], named=True)


def bracketed(index, item, empty, events):
    added = {
        "type": "response.output_item.added",
        "output_index": index,
        "item": {**item, **empty},
    }
    done = {"type": "response.output_item.done", "output_index": index, "item": item}
    return [
        added,
        *({**event, "output_index": index, "item_id": item["id"]} for event in events),
        done,
    ]


def tell_reasoning(scene, index, item):
    at = {"summary_index": 0}
    whole = item["summary"][0]
    kind = "response.reasoning_summary"
    events = [{"type": f"{kind}_part.added", "part": {**whole, "text": ""}, **at}]
    events += [
        {"type": f"{kind}_text.delta", "delta": piece, **at} for piece in scene.reasoning
    ]
    events += [{"type": f"{kind}_text.done", "text": whole["text"], **at}]
    events += [{"type": f"{kind}_part.done", "part": whole, **at}]
    return bracketed(index, item, {"summary": []}, events)


def tell_message(scene, index, item):
    at = {"content_index": 0}
    whole = item["content"][0]
    events = [{"type": "response.content_part.added", "part": {**whole, "text": ""}, **at}]
    events += [
        {"type": "response.output_text.delta", "delta": piece, "logprobs": [], **at}
        for piece in scene.text
    ]
    events += [
        {"type": "response.output_text.done", "text": whole["text"], "logprobs": [], **at}
    ]
    events += [{"type": "response.content_part.done", "part": whole, **at}]
    return bracketed(index, item, {"content": [], "status": "in_progress"}, events)


def tell_call(scene, index, item):
    pieces = scene.calls[int(item["id"][3:])][1] or ["{}"]
    kind = "response.function_call_arguments"
    events = [{"type": f"{kind}.delta", "delta": piece} for piece in pieces]
    events += [{"type": f"{kind}.done", "arguments": item["arguments"], "name": item["name"]}]
    return bracketed(index, item, {"arguments": "", "status": "in_progress"}, events)


TELL = {"reasoning": tell_reasoning, "message": tell_message, "function_call": tell_call}
