#!/usr/bin/env python3
"""Several stand-ins for vLLM servers in one process, each on a port of its own, in real time.

    servers.py PORT PORT ...

The model of a server is that of `benches/replicas.rs`. It works in steps, as vLLM's scheduler does: each running request
gets one token, and what is left of the step's budget goes to prompts, first come first served and in chunks. A request
begins when there is a place among the running and room in the KV cache for its prompt and its answer. Prompts and answers
stay in the cache in blocks of 16 tokens until the longest unused give way. A token is four bytes of text. A step's cost is
linear in its tokens. What a real server adds to that (CUDA graphs, preemption, the tokenizer) is left out, for all alike.

`max_tokens` is the number of tokens of an answer. The first token is sent when it is there, the rest at the end: routers
are compared by where they send what, not by how they pass tokens on.
"""

import asyncio
import collections
import hashlib
import json
import sys

from aiohttp import web

TOKEN = 4
BLOCK = 16
PLACES = 64  # max_num_seqs
BUDGET = 2048  # max_num_batched_tokens
CACHE = 8000  # blocks: 128k tokens
# Seconds of a step, of each token decoded in it, and of each token of a prompt: an 8B model on one large GPU.
STEP, DECODE, PREFILL = 8e-3, 80e-6, 60e-6
ALPHABET = b"abcdefghijklmnop"


class Job:
    def __init__(self, text, answer):
        self.text = text
        self.answer = answer
        self.answered = 0
        self.cached = 0
        self.left = 0
        self.private = 0
        self.share = 0
        self.blocks = hashes(text)
        self.first = asyncio.get_running_loop().create_future()
        self.done = asyncio.get_running_loop().create_future()
        self.gone = False


def hashes(text, before=()):
    """A hash for each whole block, of all up to its end."""
    found = list(before)
    size = BLOCK * TOKEN
    for at in range(len(found) * size, len(text) - size + 1, size):
        last = found[-1] if found else b""
        found.append(hashlib.blake2b(last + text[at : at + size], digest_size=8).digest())
    return found


class Server:
    def __init__(self, name):
        self.name = name
        self.waiting = collections.deque()
        self.running = []
        self.work = asyncio.Event()
        # Blocks in use with their users, and unused ones, the longest unused first.
        self.used = {}
        self.unused = collections.OrderedDict()
        self.private = 0
        self.queries = self.hits = 0

    async def run(self):
        clock = asyncio.get_running_loop().time
        end = clock()
        while True:
            length = self.begin_step()
            if length is None:
                self.work.clear()
                await self.work.wait()
                end = clock()
                continue
            # A late timer must not make the server slower.
            end = max(end, clock() - 0.05) + length
            await asyncio.sleep(max(0.0, end - clock()))
            self.end_step()

    def begin_step(self):
        self.running = [job for job in self.running if not self.drop_if_gone(job)]
        decoded = sum(job.left == 0 for job in self.running)
        budget, prefilled = max(0, BUDGET - decoded), 0
        for job in self.running:
            if job.left > 0:
                job.share = min(job.left, budget)
                budget -= job.share
                prefilled += job.share
        while budget > 0 and self.waiting and len(self.running) < PLACES:
            job = self.waiting[0]
            if job.gone:
                self.waiting.popleft()
                continue
            if not self.admit(job):
                break
            self.waiting.popleft()
            job.share = min(job.left, budget)
            budget -= job.share
            prefilled += job.share
            self.running.append(job)
        if decoded == 0 and prefilled == 0:
            return None
        return STEP + decoded * DECODE + prefilled * PREFILL

    def end_step(self):
        running = []
        for job in self.running:
            if job.left > 0:
                job.left -= job.share
                job.share = 0
                if job.left > 0:
                    running.append(job)
                    continue
                self.share(job)
                settle(job.first)
            job.answered += 1
            if job.answered < job.answer:
                running.append(job)
            else:
                self.finish(job)
        self.running = running

    def admit(self, job):
        # The last token is always worked out.
        most = (len(job.text) - 1) // (BLOCK * TOKEN)
        cached = 0
        while cached < min(most, len(job.blocks)) and self.has(job.blocks[cached]):
            cached += 1
        need = -(-(len(job.text) // TOKEN + job.answer) // BLOCK) - cached
        lost = sum(block in self.unused for block in job.blocks[:cached])
        if len(self.used) + self.private + lost + need > CACHE and self.running:
            return False
        for block in job.blocks[:cached]:
            self.hold(block)
        while len(self.used) + len(self.unused) + self.private + need > CACHE and self.unused:
            self.unused.popitem(last=False)
        self.private += need
        job.private, job.cached = need, cached
        job.left = len(job.text) // TOKEN - cached * BLOCK
        self.queries += len(job.text) // TOKEN
        self.hits += cached * BLOCK
        return True

    def has(self, block):
        return block in self.used or block in self.unused

    def hold(self, block):
        self.unused.pop(block, None)
        self.used[block] = self.used.get(block, 0) + 1

    def release(self, block):
        self.used[block] -= 1
        if self.used[block] == 0:
            del self.used[block]
            self.unused[block] = None

    def share(self, job):
        """What a prompt came to may be shared from now on."""
        own = job.blocks[job.cached :]
        taken = min(len(own), job.private)
        self.private -= taken
        job.private -= taken
        for block in own:
            self.hold(block)

    def finish(self, job):
        self.private -= job.private
        whole = hashes(job.text + answer_of(job), job.blocks)
        for block in whole[len(job.blocks) :]:
            self.hold(block)
        # The end of a text is released first, and evicted first.
        for block in reversed(whole):
            self.release(block)
        settle(job.done)

    def drop_if_gone(self, job):
        if job.gone:
            self.private -= job.private
            held = job.blocks if job.left == 0 else job.blocks[: job.cached]
            for block in reversed(held):
                self.release(block)
        return job.gone

    # === HTTP ===

    async def chat(self, request):
        body = await request.json()
        text = "".join(f"<{it['role']}>{it['content']}" for it in body["messages"]).encode() + b"<assistant>"
        job = Job(text, max(1, body.get("max_completion_tokens") or body.get("max_tokens", 16)))
        self.waiting.append(job)
        self.work.set()
        try:
            response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
            response.enable_chunked_encoding()
            await job.first
            await response.prepare(request)
            answer = answer_of(job).decode()
            await response.write(self.event({"role": "assistant", "content": answer[:TOKEN]}))
            await job.done
            prompt = len(text) // TOKEN
            usage = {
                "prompt_tokens": prompt,
                "completion_tokens": job.answer,
                "total_tokens": prompt + job.answer,
                "prompt_tokens_details": {"cached_tokens": job.cached * BLOCK},
            }
            rest = self.event({"content": answer[TOKEN:]}) + self.event({}, "stop") + self.event(None, None, usage)
            await response.write(rest + b"data: [DONE]\n\n")
            return response
        finally:
            job.gone = not job.done.done()

    def event(self, delta, finish=None, usage=None):
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        event = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1795231800,
            "model": "m",
            "system_fingerprint": self.name,
            "choices": choices,
        }
        if usage:
            event["usage"] = usage
        return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"

    async def metrics(self, _request):
        use = (len(self.used) + self.private) / CACHE
        lines = [
            f'vllm:num_requests_running{{engine="0",model_name="m"}} {len(self.running)}.0',
            f'vllm:num_requests_waiting{{engine="0",model_name="m"}} {len(self.waiting)}.0',
            f'vllm:kv_cache_usage_perc{{engine="0",model_name="m"}} {use}',
            f'vllm:prefix_cache_queries_total{{engine="0",model_name="m"}} {self.queries}.0',
            f'vllm:prefix_cache_hits_total{{engine="0",model_name="m"}} {self.hits}.0',
            f'vllm:cache_config_info{{block_size="{BLOCK}",engine="0",num_gpu_blocks="{CACHE}"}} 1.0',
        ]
        return web.Response(text="\n".join(lines) + "\n")

    def app(self):
        models = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "vllm", "max_model_len": 32768}]}
        about = {"model_path": "m", "served_model_name": "m", "tokenizer_path": "m", "is_generation": True, "version": "0.32.0"}
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/v1/models", answering(models))
        for path in ["/get_model_info", "/model_info", "/get_server_info", "/server_info", "/version"]:
            app.router.add_get(path, answering(about))
        for path in ["/health", "/health_generate", "/ping"]:
            app.router.add_get(path, answering({}))
        return app


def answering(value):
    async def answer(_request):
        return web.json_response(value)

    return answer


def settle(future):
    if not future.done():
        future.set_result(None)


def answer_of(job):
    """Words that no other prompt is answered with."""
    seed = hashlib.blake2b(job.text, digest_size=32).digest()
    digits = bytes(ALPHABET[byte & 15] for byte in seed)
    return (digits * (job.answer * TOKEN // len(digits) + 1))[: job.answer * TOKEN]


async def main():
    tasks = []
    for number, port in enumerate(sys.argv[1:]):
        server = Server(f"server-{number}")
        tasks.append(asyncio.create_task(server.run()))
        runner = web.AppRunner(server.app(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", int(port), backlog=1024).start()
    print("ready", flush=True)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
