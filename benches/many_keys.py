#!/usr/bin/env python3
"""What 100,000 keys cost: start, memory and CPU time of a request, beside a gateway with ten.

    cargo build --profile bench --bin forebay
    python3 benches/many_keys.py [target/release/forebay]

Both stores are SQLite files made here: ten keys by the admin API, the others copies of the first with a
digest and a name of their own. The two gateways are started in turn, five times each; of each figure the
median is printed, and its least and most.
"""

import hashlib
import http.client
import json
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS, REQUESTS, MANY = 5, 20_000, 100_000
OPERATOR = "operator-key-of-the-benchmark"
CHAT = json.dumps({"model": "mock", "messages": [{"role": "user", "content": "hello"}]})


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Gateway:
    """One process over one store; its start is timed until it says that it is ready."""

    def __init__(self, binary, folder, store):
        self.port, self.admin = free_port(), free_port()
        file = os.path.join(folder, f"{self.port}.yaml")
        with open(file, "w") as out:
            out.write(
                f"listen: [{{ address: 127.0.0.1:{self.port} }}]\n"
                f"admin: {{ listen: 127.0.0.1:{self.admin}, key: {OPERATOR} }}\n"
                f"store: {{ url: 'sqlite:{store}' }}\n"
                "providers: [{ name: mock, kind: mock }]\n"
                "models: [{ name: mock, targets: [{ provider: mock }] }]\n"
            )
        begun = time.monotonic()
        self.process = subprocess.Popen([binary, "run", "-c", file], stderr=subprocess.DEVNULL)
        while not self.ready():
            if self.process.poll() is not None:
                sys.exit(f"the gateway ended with {self.process.returncode}")
            time.sleep(0.005)
        self.start = time.monotonic() - begun

    def ready(self):
        try:
            line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            line.request("GET", "/health/ready")
            return line.getresponse().status == 200
        except OSError:
            return False

    def memory(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def per_request(self, keys):
        """CPU time of a chat in microseconds, with each of the keys in turn."""
        line = http.client.HTTPConnection("127.0.0.1", self.port)
        before = self.cpu()
        for number in range(REQUESTS):
            if number % 500 == 0:
                line.close()
            headers = {"authorization": f"Bearer {keys[number % len(keys)]}"}
            line.request("POST", "/v1/chat/completions", CHAT, headers)
            answer = line.getresponse()
            answer.read()
            if answer.status != 200:
                sys.exit(f"a call was answered with {answer.status}")
        return (self.cpu() - before) / REQUESTS * 1e6

    def make_key(self, number):
        line = http.client.HTTPConnection("127.0.0.1", self.admin)
        body = {"name": f"key {number}", "allowed_models": ["mock"],
                "limits": {"requests_per_minute": 1_000_000_000}}
        line.request("POST", "/admin/v1/keys", json.dumps(body),
                     {"authorization": f"Bearer {OPERATOR}", "content-type": "application/json"})
        return json.load(line.getresponse())["key"]

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def multiply(store):
    """Copies the first key of a store until there are many."""
    base = sqlite3.connect(store)
    (body,) = base.execute("SELECT body FROM forebay_records WHERE kind = 'keys' LIMIT 1").fetchone()
    first = json.loads(body)
    (revision,) = base.execute("SELECT value FROM forebay_revision").fetchone()
    rows = []
    for number in range(MANY - 10):
        digest = hashlib.sha256(f"key {number}".encode()).hexdigest()
        key = first | {"id": f"key_{number:022}", "name": f"copy {number}", "digest": digest}
        rows.append(("keys", key["id"], revision + 1, digest, json.dumps(key), first["created_at"]))
    base.executemany("INSERT INTO forebay_records VALUES (?, ?, ?, ?, ?, ?)", rows)
    base.execute("UPDATE forebay_revision SET value = ?", (revision + 1,))
    base.commit()
    base.close()


def main():
    binary = sys.argv[1] if len(sys.argv) > 1 else "target/release/forebay"
    with tempfile.TemporaryDirectory() as folder:
        stores, keys = {}, {}
        for name in ("10", f"{MANY:,}"):
            stores[name] = os.path.join(folder, name.replace(",", ""))
            maker = Gateway(binary, folder, stores[name])
            keys[name] = [maker.make_key(number) for number in range(10)]
            maker.stop()
        multiply(stores[f"{MANY:,}"])
        figures = {name: ([], [], []) for name in stores}
        for _ in range(ROUNDS):
            for name, store in stores.items():
                gateway = Gateway(binary, folder, store)
                starts, memories, costs = figures[name]
                starts.append(gateway.start)
                memories.append(gateway.memory())
                costs.append(gateway.per_request(keys[name]))
                gateway.stop()
    print("| keys | ready after, s | memory then, MiB | CPU time of a chat, µs |\n|--:|--:|--:|--:|")
    for name, columns in figures.items():
        cells = [f"{statistics.median(it):.2f} ({min(it):.2f}..{max(it):.2f})" for it in columns]
        print(f"| {name} |", " | ".join(cells), "|")
    few, many = (statistics.median(columns[1]) for columns in figures.values())
    print(f"{(many - few) * 1024 * 1024 / (MANY - 10):.0f} bytes of memory a key")


main()
