#!/usr/bin/env python3
"""Open-loop chats against one address; prints what the callers saw.

    load.py --url URL --traffic chats|hot --rate R --seconds S [--name NAME] [--header NAME]

Chats begin at random moments whatever the servers do, and each goes on a while after it was answered: the traffic of
`benches/replicas.rs`, with shorter thoughts, so that the load is soon what it stays. It is the same for whoever is
measured. The first fifth of the time fills the caches and does not count. Time to the first token is from when a question was due. `--header` names the chat in a header.
"""

import argparse
import asyncio
import json
import math
import random
import sys

import aiohttp

TOKEN = 4
THINKING = 3.0
TRAFFIC = {
    "chats": dict(systems=40, system=1500, turns=6.0, question=120.0, answer=180.0),
    "hot": dict(systems=1, system=3000, turns=1.0, question=100.0, answer=100.0),
}


def words(seed, tokens):
    generator = random.Random(seed)
    return "".join(chr(97 + generator.randrange(26)) for _ in range(tokens * TOKEN))


def some(generator, mean):
    """Exponentially distributed, and at least 1."""
    return 1 + round(generator.expovariate(1 / (mean - 1)) if mean > 1 else 0)


class Load:
    def __init__(self, options):
        self.options = options
        self.traffic = TRAFFIC[options.traffic]
        self.first_tokens, self.servers, self.failed = [], {}, []
        self.prompt = self.cached = 0
        self.late = 0.0

    async def run(self):
        clock = asyncio.get_running_loop().time
        self.begun = clock()
        self.until = self.begun + self.options.seconds
        self.counts_from = self.begun + self.options.seconds / 5
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4)
        timeout = aiohttp.ClientTimeout(total=120)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self.session:
            arrivals, chats, due, number = random.Random(1), set(), self.begun, 0
            while due < self.until:
                await asyncio.sleep(max(0.0, due - clock()))
                number += 1
                chat = asyncio.create_task(self.chat(number, due))
                chats.add(chat)
                chat.add_done_callback(chats.discard)
                due += arrivals.expovariate(self.options.rate)
            # Who is still under way when the time is over is not waited for, as in the simulation.
            for chat in list(chats):
                chat.cancel()
            await asyncio.gather(*chats, return_exceptions=True)

    async def chat(self, number, due):
        clock = asyncio.get_running_loop().time
        traffic, generator = self.traffic, random.Random(number << 32)
        system = int(generator.random() ** 3 * traffic["systems"])
        messages = [{"role": "system", "content": words(f"system {system}", traffic["system"])}]
        turns = some(generator, traffic["turns"])
        for turn in range(turns):
            question, answer = some(generator, traffic["question"]), some(generator, traffic["answer"])
            messages.append({"role": "user", "content": words(f"{number} {turn}", question)})
            said = await self.ask(number, messages, answer, due)
            if said is None:
                return
            messages.append({"role": "assistant", "content": said})
            due = clock() + generator.expovariate(1 / THINKING)
            await asyncio.sleep(max(0.0, due - clock()))

    async def ask(self, number, messages, answer, due):
        clock = asyncio.get_running_loop().time
        self.late = max(self.late, clock() - due)
        body = {
            "model": "m",
            "messages": messages,
            "max_tokens": answer,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        headers = {self.options.header: f"chat-{number}"} if self.options.header else {}
        url = f"{self.options.url}/v1/chat/completions"
        said, first, usage, server = [], None, None, None
        try:
            async with self.session.post(url, json=body, headers=headers) as response:
                if response.status != 200:
                    raise OSError(f"{response.status} {(await response.text())[:100]}")
                async for line in response.content:
                    if not line.startswith(b"data: {"):
                        continue
                    event = json.loads(line[6:])
                    if "error" in event:
                        raise OSError(str(event["error"]))
                    for choice in event["choices"]:
                        if choice["delta"].get("content"):
                            first = first or clock()
                            said.append(choice["delta"]["content"])
                    usage, server = event.get("usage") or usage, event.get("system_fingerprint", server)
        except (OSError, aiohttp.ClientError, asyncio.TimeoutError) as error:
            self.failed.append(repr(error))
            return None
        if first is None or usage is None or usage["completion_tokens"] != answer:
            self.failed.append("an answer that is not what was asked for")
            return None
        if self.counts_from < first < self.until:
            self.first_tokens.append(first - due)
            self.prompt += usage["prompt_tokens"]
            self.cached += usage["prompt_tokens_details"]["cached_tokens"]
            self.servers[server] = self.servers.get(server, 0) + 1
        return "".join(said)

    def found(self):
        times = sorted(self.first_tokens)
        count = len(times)
        loads = list(self.servers.values()) + [0] * (self.options.servers - len(self.servers))
        return {
            "name": self.options.name,
            "requests": count,
            "failed": len(self.failed),
            "mean_ms": 1e3 * math.fsum(times) / max(1, count),
            "p99_ms": 1e3 * (times[min(count - 1, count * 99 // 100)] if times else 0.0),
            "hit_share": self.cached / max(1, self.prompt),
            "max_to_mean": max(loads) * len(loads) / max(1, sum(loads)),
            "late_ms": 1e3 * self.late,
        }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--name", default="")
    parser.add_argument("--traffic", choices=TRAFFIC, default="chats")
    parser.add_argument("--rate", type=float, default=8.0)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--servers", type=int, default=4)
    parser.add_argument("--header", default="")
    load = Load(parser.parse_args())
    import uvloop

    uvloop.run(load.run())
    for error in sorted(set(load.failed))[:5]:
        print(f"failed: {error}", file=sys.stderr)
    print(json.dumps(load.found()))


if __name__ == "__main__":
    main()
