"""Makes goldens.json and vectors.f32: what sentence-transformers answers for texts.json.

Versions that made the committed files:

    pip install sentence-transformers==6.2.0 transformers==5.23.0 torch==2.15.0

Run with the directory of all-MiniLM-L6-v2 (`tenon pull` prints it):

    python make_goldens.py MODEL_DIRECTORY

Every vector is computed alone (batch of one, no padding), in f32, truncated at the model's 256
tokens. goldens.json also says how far the reference is from itself: from its own answer in batches
of 32 (padded), and from the same model in f64.
"""

import json
import platform
import sys
from pathlib import Path

import numpy
import sentence_transformers
import tokenizers
import torch
import transformers
from sentence_transformers import SentenceTransformer

HERE = Path(__file__).parent


def token_counts(model, texts):
    """Tokens of each text, special tokens counted, after truncation."""
    return [int(model.preprocess([text])["attention_mask"].sum()) for text in texts]


def alone(model, texts):
    """One vector a text, each computed in a batch of its own."""
    rows = [model.encode([text], show_progress_bar=False)[0] for text in texts]
    return numpy.stack(rows)


def main():
    """Computes the goldens and writes both files."""
    texts = json.loads((HERE / "texts.json").read_text(encoding="utf-8"))
    model = SentenceTransformer(sys.argv[1], device="cpu")
    vectors = alone(model, texts).astype("<f4")
    batched = model.encode(texts, batch_size=32, show_progress_bar=False)
    counts = token_counts(model, texts)
    exact = alone(model.double(), texts)
    goldens = {
        "model": "sentence-transformers/all-MiniLM-L6-v2",
        "versions": {
            "python": platform.python_version(),
            "sentence-transformers": sentence_transformers.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
            "torch": torch.__version__.split("+")[0],
        },
        "reference_batch_noise_max_abs": float(numpy.abs(vectors - batched).max()),
        "reference_f64_max_abs": float(numpy.abs(vectors - exact).max()),
        "dimensions": int(vectors.shape[1]),
        "prompt_tokens": counts,
    }
    (HERE / "vectors.f32").write_bytes(vectors.tobytes())
    (HERE / "goldens.json").write_text(json.dumps(goldens, indent=1) + "\n")
    print({key: value for key, value in goldens.items() if key != "prompt_tokens"})


if __name__ == "__main__":
    main()
