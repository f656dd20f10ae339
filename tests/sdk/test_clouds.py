"""The same dialects in the clouds: other addresses, other logins, the same meaning."""

from dataclasses import replace

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from clients import CLIENTS
from gateway import KINDS, UPSTREAM_KEY
from judges import Bench, rules
from meaning import differences
from scenes import SCENES, case
from upstream import TOKEN

DIALECTS = {
    "azure": "openai_chat",
    "azure-classic": "openai_chat",
    "vertex": "gemini",
    "vertex-anthropic": "anthropic",
    "bedrock-signed": "bedrock",
}
VERTEX = "/v1/projects/my-project/locations/europe-west4/publishers"
PATHS = {
    ("azure", False): "/openai/v1/chat/completions",
    ("azure-classic", False): "/openai/deployments/qwen3-32b/chat/completions",
    ("vertex", False): f"{VERTEX}/google/models/gemini-3-flash-preview:generateContent",
    ("vertex", True): f"{VERTEX}/google/models/gemini-3-flash-preview:streamGenerateContent",
    ("vertex-anthropic", False): f"{VERTEX}/anthropic/models/claude-sonnet-4-5:rawPredict",
    ("vertex-anthropic", True): f"{VERTEX}/anthropic/models/claude-sonnet-4-5:streamRawPredict",
}


def cases(stream):
    """A thought and a call, by each cloud."""
    scene = next(scene for scene in SCENES if scene.id == "tool-thinking")
    for kind, dialect in DIALECTS.items():
        one = case(scene, dialect, stream)
        yield replace(one, id=f"{one.id}-{kind}", kind=kind)


CASES = [*cases(False), *cases(True)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("clouds"), CASES)
    yield bench
    bench.close()


@pytest.mark.gateway
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_a_cloud_is_called_as_it_wants_and_means_the_same(bench, case, client):
    own = bench.read_own(case)
    through = bench.read_through(case, client)
    assert differences(own, through) + rules(client, through) == []
    request = bench.upstream.asked()
    path = PATHS.get((case.kind, case.stream)) or PATHS.get((case.kind, False))
    if path:
        assert request.path == path
    CREDENTIALS[case.kind](request)
    if case.kind == "vertex-anthropic":
        assert request.body["anthropic_version"] == "vertex-2023-10-16"
        assert "model" not in request.body


def with_key(request):
    assert request.headers["api-key"] == UPSTREAM_KEY
    assert "authorization" not in request.headers


def with_token(request):
    assert request.headers["authorization"] == f"Bearer {TOKEN}"


def with_signature(request):
    """What botocore makes of the very same request."""
    said = dict(
        part.split("=", 1)
        for part in request.headers["authorization"].split(" ", 1)[1].split(", ")
    )
    signed = {name: request.headers[name] for name in said["SignedHeaders"].split(";")}
    url = f"http://{request.headers['host']}{request.target}"
    again = AWSRequest(method="POST", url=url, data=request.data, headers=signed)
    again.context["timestamp"] = request.headers["x-amz-date"]
    login = KINDS["bedrock-signed"]
    keys = Credentials(login["access_key_id"], login["secret_access_key"])
    signer = SigV4Auth(keys, "bedrock", "us-east-1")
    words = signer.string_to_sign(again, signer.canonical_request(again))
    assert said["Signature"] == signer.signature(words, again)
    assert {"host", "x-amz-date"} <= signed.keys()


CREDENTIALS = {
    "azure": with_key,
    "azure-classic": with_key,
    "vertex": with_token,
    "vertex-anthropic": with_token,
    "bedrock-signed": with_signature,
}
