"""Forebay and a Python backend read the same in every body, or the backend never sees it.

vLLM, and most of what stands behind a gateway, reads JSON with Python. Two readers that differ let a
caller pass as one thing here and as another there: by a second `model`, by an encoding, by a number.
So a gateway of its own is set before two backends that note what `json.loads` makes of a body. What
passes must have been understood by the backend it was meant for as Python understands the original,
but for the edits the gateway is configured to make.
"""

import http.client
import json
import os
import random
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.gateway

# What a caller says, which of the backends is meant, and what that one calls it.
MODELS = {"cheap": (0, "cheap-there"), "dear": (1, "dear-there")}
CAP = 100
DOCUMENTS = 4000

CONFIG = """
threads: 2
listen: [{{ address: "127.0.0.1:{port}" }}]
providers:
  - {{ name: one, kind: openai_compatible, base_url: "http://127.0.0.1:{one}/v1" }}
  - {{ name: two, kind: openai_compatible, base_url: "http://127.0.0.1:{two}/v1" }}
models:
  - {{ name: cheap, targets: [{{ provider: one, model: cheap-there }}], request: {{ max_tokens: {cap} }} }}
  - {{ name: dear, targets: [{{ provider: two, model: dear-there }}], request: {{ max_tokens: {cap} }} }}
"""


class Backend(ThreadingHTTPServer):
    """Reads a body as Python does, and keeps what it read."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.understood = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        self.answer(200, {"object": "list", "data": []})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            understood = json.loads(body)
        except (ValueError, RecursionError) as error:
            understood = error
        self.server.understood.append(understood)
        self.answer(200, {"object": "chat.completion", "choices": []})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Gateway:
    """A gateway before two such backends."""

    def __init__(self, folder):
        self.backends = [Backend(), Backend()]
        with socket.create_server(("127.0.0.1", 0)) as held:
            port = held.getsockname()[1]
        one, two = (backend.server_port for backend in self.backends)
        file = folder / "forebay.yaml"
        file.write_text(CONFIG.format(port=port, one=one, two=two, cap=CAP))
        with open(folder / "log", "w") as log:
            command = [os.environ["FOREBAY_BIN"], "run", "-c", file]
            self.process = subprocess.Popen(command, stderr=log, stdout=log)
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.connection.request("GET", "/health/ready")
                if self.connection.getresponse().read() is not None:
                    return
            except ConnectionError:
                self.connection.close()
            assert self.process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)

    def ask(self, body):
        """The status of the answer, and what each backend has read meanwhile."""
        before = [len(backend.understood) for backend in self.backends]
        headers = {"content-type": "application/json"}
        try:
            self.connection.request("POST", "/v1/chat/completions", body, headers)
            answer = self.connection.getresponse()
        except ConnectionError:
            # After a refusal the gateway may close; asked once more on a new connection, it answers.
            self.connection.close()
            self.connection.request("POST", "/v1/chat/completions", body, headers)
            answer = self.connection.getresponse()
        answer.read()
        backends = zip(self.backends, before)
        return answer.status, [backend.understood[count:] for backend, count in backends]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    gateway = Gateway(tmp_path_factory.mktemp("verdicts"))
    yield gateway
    gateway.process.kill()
    gateway.process.wait()


def edited(document):
    """What the backend should understand: the original, and the gateway's edits of it."""
    index, name = MODELS[document["model"]]
    wanted = {**document, "model": name}
    caps = [name for name in ("max_tokens", "max_completion_tokens") if wanted.get(name) is not None]
    for cap in caps:
        wanted[cap] = min(wanted[cap], CAP)
    if not caps:
        wanted["max_tokens"] = CAP
    if document.get("stream") is True:
        wanted["stream_options"] = {**(document.get("stream_options") or {}), "include_usage": True}
    return index, wanted


def judge(gateway, body):
    """True when the body passed."""
    status, understood = gateway.ask(body)
    if status != 200:
        assert status in (400, 404), (status, body)
        assert understood == [[], []], f"refused, and sent on all the same: {body!r}"
        if status == 404:
            assert json.loads(body)["model"] not in MODELS, body
        return False
    index, wanted = edited(json.loads(body))
    assert understood[1 - index] == [], f"sent to the other backend: {body!r}"
    assert written(understood[index]) == written([wanted]), body
    return True


def written(value):
    """To Python 1, 1.0 and True are equal; they are written differently."""
    assert not any(isinstance(one, Exception) for one in value), value
    return json.dumps(value, sort_keys=True)


# === documents ===

WORDS = ["model", "stream", "max_tokens", "n", "user", "messages", "stream_options"]
TEXTS = st.text(max_size=12) | st.sampled_from(["cheap", "dear", "é😀", '"\\', "\u2028", "\x7f"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
ODD_VALUES = [
    "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e308", "-0", "-0.0", "01", "1.", ".5", "+1", "0x1",
    "1_000", "9" * 30, "9" * 400, "9" * 1025, "9" * 5000, "0." + "1" * 1100, "1E-7", "1e-400", "2" * 308,
    '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\x41"', '"\\u00g0"', "'x'", "tru",
    "True", "None", "undefined", '"a\nb"', '"\t"', '"\x00"', "[1,]", "{,}", '{"a":1,}', "[1 2]", "/* x */ 1",
    '{"model":"dear"}', '{"a":1,"a":2}', '{"a":1,"\\u0061":2}', "[" * 126 + "]" * 126, "[" * 127 + "]" * 127,
    "[" * 128 + "]" * 128, "[" * 2000 + "]" * 2000, '{"a":' * 140 + "1" + "}" * 140, "null", '"dear"', "true",
    "1", "0", "[]", "{}", '""', '{"include_usage":true}', '{"include_usage":false,"include_usag\\u0065":true}',
]
SPACES = ["", "", "", " ", "\n", "\r\n\t ", "\x0b", "\x0c", "\u00a0", "\ufeff", "\u2003", "\x00", "//x\n"]
BEHIND = ["x", "{}", '{"model":"dear"}', "\x00", ",", "]", "}", "\n\n", " ", "\ufeff", "#", "\x1a"]
ENCODINGS = ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "latin-1"]


def escaped(text, chance):
    """The JSON string, some of its letters as escapes."""
    letters = []
    for letter in text:
        if ord(letter) < 0x10000 and chance.random() < 0.5:
            code = f"{ord(letter):04x}"
            letters.append("\\u" + "".join(chance.choice([digit, digit.upper()]) for digit in code))
        else:
            letters.append(json.dumps(letter, ensure_ascii=False)[1:-1])
    return '"' + "".join(letters) + '"'


@st.composite
def documents(draw):
    """A chat as bytes, and whether it was left as it is: valid."""
    chance = random.Random(draw(st.integers(0, 2**32)))

    def some(share):
        return chance.random() < share

    members = [
        ("model", json.dumps(chance.choice(list(MODELS) if some(0.95) else ["cheaper", "", "Cheap"]))),
        ("messages", json.dumps([{"role": "user", "content": draw(TEXTS)}], ensure_ascii=some(0.5))),
    ]
    if some(0.4):
        members.append(("stream", chance.choice(["true", "false", "null"])))
        if some(0.5):
            given_ = ["null", "{}", '{"include_usage": false}', '{"x":[1]}', '{"include_usage":true}']
            members.append(("stream_options", chance.choice(given_)))
    if some(0.4):
        members.append(("max_tokens", chance.choice(["1", "100", "101", "4096", "null"])))
    for name in ("n", "user", "metadata", "Model", "MODEL", "seed"):
        if some(0.2):
            members.append((name, json.dumps(draw(VALUES), ensure_ascii=some(0.5))))
    chance.shuffle(members)
    members = [(json.dumps(name), value) for name, value in members]

    mutations = [] if some(0.2) else chance.choices(
        ["twice", "twice", "escape", "odd", "nest", "space", "behind", "encoding", "bytes", "cut"],
        k=chance.choice([1, 1, 1, 2, 3]),
    )
    for mutation in mutations:
        at = chance.randrange(len(members) + 1)
        index = chance.randrange(len(members))
        name, value = members[index]
        if mutation == "twice":
            name = chance.choice([name, escaped(json.loads(name), chance), json.dumps(chance.choice(WORDS))])
            value = chance.choice([value, '"dear"', '"cheap"', "null", "true", chance.choice(ODD_VALUES)])
            members.insert(at, (name, value))
        elif mutation == "escape":
            value = escaped(json.loads(value), chance) if value.startswith('"') else value
            members[index] = (escaped(json.loads(name), chance), value)
        elif mutation == "odd":
            odd = chance.choice(ODD_VALUES)
            members[index] = (name, odd) if some(0.5) else ('"x"', odd)
        elif mutation == "nest":
            wrapped = "{" + ",".join(":".join(member) for member in members) + "}"
            members.insert(at, ('"inner"', wrapped if some(0.5) else f"[{wrapped},{wrapped}]"))

    space = (lambda: chance.choice(SPACES)) if "space" in mutations else (lambda: "")
    joined = ",".join(
        space() + name + space() + ":" + space() + value + space() for name, value in members
    )
    text = space() + "{" + joined + "}" + space()
    if "behind" in mutations:
        text += chance.choice(BEHIND)
    encoding = chance.choice(ENCODINGS) if "encoding" in mutations else "utf-8"
    body = bytearray(text.encode(encoding, "replace"))
    if "bytes" in mutations:
        for _ in range(chance.choice([1, 1, 2, 4])):
            at = chance.randrange(len(body))
            kind = chance.choice(["put", "insert", "drop"])
            byte = chance.choice([0, 0x22, 0x5C, 0x7D, 0x80, 0xC0, 0xED, 0xFF, chance.randrange(256)])
            if kind == "put":
                body[at] = byte
            elif kind == "insert":
                body.insert(at, byte)
            elif len(body) > 1:
                del body[at]
    if "cut" in mutations:
        del body[chance.randrange(len(body)):]
    return bytes(body), not mutations


tally = {"documents": 0, "passed": 0}


@settings(
    max_examples=DOCUMENTS,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(documents())
def one_verdict(gateway, document):
    body, valid = document
    passed = judge(gateway, body)
    tally["documents"] += 1
    tally["passed"] += passed
    if valid and json.loads(body)["model"] in MODELS:
        assert passed, f"a valid chat was refused: {body!r}"


def test_the_gateway_and_python_never_differ(gateway):
    one_verdict(gateway)
    print(tally)
    # Neither a generator of rubbish nor a gateway that refuses everything would show anything.
    assert tally["documents"] >= 2000, tally
    assert 0.2 < tally["passed"] / tally["documents"] < 0.8, tally


@pytest.mark.parametrize("twice", ["model", "stream", "max_tokens", "n", "user", "messages", "x"])
@pytest.mark.parametrize("spell", [json.dumps, lambda name: '"\\u%04x%s"' % (ord(name[0]), name[1:])])
def test_no_name_stands_twice(gateway, twice, spell):
    values = {"model": '"dear"', "user": '"a"', "messages": "[]", "stream": "true"}
    value = values.get(twice, "1")
    body = '{"model":"cheap","%s":%s,%s:%s,"messages":[]}' % (twice, value, spell(twice), value)
    assert not judge(gateway, body.encode())


# Python reads these; servers in other languages do not, or not so.
@pytest.mark.parametrize("inside", ["NaN", "-Infinity", "1e400", r'"\ud800"', r'{"\udc00":1}'])
def test_what_only_python_reads_is_refused(gateway, inside):
    body = '{"model":"cheap","x":%s}' % inside
    json.loads(body)
    assert not judge(gateway, body.encode())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_only_plain_utf8_is_read(gateway, encoding):
    body = '{"model":"cheap"}'.encode(encoding)
    assert json.loads(body) == {"model": "cheap"}
    assert not judge(gateway, body)


def test_what_is_only_odd_passes(gateway):
    for inside in ["1e308", "-0.0", "9" * 300, '"\\ud83d\\ude00"', '{"a":1,"a":2}', "[" * 127 + "]" * 127]:
        body = '\r\n{\t"mod\\u0065l" : "d\\u0065ar","Model":"cheap","x":%s }\n' % inside
        # Of two nested names Python takes the last, as it does behind the gateway.
        assert judge(gateway, body.encode()), inside
