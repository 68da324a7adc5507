"""The images that the models are shown, in images/: gradients under noise."""

from pathlib import Path

import numpy
from PIL import Image

FOLDER = Path(__file__).parent / "images"

# Sizes that a bicubic filter, a crop and a grid of patches each treat in their own way.
SIZES = {
    "odd.png": (61, 37, "RGB"),
    "square.png": (28, 28, "RGB"),
    "wide.png": (120, 50, "RGB"),
    "tiny.png": (9, 9, "RGB"),
    "long.png": (300, 60, "RGB"),
    "large.png": (200, 150, "RGB"),
    # Its height is rounded to no patch at all before the fewest pixels lift it.
    "thin.png": (150, 11, "RGB"),
    "alpha.png": (45, 70, "RGBA"),
    "grey.png": (70, 44, "L"),
    # Decoders differ: vectors are held against it loosely.
    "photo.jpg": (93, 64, "RGB"),
}
NAMES = list(SIZES)
LOSSLESS = [name for name in NAMES if name.endswith(".png")]

# Longer than 200 times its width, which Qwen2-VL refuses; shown to no reference.
SLIVER = ("sliver.png", (1, 201, "L"))


def load(name):
    """An image as transformers loads it: alpha is dropped."""
    return Image.open(FOLDER / name).convert("RGB")


def make():
    """Writes every file."""
    random = numpy.random.default_rng(11)
    FOLDER.mkdir(exist_ok=True)
    for name, (width, height, mode) in [*SIZES.items(), SLIVER]:
        y, x = numpy.mgrid[0:height, 0:width]
        bands = [x * 255 // width, y * 255 // height, x * y % 256, 255 - x * 200 // width]
        pixels = numpy.stack(bands[: len(mode)], -1)
        pixels = pixels + random.integers(-16, 16, pixels.shape)
        pixels = numpy.clip(pixels, 0, 255).astype("uint8")
        Image.fromarray(pixels.squeeze(-1) if mode == "L" else pixels).save(
            FOLDER / name, **({"quality": 90} if name.endswith(".jpg") else {"optimize": True})
        )
