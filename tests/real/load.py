"""Chat calls, several at once and some of them streamed, while one of the servers behind dies and comes back.

    python load.py --url http://127.0.0.1:8080 --key KEY --model tiny --victim PORT --control vllm.sh --options "..."

Prints what happened, and ends with 1 when a single call has failed.

A stream that has begun cannot move to another server, and no gateway can make up for that: so no stream is open at
the instant of the kill. Plain calls are, and they must all be answered.
"""

import argparse
import collections
import json
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request

WORKERS = 4
TIMEOUT = 120
PAUSE = 0.15
BEFORE, DURING, AFTER = 60, 80, 60


class Load:
    """Workers that call until they are told to stop."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.changed = threading.Condition()
        self.calls = 0
        self.streams_allowed = True
        self.open = collections.Counter()
        self.kinds = collections.Counter()
        self.failures = []
        self.running = True
        self.workers = [threading.Thread(target=self.work, args=(n,)) for n in range(WORKERS)]

    def work(self, number):
        while self.running:
            with self.changed:
                # Every third call is a stream.
                kind = "stream" if self.calls % 3 == 2 and self.streams_allowed else "plain"
                self.calls += 1
                self.open[kind] += 1
            try:
                call(self.arguments, kind)
            except Exception as failure:  # whatever goes wrong is a failed call
                moment = time.strftime("%H:%M:%S")
                self.failures.append(f"{moment} {kind}: {type(failure).__name__}: {failure}")
            # The servers and the one that starts share a small machine.
            time.sleep(PAUSE)
            with self.changed:
                self.open[kind] -= 1
                self.kinds[kind] += 1
                self.changed.notify_all()

    def wait(self, condition, seconds=TIMEOUT):
        with self.changed:
            if not self.changed.wait_for(condition, seconds):
                raise TimeoutError("the calls do not get on")

    def more(self, count):
        """Waits for so many more calls to end."""
        goal = self.done() + count
        self.wait(lambda: self.done() >= goal)

    def done(self):
        return sum(self.kinds.values())

    def without_streams(self, action):
        """Acts while no stream is open, and at least one plain call is."""
        with self.changed:
            self.streams_allowed = False
            ready = lambda: self.open["stream"] == 0 and self.open["plain"] > 1
            if not self.changed.wait_for(ready, TIMEOUT):
                raise TimeoutError("the streams do not end")
            plain = self.open["plain"]
            action()
            self.streams_allowed = True
        return plain


def call(arguments, kind):
    """One call; raises when the answer is anything but whole and right."""
    body = {
        "model": arguments.model,
        "max_tokens": 48,
        "ignore_eos": True,
        "stream": kind == "stream",
        "messages": [{"role": "user", "content": "Tell me about dams."}],
    }
    request = urllib.request.Request(
        arguments.url + "/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {arguments.key}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            text = response.read().decode()
    except urllib.error.HTTPError as refusal:
        raise RuntimeError(f"{refusal.code} {refusal.read()[:300]!r}") from None
    if kind == "plain":
        finish = json.loads(text)["choices"][0]["finish_reason"]
    else:
        # Not splitlines(): it also splits at characters that a model may say.
        *events, last = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
        if last != "[DONE]" or any("error" in json.loads(event) for event in events):
            raise RuntimeError(f"the stream ended with {text[-300:]!r}")
        choices = [event["choices"] for event in map(json.loads, events) if event["choices"]]
        finish = choices[-1][0]["finish_reason"]
    if finish != "length":
        raise RuntimeError(f"finished by {finish!r}")


def served(port):
    """How many requests a vLLM server says it has finished."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as metrics:
        lines = re.findall(r"^vllm:request_success_total\S* (\S+)", metrics.read().decode(), re.M)
    return int(sum(map(float, lines)))


def say(text):
    print(time.strftime("%H:%M:%S"), text, flush=True)


def story(load, arguments):
    control = lambda *words: subprocess.run([arguments.control, *words], check=True)
    port = str(arguments.victim)

    load.more(BEFORE)
    say(f"{load.done()} calls, {len(load.failures)} failed; {served(port)} of them by port {port}")

    plain = load.without_streams(lambda: control("kill", port))
    say(f"port {port} killed (SIGKILL) with {plain} plain calls open in all")
    load.more(DURING)
    say(f"{load.done()} calls, {len(load.failures)} failed; port {port} is still down")

    control("start", port, arguments.model, *arguments.options.split())
    say(f"port {port} started again")
    control("wait", port)
    say(f"{load.done()} calls, {len(load.failures)} failed; port {port} answers again")

    load.more(AFTER)
    deadline = time.monotonic() + TIMEOUT
    while served(port) == 0 and time.monotonic() < deadline:
        load.more(WORKERS)
    again = served(port)
    say(f"{load.done()} calls, {len(load.failures)} failed; {again} of them by the new port {port}")
    if again == 0:
        load.failures.append("the restarted server was never used again")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--victim", required=True, type=int, help="the port of the server to kill")
    parser.add_argument("--control", required=True, help="vllm.sh")
    parser.add_argument("--options", default="", help="what vllm.sh start is given")
    arguments = parser.parse_args()

    load = Load(arguments)
    for worker in load.workers:
        worker.start()
    try:
        story(load, arguments)
    except Exception as failure:
        load.failures.append(f"the story broke off: {type(failure).__name__}: {failure}")
    load.running = False
    for worker in load.workers:
        worker.join()
    for failure in load.failures[:20]:
        say(f"FAILED {failure}")
    say(f"{load.done()} calls ({dict(load.kinds)}), {len(load.failures)} failures")
    return 1 if load.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
