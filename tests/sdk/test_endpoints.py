"""Every other endpoint the SDK speaks: completions to files."""

import io
import json
import math
import os

import openai
import pytest


def test_a_completion_is_answered(client):
    completion = client.completions.create(model="mock", prompt="hello", max_tokens=5)
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 5


def test_a_completion_streams(client):
    whole = client.completions.create(model="mock", prompt="hello")
    chunks = client.completions.create(model="mock", prompt="hello", stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text


def test_embeddings_are_floats_however_they_travel(client):
    # Without a format the SDK asks for base64 and unpacks it.
    packed = client.embeddings.create(model="mock", input=["one", "two", "one"])
    plain = client.embeddings.create(model="mock", input="one", encoding_format="float")
    assert [item.index for item in packed.data] == [0, 1, 2]
    assert packed.data[0].embedding == packed.data[2].embedding != packed.data[1].embedding
    pairs = zip(packed.data[0].embedding, plain.data[0].embedding, strict=True)
    assert all(math.isclose(one, other, rel_tol=1e-6) for one, other in pairs)


def test_embeddings_have_the_dimensions_asked_for(client):
    embeddings = client.embeddings.create(model="mock", input="one", dimensions=8)
    assert len(embeddings.data[0].embedding) == 8


def test_models_are_listed_and_shown(client):
    assert "mock" in [model.id for model in client.models.list()]
    assert client.models.retrieve("mock").id == "mock"


@pytest.mark.gateway
def test_models_are_those_the_key_may_use(narrow):
    assert [model.id for model in narrow.models.list()] == ["mock-small"]


def test_a_response_is_made(client):
    response = client.responses.create(model="mock", input="hello")
    assert response.status == "completed"
    assert "hello" in response.output_text
    assert response.usage.total_tokens > 0


def test_a_response_streams(client):
    text, numbers = "", []
    with client.responses.stream(model="mock", input="hello") as stream:
        for event in stream:
            numbers.append(event.sequence_number)
            if event.type == "response.output_text.delta":
                text += event.delta
        final = stream.get_final_response()
    assert text == final.output_text
    assert "hello" in text
    assert numbers == list(range(len(numbers)))


def test_a_response_calls_a_function(client, response_tools):
    with client.responses.stream(model="mock", input="Rome", tools=response_tools) as stream:
        kinds = [event.type for event in stream]
        [call] = stream.get_final_response().output
    assert kinds.count("response.function_call_arguments.delta") > 1
    assert json.loads(call.arguments)["city"] == "Rome"


def test_moderations(client):
    moderation = client.moderations.create(model="mock", input=["nice", "harmful"])
    assert [result.flagged for result in moderation.results] == [False, True]


def test_images(client):
    images = client.images.generate(model="mock", prompt="a cat", n=2)
    assert len(images.data) == 2
    assert images.data[0].b64_json


def test_speech(client):
    speech = client.audio.speech.create(model="mock", voice="alloy", input="hello")
    assert speech.content.startswith(b"RIFF")


@pytest.mark.parametrize("megabytes", [1, 12])
def test_a_transcription_hears_every_byte(client, megabytes):
    size = megabytes * 1024 * 1024
    audio = io.BytesIO(os.urandom(size))
    transcription = client.audio.transcriptions.create(model="mock", file=("talk.wav", audio))
    assert f"{size} bytes of talk.wav" in transcription.text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_translation_too(client):
    file = ("talk.wav", b"abc")
    assert "3 bytes" in client.audio.translations.create(model="mock", file=file).text


def test_a_file_lives_from_upload_to_deletion(client):
    content = os.urandom(3 * 1024 * 1024)
    made = client.files.create(file=("data.bin", content), purpose="user_data")
    assert made.bytes == len(content)
    assert made.filename == "data.bin"
    assert client.files.retrieve(made.id).id == made.id
    assert made.id in [file.id for file in client.files.list()]
    assert client.files.content(made.id).read() == content
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)


@pytest.mark.gateway
def test_a_file_is_its_owners_alone(client, narrow):
    made = client.files.create(file=("secret.txt", b"secret"), purpose="user_data")
    with pytest.raises(openai.NotFoundError):
        narrow.files.content(made.id)
    assert client.files.content(made.id).read() == b"secret"
    client.files.delete(made.id)


def test_a_batch_is_made_and_shown(client):
    file = client.files.create(file=("batch.jsonl", b"{}\n"), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert client.batches.retrieve(batch.id).input_file_id == file.id
    assert batch.id in [listed.id for listed in client.batches.list()]
