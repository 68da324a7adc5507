"""Makes tiny checkpoints of the models that see, and what the reference answers for them.

Versions that made the committed files:

    pip install sentence-transformers==6.2.0 transformers==5.23.0 torch==2.15.0 Pillow==13.0.0

torchvision must not be installed: the processors of images are then those that resize with
Pillow, which the models were trained with, wherever they are loaded from.

    python make_checkpoints.py

images/ has the images. NAME/ is a checkpoint with random weights in the files of a real one.
NAME.json has each case's token count and vector, computed alone in f32, and how far the reference
is from itself in f64. pixels.safetensors has the bytes that each image processor makes of each
image, patch by patch, behind which there is only arithmetic.
"""

import importlib.util
import json

import PIL
import sentence_transformers
import torch
import transformers
from safetensors.torch import save_file

import clip_models
import pictures
import qwen2_vl_models
from common import DEVIATION, HERE, MEAN, SEED, encoded

CHECKPOINTS = {**clip_models.CHECKPOINTS, **qwen2_vl_models.CHECKPOINTS}
# A resaved checkpoint sees as its source does.
SEEN = ("clip", "clip-sentence-transformers", "gme-qwen2-vl")


def goldens(name, reference):
    """NAME.json."""
    answers = [reference.answer(case, False) for case in reference.cases]
    exact = [reference.answer(case, True)[0] for case in reference.cases]
    differences = [
        float((vector - other).abs().max() / vector.norm())
        for (vector, _), other in zip(answers, exact)
    ]
    golden = {
        "versions": {
            "sentence-transformers": sentence_transformers.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__.split("+")[0],
            "Pillow": PIL.__version__,
        },
        "reference_f64_max_abs": max(differences),
        "cases": [
            {**case, "tokens": tokens, "vector": encoded(vector.numpy())}
            for case, (vector, tokens) in zip(reference.cases, answers)
        ],
    }
    text = json.dumps(golden, indent=0, ensure_ascii=False)
    (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(f"{name}: tokens {[tokens for _, tokens in answers]}, f64 {max(differences):.1e}")


def pixels(reference, image):
    """The bytes [patches, 3, side, side] that were normalised to pixel values, and the grid."""
    values, grid = reference.see(image)
    mean, deviation = (torch.tensor(it).view(3, 1, 1).double() for it in (MEAN, DEVIATION))
    exact = (values.double() * deviation + mean) * 255
    bytes = exact.round()
    assert ((bytes / 255 - mean) / deviation - values).abs().max() < 1e-6
    return bytes.to(torch.uint8), torch.tensor(grid, dtype=torch.int32)


def main():
    """Makes everything."""
    assert importlib.util.find_spec("torchvision") is None, "torchvision resizes in its own way"
    torch.set_num_threads(1)
    pictures.make()
    seen = {}
    for name, make in CHECKPOINTS.items():
        # What `randomize` adds to is random for some weights.
        torch.manual_seed(SEED)
        reference = make()
        goldens(name, reference)
        for image in pictures.LOSSLESS if name in SEEN else []:
            bytes, grid = pixels(reference, image)
            seen |= {f"{name}/{image}": bytes, f"{name}/{image}/grid": grid}
    save_file(seen, HERE / "pixels.safetensors")


if __name__ == "__main__":
    main()
