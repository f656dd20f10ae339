"""What coding agents send, on a model they were not made for: their own kinds of tools, and loops."""

import json

import pytest

from asks import WEATHER
from clients import CLIENTS
from judges import Bench, name
from meaning import Ask, Text
from scenes import MODELS, SCENES, Scene, case
from validators import VALIDATORS

TARGETS = {dialect: case(SCENES[0], dialect, stream=False) for dialect in MODELS}
PATCH = '*** Begin Patch\n*** Update File: grüße.txt\n+"quoted" \\ 👋\n*** End Patch\n'
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}
CODEX_TOOLS = [
    {
        "type": "function",
        "name": "shell",
        "description": "Runs a command.",
        "strict": False,
        "parameters": {
            "type": "object",
            "properties": {"command": {"type": "array", "items": {"type": "string"}}},
            "required": ["command"],
        },
    },
    {"type": "custom", "name": "apply_patch", "description": "Edits files.", "format": GRAMMAR},
    {
        "type": "namespace",
        "name": "mcp__files",
        "description": "Files.",
        "tools": [
            {
                "type": "function",
                "name": "read",
                "description": "Reads a file.",
                "strict": False,
                "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
            }
        ],
    },
    {"type": "web_search"},
]
FOREIGN = [dialect for dialect in MODELS if dialect != "openai_responses"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("agents"), TARGETS.values())
    yield bench
    bench.close()


def says(dialect, stream, *calls):
    """A provider of that dialect calling tools by the names it was told."""
    scene = Scene("agent", text=["On it."], calls=list(calls), stop="tool")
    return case(scene, dialect, stream).answer


def codex(bench, dialect, history, stream, answer):
    """One call as Codex makes it. Its items are taken from where each is done."""
    bench.upstream.say(answer)
    asked = {
        "model": name(TARGETS[dialect], "openai_responses"),
        "instructions": "You are a coding agent.",
        "input": history,
        "tools": CODEX_TOOLS,
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "session-1",
        "text": {"verbosity": "medium"},
        "stream": stream,
    }
    client = bench.through["openai_responses"]
    if not stream:
        return client.responses.create(**asked).output
    with client.responses.create(**asked) as events:
        events = list(events)
    assert events[-1].type == "response.completed"
    done = [event.item for event in events if event.type == "response.output_item.done"]
    assert [item.to_dict() for item in events[-1].response.output] == [
        item.to_dict() for item in done
    ]
    return done


def heard(bench, dialect):
    request = bench.upstream.asked()
    heard = VALIDATORS[dialect].hear(request)
    assert heard.wrong == [], request.body
    return heard


TASK = {
    "type": "message",
    "role": "user",
    "content": [{"type": "input_text", "text": "Fix it."}],
}
DEVELOPER = {
    "type": "message",
    "role": "developer",
    "content": [{"type": "input_text", "text": "Be careful."}],
}


@pytest.mark.gateway
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("dialect", FOREIGN)
def test_codex_edits_a_file(bench, dialect, stream):
    """It patches by a tool of free text, in a model whose tools take objects."""
    history = [DEVELOPER, TASK]
    codex(bench, dialect, history, stream, says(dialect, stream))
    told = heard(bench, dialect)
    names = [tool.name for tool in told.tools]
    assert names[:2] == ["shell", "apply_patch"]
    # The namespace is flattened, what only OpenAI runs is left out.
    [read] = names[2:]
    assert read.endswith("read") and "mcp__files" in read

    pieces = json.dumps({"input": PATCH})
    halves = [pieces[:9], pieces[9:31], pieces[31:]]
    calls = [
        ("apply_patch", halves),
        (read, ['{"path": "a.txt"}']),
        ("shell", ['{"command": ["ls"]}']),
    ]
    items = codex(bench, dialect, history, stream, says(dialect, stream, *calls))
    patch, reading, shell = [item for item in items if item.type.endswith("_call")]
    assert (patch.type, patch.name, patch.input) == ("custom_tool_call", "apply_patch", PATCH)
    assert reading.type == shell.type == "function_call"
    assert (reading.name, reading.namespace) == ("read", "mcp__files")
    assert json.loads(reading.arguments) == {"path": "a.txt"}

    outputs = [
        {"type": "custom_tool_call_output", "call_id": patch.call_id, "output": "Patched."},
        {"type": "function_call_output", "call_id": shell.call_id, "output": "a.txt"},
        {"type": "function_call_output", "call_id": reading.call_id, "output": "old"},
    ]
    history = [*history, *(item.to_dict() for item in items), *outputs]
    codex(bench, dialect, history, stream, says(dialect, stream))
    told = heard(bench, dialect)
    (_, asked), (_, called), (_, answered) = told.meant()
    assert ("text", "Fix it.") in asked
    assert [block[1:] for block in called if block[0] == "call"] == [
        ("apply_patch", {"input": PATCH}),
        (read, {"path": "a.txt"}),
        ("shell", {"command": ["ls"]}),
    ]
    assert answered == [("result", 0, "Patched."), ("result", 1, "old"), ("result", 2, "a.txt")]


CLAUDE_CODE = {
    "max_tokens": 32000,
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cch=0a1b2;"},
        {"type": "text", "text": "You are a CLI.", "cache_control": {"type": "ephemeral"}},
    ],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system-reminder>Today.</system-reminder>"},
                {
                    "type": "text",
                    "text": "Fix it.",
                    "cache_control": {"type": "ephemeral", "ttl": "1h"},
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {
                    "type": "thinking",
                    "thinking": "Hm.",
                    "signature": "c2lnbmVkIGVsc2V3aGVyZQ==",
                },
                {"type": "text", "text": "Reading."},
                {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "a"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [{"type": "text", "text": "old"}],
                    "cache_control": {"type": "ephemeral"},
                }
            ],
        },
    ],
    "tools": [
        {
            "name": "Read",
            "description": "Reads.",
            "input_schema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {"path": {"type": "string"}},
                "required": ["path"],
                "additionalProperties": False,
            },
        }
    ],
    "thinking": {"type": "adaptive", "display": "omitted"},
    "output_config": {"effort": "high"},
    "metadata": {"user_id": "user_1_account__session_2"},
    "betas": ["claude-code-20250219", "context-management-2025-06-27"],
    "extra_body": {"context_management": {"edits": [{"type": "clear_thinking_20251015"}]}},
}


@pytest.mark.gateway
@pytest.mark.parametrize("dialect", [dialect for dialect in MODELS if dialect != "anthropic"])
def test_claude_code_works_on(bench, dialect):
    """It sends everything that Claude alone knows; another model is asked what remains."""
    answer = says(dialect, True, ("Read", ['{"path":', ' "b"}']))
    bench.upstream.say(answer)
    client = bench.through["anthropic"]
    with client.beta.messages.stream(
        model=name(TARGETS[dialect], "anthropic"), **CLAUDE_CODE
    ) as stream:
        message = stream.get_final_message()
    call = message.content[-1]
    assert call.type == "tool_use"
    assert (call.name, call.input) == ("Read", {"path": "b"})
    assert message.stop_reason == "tool_use"
    told = heard(bench, dialect)
    assert told.system == "You are a CLI."
    (_, asked), (_, called), (_, answered) = told.meant()
    assert asked[-1] == ("text", "Fix it.") or "Fix it." in asked[-1][1]
    assert called[-1] == ("call", "Read", {"path": "a"})
    assert answered == [("result", 0, "old")]
    assert told.signatures in ([], ["c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="])


STRANGE = ["files.read:v2", "mcp__" + "very_" * 20 + "long"]


@pytest.mark.gateway
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("dialect", [dialect for dialect in MODELS if dialect != "gemini"])
def test_a_tool_keeps_its_name_however_a_provider_has_to_call_it(bench, dialect, stream):
    """Google's tools have names that others refuse."""
    module, connected = CLIENTS["gemini"], bench.through["gemini"]
    tools = [type(WEATHER)(strange, "A tool.", WEATHER.schema) for strange in STRANGE]
    ask = Ask(
        model=name(TARGETS[dialect], "gemini"), turns=[("user", [Text("Go.")])], tools=tools
    )
    bench.upstream.say(case(SCENES[0], dialect, stream).answer)
    assert module.read(connected, ask, stream).failure is None
    names = [tool.name for tool in heard(bench, dialect).tools]
    assert len(set(names)) == 2
    bench.upstream.say(says(dialect, stream, *((one, ['{"city": "Rome"}']) for one in names)))
    answer = module.read(connected, ask, stream)
    assert answer.tools == [(strange, {"city": "Rome"}) for strange in STRANGE]
