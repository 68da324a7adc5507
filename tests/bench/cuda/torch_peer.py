"""torch beside this server: a checkpoint through transformers in bf16, and sentence-transformers.

    python torch_peer.py

Reads one job a line from standard input, as JSON, and answers each with one line of JSON:

    {"do": "load", "folder": F}                        -> {"name": N, "encodes": true}
    {"do": "throughput", "batch": B, "tokens": L, "seconds": S}   -> {"tokens_per_s": R}
    {"do": "latency", "tokens": L, "seconds": S}                  -> {"p50_ms": M}
    {"do": "encode", "texts": [T, ...], "batch": B, "seconds": S} -> {"texts_per_s": R}

or with {"error": E}. Attention is scaled_dot_product_attention. A throughput is that of batches of
B equal inputs, without padding or a mask, queued without a pause: the median of rounds that are
timed on the device. A latency is that of one input until its vector is on the host. Both pool and
normalise as the checkpoint's modules do. `encode` is sentence-transformers' own, from texts to
vectors on the host.
"""

import json
import os
import statistics
import sys
import time
import warnings

import torch
import transformers

ROUND_S = 0.25
VOCABULARY = 100
ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"


def load_model(folder):
    """The transformer, the encoder of texts where there is one, and how tokens are pooled."""
    options = {"dtype": torch.bfloat16, "attn_implementation": "sdpa"}
    with open(os.path.join(folder, "1_Pooling/config.json"), encoding="utf-8") as file:
        pooling = json.load(file)
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        return transformers.AutoModel.from_pretrained(folder, **options), None, pooling
    encoder = SentenceTransformer(folder, device=DEVICE, model_kwargs=options)
    return encoder[0].auto_model, encoder, pooling


class Peer:
    """One loaded checkpoint at a time."""

    def load(self, folder):
        """Replaces the loaded checkpoint."""
        self.model = self.encoder = None
        free_memory()
        self.model, self.encoder, pooling = load_model(folder)
        self.model = self.model.to(DEVICE).eval()
        self.first = pooling.get("pooling_mode_cls_token", False)
        self.mean = pooling.get("pooling_mode") == "mean"
        device = torch.cuda.get_device_name() if ON_GPU else "cpu"
        name = f"torch {torch.__version__}, transformers {transformers.__version__}, {device}"
        return {"name": name, "encodes": self.encoder is not None}

    def vectors(self, ids):
        """Vectors of equal inputs, on the device."""
        hidden = self.model(input_ids=ids).last_hidden_state
        if self.mean:
            pooled = hidden.mean(dim=1)
        else:
            pooled = hidden[:, 0] if self.first else hidden[:, -1]
        return torch.nn.functional.normalize(pooled.float(), dim=-1)

    def throughput(self, batch, tokens, seconds):
        """Tokens a second of batches of equal inputs."""
        ids = torch.randint(10, VOCABULARY, (batch, tokens), device=DEVICE)
        # The first allocates and chooses algorithms, the second says how long one takes.
        timed(lambda: self.vectors(ids))
        one_s = timed(lambda: self.vectors(ids))
        count = max(1, round(min(ROUND_S, seconds) / one_s))

        def batches():
            for _ in range(count):
                self.vectors(ids)

        rounds = repeated(lambda: timed(batches), seconds)
        return {"tokens_per_s": batch * tokens * count / statistics.median(rounds)}

    def latency(self, tokens, seconds):
        """Milliseconds of one input."""
        ids = torch.randint(10, VOCABULARY, (1, tokens), device=DEVICE)

        def one():
            started = time.perf_counter()
            self.vectors(ids).cpu()
            return time.perf_counter() - started

        for _ in range(3):
            one()
        return {"p50_ms": 1e3 * statistics.median(repeated(one, seconds))}

    def encode(self, texts, batch, seconds):
        """Texts a second through sentence-transformers."""
        if self.encoder is None:
            raise RuntimeError("sentence-transformers is not installed")

        def all_texts():
            started = time.perf_counter()
            self.encoder.encode(texts, batch_size=batch, show_progress_bar=False)
            return time.perf_counter() - started

        all_texts()
        return {"texts_per_s": len(texts) / statistics.median(repeated(all_texts, seconds))}


def timed(run):
    """Seconds that the device takes for what `run` queues."""
    if not ON_GPU:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def repeated(measure, seconds):
    """What `measure` gives until the time is over: at least one reading."""
    until = time.perf_counter() + seconds
    readings = [measure()]
    while time.perf_counter() < until:
        readings.append(measure())
    return readings


def free_memory():
    """Gives the device's memory back to whoever runs next."""
    if ON_GPU:
        torch.cuda.empty_cache()


def main():
    """Answers jobs until there are no more."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # Libraries print; the answers have the real standard output to themselves.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    peer = Peer()
    for line in sys.stdin:
        job = json.loads(line)
        try:
            with torch.inference_mode():
                answer = getattr(peer, job.pop("do"))(**job)
        except Exception as error:  # whatever it is, the benchmark goes on without this figure
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        free_memory()
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
