"""What a tiny checkpoint is made of: config.json, tokenizer and the files of sentence-transformers."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tokenizers import Tokenizer

OLD_TYPES = {
    name: f"sentence_transformers.models.{name}"
    for name in ("Transformer", "Pooling", "Dense", "Normalize")
}
NEW_TYPES = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}


@dataclass
class Family:
    """One checkpoint directory."""

    config: dict
    tokenizer: Callable[[], Tokenizer]
    tokenizer_config: dict
    pooling: dict
    sentence_bert: dict | None
    normalize: bool = True
    dense: list[dict] = field(default_factory=list)
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    types: dict[str, str] = field(default_factory=lambda: OLD_TYPES)
    storage: str = "float32"
    prefix: str = ""
    folder: str = "."
    # Shorter vectors: those that requests ask for, and those that they get without asking.
    dimensions: tuple[int, ...] = ()
    layer_norm: bool = False
    truncate: int | None = None


def old_pooling(width, *modes, **more):
    """1_Pooling/config.json with one boolean a mode."""
    known = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    known += ("weightedmean_tokens", "lasttoken")
    booleans = {f"pooling_mode_{mode}": mode in modes for mode in known}
    return {"word_embedding_dimension": width, **booleans, **more}


def new_pooling(width, mode, **more):
    """1_Pooling/config.json as sentence-transformers 5.4 and later write it."""
    return {"embedding_dimension": width, "pooling_mode": mode, "include_prompt": True, **more}


def dense(inputs, outputs, bias, activation):
    """config.json of a Dense module."""
    return {
        "in_features": inputs,
        "out_features": outputs,
        "bias": bias,
        "activation_function": f"torch.nn.modules.{activation}",
    }


def tokenizer_config(kind, limit, **special):
    """tokenizer_config.json."""
    return {"tokenizer_class": kind, "model_max_length": limit, **special}


LENGTH_64 = {"max_seq_length": 64, "do_lower_case": False}
LENGTH_128 = {"max_seq_length": 128, "do_lower_case": False}
