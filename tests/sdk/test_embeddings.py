"""Embeddings: three SDKs, three kinds of provider, the same numbers."""

import json

import pytest

from judges import Bench, name
from recordings import Case
from upstream import Answer

TEXTS = ["Grüße", "日本語"]
VECTORS = [[0.25, -0.5, 1.0], [0.125, 0.0, -1.0]]
MODELS = {
    "openai_chat": "text-embedding-3-small",
    "gemini": "gemini-embedding-001",
    "titan": "amazon.titan-embed-text-v2:0",
    "cohere": "cohere.embed-multilingual-v3",
}


def openai_answers(count):
    data = [{"object": "embedding", "index": n, "embedding": VECTORS[n]} for n in range(count)]
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    yield "openai_embeddings", {"object": "list", "data": data, "model": "m", "usage": usage}


def gemini_answers(count):
    values = [{"values": vector} for vector in VECTORS[:count]]
    yield "gemini_embeddings", {"embedding": values[0]}
    yield "gemini_embeddings_batch", {"embeddings": values}


def titan_answers(count):
    yield "bedrock_embeddings", {"embedding": VECTORS[0], "inputTextTokenCount": 7}


def cohere_answers(count):
    said = {"id": "1", "response_type": "embeddings_floats", "texts": TEXTS[:count]}
    yield "bedrock_embeddings", {"embeddings": VECTORS[:count], **said}


ANSWERS = {
    "openai_chat": openai_answers,
    "gemini": gemini_answers,
    "titan": titan_answers,
    "cohere": cohere_answers,
}


def case(provider):
    kind = "bedrock" if provider in ("titan", "cohere") else provider
    return Case(f"embed-{provider}", kind, MODELS[provider], None, False)


CASES = {provider: case(provider) for provider in ANSWERS}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("embeddings"), CASES.values())
    yield bench
    bench.close()


def openai_base64(clients, case, texts):
    """As the SDK asks unless told otherwise."""
    made = clients["openai_chat"].embeddings.create(
        model=name(case, "openai_chat"), input=texts
    )
    return [item.embedding for item in made.data]


def openai_floats(clients, case, texts):
    made = clients["openai_chat"].embeddings.create(
        model=name(case, "openai_chat"), input=texts, encoding_format="float"
    )
    assert [item.index for item in made.data] == list(range(len(texts)))
    return [item.embedding for item in made.data]


def gemini(clients, case, texts):
    made = clients["gemini"].models.embed_content(model=name(case, "gemini"), contents=texts)
    return [embedding.values for embedding in made.embeddings]


def invoked(clients, case, body):
    made = clients["bedrock"].invoke_model(
        modelId=name(case, "bedrock"), body=json.dumps(body), contentType="application/json"
    )
    return json.loads(made["body"].read())


def titan(clients, case, texts):
    [text] = texts
    return [invoked(clients, case, {"inputText": text})["embedding"]]


def cohere(clients, case, texts):
    body = {"texts": texts, "input_type": "search_document"}
    return invoked(clients, case, body)["embeddings"]


CLIENTS = {
    "openai-base64": openai_base64,
    "openai-floats": openai_floats,
    "gemini": gemini,
    "titan": titan,
    "cohere": cohere,
}


def cells():
    for provider in ANSWERS:
        for client in CLIENTS:
            for count in (1, 2):
                # Titan embeds one text a call, whoever asks; and who speaks to AWS says its model's
                # own words.
                one = {"titan", "cohere"} == {provider, client}
                if not one and not (count == 2 and "titan" in (provider, client)):
                    yield pytest.param(
                        provider, client, count, id=f"{provider}-{client}-{count}"
                    )


@pytest.mark.gateway
@pytest.mark.parametrize(("provider", "client", "count"), list(cells()))
def test_every_sdk_reads_the_same_numbers(bench, provider, client, count):
    answers = ANSWERS[provider](count)
    bench.upstream.say(
        *(Answer(dialect, "json", json.dumps(body).encode()) for dialect, body in answers)
    )
    made = CLIENTS[client](bench.through, CASES[provider], TEXTS[:count])
    assert made == VECTORS[:count]
    request = bench.upstream.asked()
    assert request.model == MODELS[provider]
    sent = json.dumps(request.body, ensure_ascii=False)
    assert all(text in sent for text in TEXTS[:count])
