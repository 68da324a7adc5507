"""Writes checkpoints in the sizes of well-known models, with random weights.

    python make_checkpoints.py OUT [NAME...]

OUT/NAME/ is made of a tiny checkpoint: its tokenizer, its config.json with the sizes of the real
model, and weights that the reference's class has in that size. The vocabulary stays that of the
tiny tokenizer, since rows that nobody looks up cost no time. Without names every family is made, for
a CPU: of large models some layers are left out, which does not change what one layer costs;
OUT/models.json says so. The models of a GPU, which are whole, are made by name. What is there
already is kept.
"""

import argparse
import json
import math
import shutil
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

TESTS = Path(__file__).parents[2]
TINY = {"clip": "multimodal", "gme-qwen2-vl": "multimodal"}
TOKENIZER = ("tokenizer.json", "preprocessor_config.json")
# Longer than any text of the benchmark of a CPU, and of a GPU where the model takes as many.
MAX_TOKENS = 512
MAX_DEVICE_TOKENS = 4096
# Numbers are made where that is quickest.
GENERATOR = "cuda" if torch.cuda.is_available() else "cpu"


def encoder(layers=12, **more):
    """BERT-base's sizes."""
    return {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": layers,
        "num_attention_heads": 12,
        "max_position_embeddings": MAX_TOKENS + 2,
        "max_seq_length": MAX_TOKENS,
        **more,
    }


def decoder(hidden, inner, layers, heads, kv_heads, head_dim=None, **more):
    """A decoder's sizes."""
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 8192,
        **({} if head_dim is None else {"head_dim": head_dim}),
        **more,
    }


CLIP_TEXT = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
CLIP_VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
QWEN2_VL_VISION = {"depth": 4, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16}
MROPE = {"mrope_section": [16, 24, 24]}

# A name, how weights are stored, and what config.json says.
MODELS = {
    "bert": ("bge-base", "float32", encoder()),
    "roberta": ("roberta-base", "float32", encoder()),
    "xlm-roberta": ("multilingual-e5-base", "float32", encoder()),
    "camembert": ("camembert-base", "float32", encoder()),
    "distilbert": (
        "distilbert-base",
        "float32",
        {"dim": 768, "hidden_dim": 3072, "n_layers": 6, "n_heads": 12},
    ),
    "mpnet": ("all-mpnet-base-v2", "float32", encoder()),
    "nomic": ("nomic-embed-text-v1.5", "float32", encoder()),
    "modernbert": (
        "modernbert-embed-base",
        "float32",
        encoder(22, intermediate_size=1152, local_attention=128),
    ),
    "clip": (
        "CLIP ViT-B/32, text",
        "float32",
        {
            "projection_dim": 512,
            "text_config": {**CLIP_TEXT, "num_hidden_layers": 12, "max_position_embeddings": 77},
            "vision_config": {**CLIP_VISION, "num_hidden_layers": 12},
        },
    ),
    "gme-qwen2-vl": (
        "gme-Qwen2-VL-2B, text, 14 of 28 layers",
        "bfloat16",
        decoder(
            1536, 8960, 14, 12, 2, vision_config=QWEN2_VL_VISION, rope_scaling=MROPE
        ),
    ),
    "qwen2": (
        "gte-Qwen2-1.5B, 14 of 28 layers",
        "bfloat16",
        decoder(1536, 8960, 14, 12, 2, use_sliding_window=False),
    ),
    "qwen3": ("Qwen3-Embedding-0.6B", "bfloat16", decoder(1024, 3072, 28, 16, 8, 128)),
    "mistral": (
        "e5-mistral-7b, 3 of 32 layers",
        "bfloat16",
        decoder(4096, 14336, 3, 32, 8, sliding_window=4096),
    ),
    "llama": ("Llama-3.2-1B, 8 of 16 layers", "bfloat16", decoder(2048, 8192, 8, 32, 8, 64)),
    "gemma3-text": (
        "EmbeddingGemma-300M",
        "bfloat16",
        decoder(
            768,
            1152,
            24,
            3,
            1,
            256,
            query_pre_attn_scalar=256,
            sliding_window=512,
            _sliding_window_pattern=6,
            layer_types=(["sliding_attention"] * 5 + ["full_attention"]) * 4,
        ),
    ),
}

# Of a GPU: the tiny checkpoint, how tokens are pooled, the longest input, and what config.json says.
DEVICE_MODELS = {
    "bge-large": (
        "bert",
        "cls_token",
        MAX_TOKENS,
        encoder(24, hidden_size=1024, intermediate_size=4096, num_attention_heads=16),
    ),
    "qwen3-0.6b": (
        "qwen3",
        "lasttoken",
        MAX_DEVICE_TOKENS,
        decoder(1024, 3072, 28, 16, 8, 128, sliding_window=None),
    ),
    "gte-qwen2-1.5b": (
        "qwen2-bidirectional",
        "lasttoken",
        MAX_DEVICE_TOKENS,
        decoder(1536, 8960, 28, 12, 2, max_window_layers=28),
    ),
    "e5-mistral-7b": (
        "mistral",
        "lasttoken",
        MAX_DEVICE_TOKENS,
        decoder(4096, 14336, 32, 32, 8, sliding_window=4096),
    ),
}
MODULES = {
    "": "sentence_transformers.models.Transformer",
    "1_Pooling": "sentence_transformers.models.Pooling",
    "2_Normalize": "sentence_transformers.models.Normalize",
}


def merged(settings, sizes):
    """`settings` with other values, section by section."""
    merged_settings = dict(settings)
    for key, value in sizes.items():
        is_section = isinstance(value, dict) and isinstance(settings.get(key), dict)
        merged_settings[key] = merged(settings[key], value) if is_section else value
    return merged_settings


def empty_model(settings, folder):
    """The reference's model without memory for its weights."""
    write_json(folder / "config.json", settings)
    with torch.device("meta"):
        return transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(folder))


def renaming(tiny, folder):
    """How the tiny checkpoint names what the reference's class calls otherwise."""
    names = [*empty_model(json.loads((tiny / "config.json").read_text()), folder).state_dict()]
    with safe_open(tiny / "model.safetensors", "pt") as file:
        stored = set(file.keys())
    rules = [
        lambda name: name,
        lambda name: f"model.{name}",
        lambda name: f"bert.{name}",
        lambda name: f"mpnet.{name}",
        lambda name: name.replace("language_model.", "model.", 1),
    ]
    for rule in rules:
        if {rule(name) for name in names} == stored:
            return rule
    raise ValueError(f"{tiny.name}: its tensors are not those of the reference's class")


def random_weight(name, shape, storage):
    """Norms of ones; matrices that keep the size of activations."""
    if len(shape) < 2:
        return torch.full(shape, float(name.endswith("weight")), dtype=storage)
    normal = torch.randn(shape, dtype=storage, device=GENERATOR)
    return normal.mul_(1 / math.sqrt(shape[-1])).cpu()


def write_json(path, value):
    """Writes a JSON file."""
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def make(tiny, dtype, max_tokens, sizes, folder):
    """One checkpoint."""
    folder.mkdir(parents=True)
    rename = renaming(tiny, folder)
    model = empty_model(merged(json.loads((tiny / "config.json").read_text()), sizes), folder)
    storage = getattr(torch, dtype)
    state = {
        rename(key): random_weight(key, weight.shape, storage)
        for key, weight in model.state_dict().items()
    }
    for file in TOKENIZER:
        if (tiny / file).exists():
            shutil.copyfile(tiny / file, folder / file)
    settings = json.loads((tiny / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", {**settings, "model_max_length": max_tokens})
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def make_family(name, folder):
    """A model of the families."""
    _, dtype, sizes = MODELS[name]
    tiny = TESTS / TINY.get(name, "families") / name
    make(tiny, dtype, MAX_TOKENS, sizes, folder)


def make_device_model(name, folder):
    """A model of a GPU, with its modules."""
    tiny, pooling, max_tokens, sizes = DEVICE_MODELS[name]
    dtype = "bfloat16"
    sizes = {**sizes, "dtype": dtype, "torch_dtype": dtype}
    make(TESTS / "families" / tiny, dtype, max_tokens, sizes, folder)
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": kind}
        for index, (path, kind) in enumerate(MODULES.items())
    ]
    write_json(folder / "modules.json", modules)
    (folder / "1_Pooling").mkdir()
    width = sizes["hidden_size"]
    settings = {"word_embedding_dimension": width, f"pooling_mode_{pooling}": True}
    write_json(folder / "1_Pooling/config.json", settings)


def main():
    """Makes what is missing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", help="models of a GPU; none: every family")
    arguments = parser.parse_args()
    out, names = arguments.out, arguments.names
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(7)
    for name in names or MODELS:
        if (out / name / "model.safetensors").exists():
            continue
        print(f"making {name if names else MODELS[name][0]}", flush=True)
        shutil.rmtree(out / name, ignore_errors=True)
        unfinished = out / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        (make_device_model if names else make_family)(name, unfinished)
        unfinished.rename(out / name)
    if not names:
        write_json(out / "models.json", {name: model for name, (model, _, _) in MODELS.items()})


if __name__ == "__main__":
    main()
