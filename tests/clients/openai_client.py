"""The official OpenAI client: default and explicit encodings, token ids, errors, models."""

import asyncio

import openai
from common import MODEL, TEXTS, URL, expect_error, report

client = openai.OpenAI(base_url=URL, api_key="unused", max_retries=0)


def vectors(answer):
    """The vectors of an answer, which are in the order of the inputs."""
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    return [item.embedding for item in answer.data]


default = client.embeddings.create(model=MODEL, input=TEXTS)
assert default.object == "list" and default.model == MODEL
assert default.usage.prompt_tokens == default.usage.total_tokens > 0
assert default._request_id

floats = client.embeddings.create(model=MODEL, input=TEXTS, encoding_format="float")
for one, other in zip(vectors(default), vectors(floats), strict=True):
    assert max(abs(a - b) for a, b in zip(one, other, strict=True)) < 1e-7

ids = client.embeddings.create(model=MODEL, input=[[101, 6116, 102]])
text = client.embeddings.create(model=MODEL, input="oak")
assert vectors(ids) == vectors(text)


async def alone():
    """The same through the asynchronous client, one request a text, at once."""
    async with openai.AsyncOpenAI(base_url=URL, api_key="unused") as client:
        calls = [client.embeddings.create(model=MODEL, input=text) for text in TEXTS]
        return [vectors(answer)[0] for answer in await asyncio.gather(*calls)]


assert asyncio.run(alone()) == vectors(default)

empty = expect_error(
    openai.BadRequestError, lambda: client.embeddings.create(model=MODEL, input=["a", ""])
)
assert empty.type == "invalid_request_error" and "input" in empty.param, empty
unknown = expect_error(
    openai.NotFoundError, lambda: client.embeddings.create(model="nosuch", input="a")
)
assert unknown.code == "model_not_found", unknown
shorter = expect_error(
    openai.BadRequestError,
    lambda: client.embeddings.create(model=MODEL, input="a", dimensions=128),
)
assert shorter.param == "dimensions", shorter

assert [model.id for model in client.models.list()][0] == MODEL
assert client.models.retrieve(MODEL).id == MODEL
report(vectors(default))
