"""A provider that says what a test wrote down for it, in any of the five dialects.

It knows every provider's paths, answers only on those of the dialect it was told to speak, cuts its
answer into pieces of any size, may break off, and keeps the requests it got.
"""

import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "token-of-the-cloud"
MODEL = r"(?P<model>[^/]+)"
VERTEX = r"/v1(beta1)?/projects/[^/]+/locations/[^/]+/publishers"
AZURE = r"/openai/deployments/[^/]+"
# What a provider answers on, which dialect it speaks there, and whether the path says it streams.
PATHS = [
    (r"/v1/chat/completions", "openai_chat", None),
    (r"/openai/v1/chat/completions", "openai_chat", None),
    (AZURE + r"/chat/completions", "openai_chat", None),
    (r"/v1/responses", "openai_responses", None),
    (r"/openai/v1/responses", "openai_responses", None),
    (r"/openai/responses", "openai_responses", None),
    (r"/v1/messages", "anthropic", None),
    (VERTEX + f"/anthropic/models/{MODEL}:rawPredict", "anthropic", False),
    (VERTEX + f"/anthropic/models/{MODEL}:streamRawPredict", "anthropic", True),
    (f"/v1(beta)?/models/{MODEL}:generateContent", "gemini", False),
    (f"/v1(beta)?/models/{MODEL}:streamGenerateContent", "gemini", True),
    (VERTEX + f"/google/models/{MODEL}:generateContent", "gemini", False),
    (VERTEX + f"/google/models/{MODEL}:streamGenerateContent", "gemini", True),
    (f"/model/{MODEL}/converse", "bedrock", False),
    (f"/model/{MODEL}/converse-stream", "bedrock", True),
    # How many tokens a prompt has.
    (r"/v1/messages/count_tokens", "anthropic_count", False),
    (r"/v1/responses/input_tokens", "openai_responses_count", False),
    (f"/v1(beta)?/models/{MODEL}:countTokens", "gemini_count", False),
    (f"/model/{MODEL}/count-tokens", "bedrock_count", False),
    (r"/tokenize", "vllm_count", False),
    # Embeddings: Google has two verbs, AWS as many bodies as there are models.
    (r"/v1/embeddings", "openai_embeddings", False),
    (f"/v1(beta)?/models/{MODEL}:embedContent", "gemini_embeddings", False),
    (f"/v1(beta)?/models/{MODEL}:batchEmbedContents", "gemini_embeddings_batch", False),
    (f"/model/{MODEL}/invoke", "bedrock_embeddings", False),
]
PATHS = [(re.compile(path), dialect, streams) for path, dialect, streams in PATHS]


@dataclass
class Answer:
    """What the provider says: to every request, until the test says otherwise."""

    dialect: str
    kind: str  # json | sse | eventstream
    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: dict = field(default_factory=dict)
    piece: int = 0  # bytes per chunk; 0: the whole body in one
    broken: bool = False  # the connection closes where the last chunk should be
    wait: float = 0.0  # seconds between the head and the body

    @property
    def streams(self):
        return self.kind != "json"


@dataclass
class Request:
    """What the provider got."""

    path: str
    query: dict
    headers: dict
    body: dict
    dialect: str
    model: str | None
    streams: bool
    target: str = ""  # the address and the bytes, as they came
    data: bytes = b""


class Upstream(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = {}
        self.requests = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def say(self, *answers):
        """From now on, each to calls of its dialect; what was asked before is forgotten."""
        self.requests = []
        self.answers = {answer.dialect: answer for answer in answers}

    def handle_error(self, request, client_address):
        """A caller that has gone is none of ours."""

    def asked(self):
        """The one request of this answer."""
        assert len(self.requests) == 1, f"{len(self.requests)} requests came: {self.requests}"
        return self.requests[0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send(200, "application/json", b'{"status":"ok"}')

    def do_POST(self):
        body = self.read_body()
        parts = urlsplit(self.path)
        if parts.path == "/token":
            token = {"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"}
            return self.send(200, "application/json", json.dumps(token).encode())
        request = understood(parts, {k.lower(): v for k, v in self.headers.items()}, body)
        request.target, request.data = self.path, body
        self.server.requests.append(request)
        answer = self.server.answers.get(request.dialect)
        problem = refused(request, answer, self.server.answers)
        if problem:
            return self.send(404, "text/plain", problem.encode())
        self.say(answer)

    def read_body(self):
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def send(self, status, content_type, body, headers=()):
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def say(self, answer):
        if not answer.streams and not answer.piece and not answer.broken:
            return self.send(answer.status, answer.content_type, answer.body, answer.headers)
        self.send_response(answer.status)
        self.send_header("content-type", answer.content_type)
        self.send_header("transfer-encoding", "chunked")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()
        time.sleep(answer.wait)
        size = answer.piece or len(answer.body) or 1
        for start in range(0, len(answer.body), size):
            piece = answer.body[start : start + size]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if answer.broken:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")


def understood(parts, headers, body):
    """The request as this provider's front door reads it."""
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    body = json.loads(body or b"{}")
    for path, dialect, streams in PATHS:
        if found := path.fullmatch(parts.path):
            model = found.groupdict().get("model")
            return Request(
                path=parts.path,
                query=query,
                headers=headers,
                body=body,
                dialect=dialect,
                model=unquote(model) if model else body.get("model"),
                streams=bool(body.get("stream")) if streams is None else streams,
            )
    return Request(parts.path, query, headers, body, "none", None, False)


def refused(request, answer, answers):
    """Why a provider of these answers has nothing at this address, if so."""
    if answer is None:
        return f"{request.path} is no path of {' or '.join(answers) or 'anyone here'}"
    # A failure before the answer is the same for both.
    if answer.status == 200 and request.streams != answer.streams:
        return f"asked for stream={request.streams}, but the answer is {answer.kind}"
    if request.dialect == "gemini" and request.streams and request.query.get("alt") != "sse":
        return "without alt=sse a stream of Gemini is one JSON array"
    return None
