"""What the checkpoints of models that see have in common; the rest is that of ../families."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from tokenizers import Tokenizer

HERE = Path(__file__).parent
# First: a script here has the name of one there.
sys.path.insert(0, str(HERE.parent / "families"))

import tiny_tokenizers as tiny  # noqa: E402
from make_checkpoints import SEED, encoded, write_json  # noqa: E402
from make_checkpoints import randomize as seeded  # noqa: E402

__all__ = ["SEED", "encoded", "tiny", "write_json"]

MEAN = [0.48145466, 0.4578275, 0.40821073]
DEVIATION = [0.26862954, 0.26130258, 0.27577711]
TEXTS = json.loads((HERE.parent / "families/texts.json").read_text(encoding="utf-8"))


@dataclass
class Reference:
    """A checkpoint as the reference computes it."""

    # What is asked: `text`, `images`, `instruction`, each where it applies.
    cases: list[dict]
    # From a case, and whether in f64, to the vector and the token count.
    answer: Callable
    # From an image's name to the pixel values of its patches, in order, and their grid.
    see: Callable


def write_tokenizer(directory, make, config):
    """Keeps a tokenizer.json that is there: training one breaks ties differently."""
    path = directory / "tokenizer.json"
    if not path.exists():
        write_json(path, json.loads(make().to_str()))
    write_json(directory / "tokenizer_config.json", config)
    return Tokenizer.from_file(str(path))


def write_preprocessor(directory, processor, **settings):
    """preprocessor_config.json."""
    common = {
        "image_processor_type": processor,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": MEAN,
        "image_std": DEVIATION,
        "resample": 3,
        "rescale_factor": 1 / 255,
    }
    write_json(directory / "preprocessor_config.json", {**common, **settings})


def write_weights(directory, state):
    """model.safetensors."""
    state = {name: weight.contiguous() for name, weight in state.items()}
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})


def load_whole(kind, directory):
    """A model of transformers all of whose weights, and no others, lie in the directory."""
    model, info = kind.from_pretrained(directory, output_loading_info=True)
    wrong = {key: value for key, value in info.items() if value}
    assert not wrong, f"{directory.name}: {wrong}"
    return model


def randomize(model):
    """Weights as those of ../families."""
    return seeded(model, SEED)


def unit(vector):
    """Divided by its length."""
    return vector / vector.norm()
