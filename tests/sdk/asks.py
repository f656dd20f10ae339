"""What callers ask of a model, to be understood the same by every provider."""

import base64

from meaning import Ask, Call, Document, Image, Result, Text, Tool

# One red pixel.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
PDF = b"%PDF-1.4\n%\xfb\xff\xbf\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n"
CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Where."},
        "days": {"type": "integer"},
    },
    "required": ["city"],
    "additionalProperties": False,
}
ANSWER = {
    "type": "object",
    "properties": {
        "places": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "kind": {"enum": ["city", "sea"]}},
                "required": ["name", "kind"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["places"],
    "additionalProperties": False,
}
WEATHER = Tool("get_weather", "The weather of a city.", CITY)
CLOCK = Tool("get_time", "What time it is.", {"type": "object", "properties": {}})
HELLO = ("user", [Text("Grüße, \u201cWelt\u201d 👋🏽")])
PARIS = Call("call_1", "get_weather", {"city": "Paris", "days": 2})
ROME = Call("call_2", "get_weather", {"city": "Rome"})

ASKS = {
    "text-with-system": Ask(system="Be brief.\nBe kind.", turns=[HELLO]),
    "conversation": Ask(
        turns=[HELLO, ("assistant", [Text("Hello.")]), ("user", [Text("And now?")])],
        max_tokens=300,
    ),
    "image": Ask(turns=[("user", [Text("What is this?"), Image("image/png", PIXEL)])]),
    "tools": Ask(turns=[HELLO], tools=[WEATHER, CLOCK]),
    "tool-demanded": Ask(turns=[HELLO], tools=[WEATHER], choice="required"),
    "tool-named": Ask(turns=[HELLO], tools=[WEATHER, CLOCK], choice="get_time"),
    "tool-result": Ask(
        system="Be brief.",
        turns=[
            HELLO,
            ("assistant", [Call("call_9", "get_time", {})]),
            ("user", [Result("call_9", "get_time", "Noon — “12:00”.")]),
        ],
        tools=[CLOCK],
    ),
    "parallel-results-out-of-order": Ask(
        turns=[
            HELLO,
            ("assistant", [Text("Both."), PARIS, ROME]),
            (
                "user",
                [Result("call_2", "get_weather", "21"), Result("call_1", "get_weather", "18")],
            ),
        ],
        tools=[WEATHER],
    ),
    "results-then-text": Ask(
        turns=[
            HELLO,
            ("assistant", [PARIS, ROME]),
            (
                "user",
                [
                    Result("call_2", "get_weather", "21"),
                    Result("call_1", "get_weather", "18"),
                    Text("Summarise."),
                ],
            ),
            ("assistant", [Text("Rome is warmer.")]),
            ("user", [Text("Thanks.")]),
        ],
        tools=[WEATHER],
    ),
    "strange-id": Ask(
        turns=[
            HELLO,
            ("assistant", [Call("call|1/ä:" + "x" * 50, "get_weather", {"city": "Paris"})]),
            ("user", [Result("call|1/ä:" + "x" * 50, "get_weather", "18")]),
        ],
        tools=[WEATHER],
    ),
    "history-without-tools": Ask(
        turns=[
            HELLO,
            ("assistant", [PARIS]),
            ("user", [Result("call_1", "get_weather", "18"), Text("So?")]),
        ],
    ),
    "failed-tool": Ask(
        turns=[
            HELLO,
            ("assistant", [PARIS]),
            ("user", [Result("call_1", "get_weather", "No such city.", error=True)]),
        ],
        tools=[WEATHER],
    ),
    "image-of-a-tool": Ask(
        turns=[
            HELLO,
            ("assistant", [PARIS]),
            ("user", [Result("call_1", "get_weather", "A map:", Image("image/png", PIXEL))]),
        ],
        tools=[WEATHER],
    ),
    "document": Ask(turns=[("user", [Text("Read this."), Document("report", PDF)])]),
    "one-call-at-a-time": Ask(turns=[HELLO], tools=[WEATHER], parallel=False),
    "schema": Ask(turns=[HELLO], schema=ANSWER),
    "effort-low": Ask(turns=[HELLO], effort="low"),
    "effort-medium": Ask(turns=[HELLO], effort="medium"),
    "effort-high-with-tools": Ask(turns=[HELLO], effort="high", tools=[WEATHER]),
    "limits": Ask(turns=[HELLO], max_tokens=200, stop=["END", "\n###"]),
    "warm": Ask(turns=[HELLO], temperature=0.5),
}
# What a client's own provider refuses, so that nobody asks it.
UNSAID = {
    (
        "warm",
        "anthropic",
    ): "temperature is refused since version 2026-10-21, which the SDK sends",
    ("strange-id", "anthropic"): "the API refuses such an id itself",
    ("strange-id", "bedrock"): "the API refuses such an id itself",
    ("failed-tool", "openai_chat"): "a chat has no word for it",
    ("failed-tool", "openai_responses"): "Responses have no word for it",
    ("image-of-a-tool", "openai_chat"): "a chat's tools answer in text",
    ("one-call-at-a-time", "gemini"): "Google has no word for it",
    ("history-without-tools", "bedrock"): "the API refuses it itself",
}
# What a dialect has no word for, and what a model refuses: it is dropped.
WORDLESS = {
    "openai_responses": {"stop"},
    "gemini": {"parallel calls"},
    "claude-adaptive": {"temperature"},
    "gpt-5.2": {"temperature"},
    "gpt-4.1": {"effort", "thoughts shown"},
}
