"""Chats of several turns, several at once, and what the servers found of them in their prefix caches.

    python prefix.py --url http://127.0.0.1:8080 --key KEY --model tiny --tag NAME --servers http://127.0.0.1:8001 ...

Prints the servers' own counters: tokens of prompts looked up, and found. `--tag` begins every prompt, so that no run finds
what another one left. Ends with 1 when a call fails.
"""

import argparse
import json
import random
import re
import threading
import urllib.request

WORKERS = 4
SYSTEMS = 4
CHATS = 32
TURNS = 5
TIMEOUT = 120
WORDS = "a gateway sits between clients and servers and passes bytes along the quick brown fox jumps over".split()


def counters(servers):
    """Tokens looked up and found, per server."""
    found = []
    for server in servers:
        with urllib.request.urlopen(f"{server}/metrics", timeout=TIMEOUT) as answer:
            text = answer.read().decode()
        values = [re.findall(rf"^vllm:prefix_cache_{name}_total{{.*}} (\S+)$", text, re.M) for name in ("queries", "hits")]
        found.append([sum(map(float, each)) for each in values])
    return found


def some_text(seed, words):
    generator = random.Random(seed)
    return " ".join(generator.choice(WORDS) for _ in range(words))


def ask(options, messages):
    body = {"model": options.model, "messages": messages, "max_tokens": 24, "ignore_eos": True, "temperature": 0}
    headers = {"authorization": f"Bearer {options.key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{options.url}/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]


def chat(options, number):
    system = f"{options.tag} {number % SYSTEMS} {some_text(number % SYSTEMS, 110)}"
    messages = [{"role": "system", "content": system}]
    for turn in range(TURNS):
        messages.append({"role": "user", "content": f"{number} {turn} {some_text((number, turn).__hash__(), 25)}"})
        yield ask(options, messages)
        messages.append({"role": "assistant", "content": "I see."})


def work(options, mine, failures):
    # A worker's chats take turns, so that what comes between two questions of a chat is others'.
    chats = [chat(options, number) for number in mine]
    try:
        while chats:
            chats = [one for one in chats if next(one, None) is not None]
    except Exception as failure:  # whatever goes wrong is a failed call
        failures.append(f"{type(failure).__name__}: {failure}")


def main():
    parser = argparse.ArgumentParser()
    for name in ["--url", "--key", "--model", "--tag"]:
        parser.add_argument(name, required=True)
    parser.add_argument("--servers", nargs="+", required=True)
    options = parser.parse_args()
    before, failures = counters(options.servers), []
    split = [range(worker, CHATS, WORKERS) for worker in range(WORKERS)]
    workers = [threading.Thread(target=work, args=(options, mine, failures)) for mine in split]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    deltas = [[b - a for a, b in zip(*pair)] for pair in zip(before, counters(options.servers))]
    queries, hits = map(sum, zip(*deltas))
    each = ", ".join(f"{hits:.0f}/{queries:.0f}" for queries, hits in deltas)
    for failure in failures:
        print(f"failed: {failure}")
    print(f"{hits / max(1, queries):.4f} {options.tag}: found {hits:.0f} of {queries:.0f} tokens ({each})")
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()
