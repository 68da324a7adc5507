"""Exports the model to ONNX: ids and mask in, normalised mean-pooled vectors out.

    python export_onnx.py MODEL_DIRECTORY OUTPUT.onnx

ONNX Runtime's transformer optimiser then fuses attention, layer norm and GELU where it can.
"""

import sys
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer


class Embedder(torch.nn.Module):
    """The forward pass and the pooling of a sentence-transformers model."""

    def __init__(self, model):
        super().__init__()
        self.bert = model[0].auto_model

    def forward(self, input_ids, attention_mask):
        """Mean over the tokens, then L2."""
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, dim=1)


def optimise(plain, output):
    """Fuses the graph as ONNX Runtime's own tool does; the plain graph where it cannot."""
    from onnxruntime.transformers import optimizer

    fused = optimizer.optimize_model(plain, model_type="bert", num_heads=12, hidden_size=384)
    print("fused:", fused.get_fused_operator_statistics())
    fused.save_model_to_file(output)


def main():
    """Exports, optimises, and checks against the reference."""
    directory, output = sys.argv[1], sys.argv[2]
    model = SentenceTransformer(
        directory, device="cpu", model_kwargs={"attn_implementation": "eager"}
    )
    embedder = Embedder(model).eval()
    ids = torch.randint(1000, 20000, (2, 12))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    axes = {0: "batch", 1: "length"}
    plain = str(Path(output).with_suffix(".plain.onnx"))
    torch.onnx.export(
        embedder,
        (ids, mask),
        plain,
        input_names=["input_ids", "attention_mask"],
        output_names=["embedding"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "embedding": {0: "batch"}},
        dynamo=False,
    )
    optimise(plain, output)
    import onnxruntime

    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    inputs = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
    difference = session.run(None, inputs)[0] - embedder(ids, mask).detach().numpy()
    print("max abs difference to torch:", abs(difference).max())
    assert abs(difference).max() < 1e-4


if __name__ == "__main__":
    main()
