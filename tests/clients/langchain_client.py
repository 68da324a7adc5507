"""LangChain's OpenAIEmbeddings with both settings of check_embedding_ctx_length.

With the check (its default) LangChain sends token ids of OpenAI's cl100k vocabulary, which are not
the model's. tiktoken downloads that vocabulary; where it cannot, an encoding of the same name with
one id a byte takes its place, so that LangChain's own code still sends lists of ids.
"""

import openai
import tiktoken
from common import MODEL, TEXTS, URL, expect_error, report
from langchain_openai import OpenAIEmbeddings

CL100K = "cl100k_base"


def embeddings(**settings):
    """LangChain's client for the server."""
    return OpenAIEmbeddings(model=MODEL, base_url=URL, api_key="unused", max_retries=0, **settings)


def use_bytes_as_tokens(first_id):
    """Registers an encoding under the name of cl100k: byte b has the id first_id + b."""
    tiktoken.registry.ENCODINGS[CL100K] = tiktoken.Encoding(
        CL100K,
        explicit_n_vocab=None,
        pat_str=r"[\s\S]",
        mergeable_ranks={bytes([byte]): first_id + byte for byte in range(256)},
        special_tokens={},
    )


def check_foreign_ids_are_refused(texts):
    """Ids beyond the model's vocabulary: a 400 that names the first input at fault."""
    with_check = embeddings(check_embedding_ctx_length=True)
    error = expect_error(openai.BadRequestError, lambda: with_check.embed_documents(texts))
    assert error.param.startswith("input[0]"), error
    assert "30522" in str(error), error


def a_foreign_text(encoding):
    """A text whose one id in OpenAI's vocabulary is beyond the model's."""
    for token in range(40_000, encoding.n_vocab):
        text = encoding.decode([token])
        if encoding.encode_ordinary(text) == [token]:
            return text
    raise AssertionError("the vocabulary is smaller than the model's")


without_check = embeddings(check_embedding_ctx_length=False)
documents = without_check.embed_documents(TEXTS)
query = without_check.embed_query(TEXTS[0])
assert max(abs(a - b) for a, b in zip(query, documents[0], strict=True)) < 1e-6

try:
    encoding = tiktoken.get_encoding(CL100K)
except Exception as error:  # whatever its HTTP client raises
    print(f"note: {CL100K} cannot be downloaded ({type(error).__name__}); bytes are its tokens")
    use_bytes_as_tokens(first_id=50_000)
    check_foreign_ids_are_refused(TEXTS)
else:
    check_foreign_ids_are_refused([a_foreign_text(encoding)])

# Ids inside the vocabulary are the caller's business: they are taken as they are.
use_bytes_as_tokens(first_id=1_000)
direct = openai.OpenAI(base_url=URL, api_key="unused").embeddings.create(
    model=MODEL, input=[[1_000 + byte for byte in text.encode()] for text in TEXTS]
)
for one, other in zip(embeddings().embed_documents(TEXTS), direct.data, strict=True):
    assert max(abs(a - b) for a, b in zip(one, other.embedding, strict=True)) < 1e-6

report(documents)
