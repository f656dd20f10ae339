"""Forebay before the scripted upstream: one model for each thing a test wants to ask."""

import datetime
import ipaddress
import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

KEY = "sk-judge-of-every-dialect"
OTHER_KEY = "sk-of-another-tenant"
UPSTREAM_KEY = "sk-upstream"
# What a provider of each dialect is in a configuration, but for its name.
KINDS = {
    "openai_chat": {
        "kind": "openai_compatible",
        "dialect": "openai_chat",
        "base_url": "{url}/v1",
    },
    "openai_responses": {
        "kind": "openai",
        "dialect": "openai_responses",
        "base_url": "{url}/v1",
    },
    "anthropic": {"kind": "anthropic", "base_url": "{url}"},
    "gemini": {"kind": "gemini", "base_url": "{url}"},
    "bedrock": {"kind": "bedrock", "region": "us-east-1", "base_url": "{url}"},
    "vllm": {"kind": "vllm", "base_url": "{url}"},
    # Said, for else Responses pass as they are.
    "azure": {"kind": "azure", "dialect": "openai_chat", "base_url": "{url}"},
    "azure-classic": {
        "kind": "azure",
        "dialect": "openai_chat",
        "base_url": "{url}",
        "api_version": "2024-10-21",
    },
    "vertex": {
        "kind": "vertex",
        "project": "my-project",
        "location": "europe-west4",
        "credentials_file": "{folder}/service-account.json",
        "base_url": "{url}",
    },
    "bedrock-signed": {
        "kind": "bedrock",
        "region": "us-east-1",
        "access_key_id": "AKIDEXAMPLE",
        "secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        "base_url": "{url}",
    },
}
KINDS["vertex-anthropic"] = {**KINDS["vertex"], "dialect": "anthropic"}
# Those that are called with a login instead of a key.
LOGINS = {"vertex", "vertex-anthropic", "bedrock-signed"}


@dataclass
class Models:
    """What the gateway is to offer."""

    url: str
    folder: pathlib.Path
    providers: dict = field(default_factory=dict)
    models: list = field(default_factory=list)

    def offer(self, name, kind, model, alone=False):
        """A model of that name; with a provider of its own, where its failures must reach no other."""
        provider = f"for-{name}" if alone else kind
        if provider not in self.providers:
            words = {"url": self.url, "folder": self.folder}
            said = {key: value.format(**words) for key, value in KINDS[kind].items()}
            if kind not in LOGINS:
                said["api_keys"] = [UPSTREAM_KEY]
            self.providers[provider] = {
                "name": provider,
                **said,
                "health_check": {"type": "none"},
                "ejection": "off",
            }
        self.models.append({"name": name, "targets": [{"provider": provider, "model": model}]})

    def configuration(self, listeners, heartbeat):
        return {
            "version": 1,
            "threads": 2,
            "listen": listeners,
            "providers": list(self.providers.values()),
            "models": self.models,
            "keys": [{"name": "judge", "key": KEY}, {"name": "other", "key": OTHER_KEY}],
            "retry": {"attempts": 1},
            "heartbeat": heartbeat,
        }


class Gateway:
    """A running Forebay. `url` is plain; `secure_url` is encrypted, by the certificate at `ca`."""

    def __init__(self, models, heartbeat="15s"):
        folder = models.folder
        self.ca = str(certificate(folder))
        service_account(folder, models.url)
        plain, secure = ports(2)
        self.url = f"http://127.0.0.1:{plain}"
        self.secure_url = f"https://127.0.0.1:{secure}"
        tls = {"cert": self.ca, "key": str(folder / "key.pem")}
        listeners = [
            {"address": f"127.0.0.1:{plain}"},
            {"address": f"127.0.0.1:{secure}", "tls": tls},
        ]
        # JSON is YAML.
        config = folder / "forebay.yaml"
        config.write_text(json.dumps(models.configuration(listeners, heartbeat), indent=1))
        self.log = folder / "forebay.log"
        command = [os.environ["FOREBAY_BIN"], "run", "-c", str(config)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.wait()

    def wait(self):
        deadline = time.monotonic() + 30
        while True:
            assert self.process.poll() is None, f"it has ended:\n{self.log.read_text()[-4000:]}"
            try:
                urllib.request.urlopen(f"{self.url}/health/ready", timeout=2).close()
                return
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < deadline, (
                    f"not ready:\n{self.log.read_text()[-4000:]}"
                )
                time.sleep(0.05)

    def connect(self, client):
        """A client of this gateway. boto3 sends its key over TLS only."""
        if client.__name__.endswith("bedrock"):
            return client.connect(self.secure_url, KEY, self.ca)
        return client.connect(self.url, KEY)

    def stop(self):
        self.process.kill()
        self.process.wait()


def ports(count):
    """Free ports, held at the same time, so that they differ."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    numbers = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return numbers


def certificate(folder):
    """A certificate of 127.0.0.1 that vouches for itself, with its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "key.pem").write_text(written(key))
    path = folder / "certificate.pem"
    path.write_bytes(signed.public_bytes(pem))
    return path


def service_account(folder, url):
    """A login of Google's, whose tokens come from the upstream."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    login = {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "1",
        "private_key": written(key),
        "client_email": "judge@my-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"{url}/token",
    }
    (folder / "service-account.json").write_text(json.dumps(login))


def written(key):
    pem = serialization.Encoding.PEM
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(pem, *private).decode()
