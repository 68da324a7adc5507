"""A small, fair server of a peer: ONNX Runtime or sentence-transformers behind the OpenAI API.

    python server.py ort|torch|torch-bf16 MODEL PORT THREADS

The protocol layer is as thin as Python's can be (uvicorn with httptools and uvloop, a bare ASGI
application, the Rust tokenizer), and requests are batched dynamically: whatever waits, up to 32
texts, sorted by length, goes into one padded batch, as the peers' own servers do.
"""

import asyncio
import base64
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import uvicorn
import uvloop
from tokenizers import Tokenizer

BATCH = 32
LIMIT = 256


class Ort:
    """ONNX Runtime on the exported graph `model.onnx`."""

    def __init__(self, directory, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        path = str(Path(directory) / "model.onnx")
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )

    def run(self, ids, mask):
        """Vectors of a padded batch."""
        return self.session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


class Torch:
    """sentence-transformers' own modules on torch."""

    dtype = "float32"

    def __init__(self, directory, threads):
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        self.torch = torch
        self.model = SentenceTransformer(
            directory, device="cpu", model_kwargs={"dtype": self.dtype}
        ).eval()

    def run(self, ids, mask):
        """Vectors of a padded batch."""
        torch = self.torch
        with torch.inference_mode():
            features = {
                "input_ids": torch.from_numpy(ids),
                "attention_mask": torch.from_numpy(mask),
            }
            return self.model(features)["sentence_embedding"].float().numpy()


class TorchBf16(Torch):
    """The same, with weights and hidden states in bfloat16."""

    dtype = "bfloat16"


class Server:
    """The ASGI application, and the batches behind it."""

    def __init__(self, backend, tokenizer):
        self.backend = backend
        self.tokenizer = tokenizer
        self.waiting = []
        self.wake = asyncio.Event()
        self.worker = ThreadPoolExecutor(1)

    def compute(self, batch):
        """Vectors of up to BATCH encodings: padded to the longest."""
        length = max(len(ids) for ids, _ in batch)
        ids = numpy.zeros((len(batch), length), numpy.int64)
        mask = numpy.zeros_like(ids)
        for row, (tokens, _) in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        return self.backend.run(ids, mask)

    async def run_batches(self):
        """Takes what waits, longest first, and answers it."""
        loop = asyncio.get_running_loop()
        while True:
            await self.wake.wait()
            self.wake.clear()
            while self.waiting:
                self.waiting.sort(key=lambda item: -len(item[0]))
                batch, self.waiting = self.waiting[:BATCH], self.waiting[BATCH:]
                vectors = await loop.run_in_executor(self.worker, self.compute, batch)
                for (_, future), vector in zip(batch, vectors, strict=True):
                    future.set_result(vector)

    async def embed(self, body):
        """The answer to one request."""
        request = json.loads(body)
        texts = request["input"]
        texts = [texts] if isinstance(texts, str) else texts
        encodings = self.tokenizer.encode_batch_fast(texts)
        loop = asyncio.get_running_loop()
        items = [(encoding.ids, loop.create_future()) for encoding in encodings]
        self.waiting.extend(items)
        self.wake.set()
        data = []
        for index, (_, future) in enumerate(items):
            vector = await future
            embedding = (
                base64.b64encode(vector.astype("<f4").tobytes()).decode()
                if request.get("encoding_format") == "base64"
                else vector.tolist()
            )
            data.append({"object": "embedding", "index": index, "embedding": embedding})
        tokens = sum(len(ids) for ids, _ in items)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        answer = {"object": "list", "data": data, "model": request["model"], "usage": usage}
        return json.dumps(answer).encode()

    async def __call__(self, scope, receive, send):
        """One HTTP request; anything but a POST says that the server is ready."""
        if scope["type"] != "http":
            return
        answer = b"{}"
        if scope["method"] == "POST":
            body, more = b"", True
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
            answer = await self.embed(body)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(answer)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


async def main():
    """Loads the model and serves it until killed."""
    kind, directory, port, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    backend = {"ort": Ort, "torch": Torch, "torch-bf16": TorchBf16}[kind](directory, threads)
    tokenizer = Tokenizer.from_file(str(Path(directory) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LIMIT)
    server = Server(backend, tokenizer)
    config = uvicorn.Config(
        server, host="127.0.0.1", port=port, log_level="warning", lifespan="off",
        http="httptools", loop="none", access_log=False,
    )
    batches = asyncio.create_task(server.run_batches())
    await uvicorn.Server(config).serve()
    batches.cancel()


if __name__ == "__main__":
    uvloop.run(main())
