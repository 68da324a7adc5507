"""Makes tiny checkpoints of the models that see, and what the reference answers for them.

Versions that made the committed files:

    pip install sentence-transformers==6.2.0 transformers==5.23.0 torch==2.15.0 Pillow==13.0.0

torchvision must not be installed: the image processors named here are those that resize with
Pillow, as the models were trained with.

    python make_checkpoints.py

images/ has the images; NAME/ is a checkpoint with random weights in the files of a real one; NAME.json
has, for each case, its token count and the vector, each computed alone in f32, and how far the
reference is from itself in f64.
"""

import base64
import json
import math
import shutil
import sys
from pathlib import Path

import numpy
import PIL
import sentence_transformers
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "families"))

import tiny_tokenizers as tiny  # noqa: E402
from make_checkpoints import encoded, randomize, write_json  # noqa: E402

IMAGES = {
    "odd.png": (61, 37, "RGB"),
    "square.png": (28, 28, "RGB"),
    "wide.png": (120, 50, "RGB"),
    "tiny.png": (9, 9, "RGB"),
    "long.png": (300, 60, "RGB"),
    "large.png": (230, 190, "RGB"),
    "alpha.png": (45, 70, "RGBA"),
    "grey.png": (70, 44, "L"),
}
TEXTS = ["A tenon fits a mortise.", "two planks of OAK, joined", "木 <grain>"]
MEAN = [0.48145466, 0.4578275, 0.40821073]
DEVIATION = [0.26862954, 0.26130258, 0.27577711]
SYSTEM = "You are a helpful assistant."


def make_images():
    """Gradients under noise, in PNG: it loses nothing."""
    random = numpy.random.default_rng(11)
    (HERE / "images").mkdir(exist_ok=True)
    for name, (width, height, mode) in IMAGES.items():
        y, x = numpy.mgrid[0:height, 0:width]
        bands = [x * 255 // width, y * 255 // height, x * y % 256, 255 - x * 200 // width]
        pixels = numpy.stack(bands[: len(mode)], -1)
        pixels = pixels + random.integers(-40, 40, pixels.shape)
        pixels = numpy.clip(pixels, 0, 255).astype("uint8")
        Image.fromarray(pixels.squeeze(), mode).save(HERE / "images" / name, optimize=True)


def image(name):
    """An image as transformers loads it."""
    return Image.open(HERE / "images" / name).convert("RGB")


def clip_tokenizer():
    """CLIP's: lower case, merges over bytes, words end in </w>."""
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    split = (
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
        r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(tiny.CORPUS, trainer)
    # Every byte may end a word.
    model = tiny.model_of(tokenizer)
    vocabulary = model["vocab"]
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary.setdefault(f"{letter}</w>", len(vocabulary))
    tokenizer.model = models.BPE(
        vocabulary,
        [tuple(merge) for merge in model["merges"]],
        unk_token="<|endoftext|>",
        end_of_word_suffix="</w>",
    )
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    start, end = (tokenizer.token_to_id(f"<|{name}oftext|>") for name in ("start", "end"))
    tokenizer.post_processor = processors.RobertaProcessing(
        ("<|endoftext|>", end), ("<|startoftext|>", start), False, False
    )
    return tokenizer


def qwen_tokenizer():
    """Qwen's split, and the special tokens of Qwen2-VL."""
    names = ["endoftext", "im_start", "im_end", "vision_start", "vision_end", "image_pad"]
    added = [AddedToken(f"<|{name}|>", special=True) for name in (*names, "video_pad")]
    return tiny.byte_level([], tiny.QWEN_SPLIT, normalizers.NFC(), added)


def write_tokenizer(directory, make, config):
    """Keeps a tokenizer.json that is there: training one breaks ties differently."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "tokenizer.json"
    if not path.exists():
        write_json(path, json.loads(make().to_str()))
    write_json(directory / "tokenizer_config.json", config)
    return Tokenizer.from_file(str(path))


def seen(processor, **settings):
    """preprocessor_config.json."""
    common = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": MEAN,
        "image_std": DEVIATION,
        "resample": 3,
        "rescale_factor": 1 / 255,
    }
    return {"image_processor_type": processor, **common, **settings}


CLIP_TOKENS = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}


def write_clip(directory, sizes, eos, preprocessor):
    """A CLIP in the files of its hub; `eos` as config.json has it, none: the tokenizer's."""
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 24, **CLIP_TOKENS}
    config |= {"pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    tokenizer = write_tokenizer(directory, clip_tokenizer, config)
    end = tokenizer.token_to_id("<|endoftext|>")
    text = {
        "vocab_size": tokenizer.get_vocab_size(),
        "eos_token_id": end if eos is None else eos,
        "bos_token_id": tokenizer.token_to_id("<|startoftext|>"),
        "pad_token_id": end if eos is None else 1,
        "max_position_embeddings": 24,
        **sizes["text"],
    }
    projection = sizes["projection"]
    settings = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": projection,
        "text_config": {"model_type": "clip_text_model", "projection_dim": projection, **text},
        "vision_config": {
            "model_type": "clip_vision_model",
            "projection_dim": projection,
            **sizes["vision"],
        },
        "torch_dtype": "float32",
    }
    write_json(directory / "config.json", settings)
    config = transformers.CLIPConfig.from_pretrained(directory)
    model = transformers.CLIPModel(config)
    scale = model.logit_scale.data.clone()
    model.logit_scale.data = torch.zeros(1)
    randomize(model)
    model.logit_scale.data = scale
    state = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
    write_json(directory / "preprocessor_config.json", seen("CLIPImageProcessor", **preprocessor))


def unit(vector):
    """Divided by its length."""
    return vector / vector.norm()


def clip_answer(model, tokenizer, processor, case, dtype):
    """The vector of CLIPModel.forward, and the token count."""
    with torch.no_grad():
        if "text" in case:
            ids = tokenizer.encode(case["text"]).ids
            vector = model.get_text_features(input_ids=torch.tensor([ids]))
        else:
            ids = [0]
            pixels = processor(images=[image(case["images"][0])], return_tensors="pt")
            vector = model.get_image_features(pixel_values=pixels["pixel_values"].to(dtype))
    return unit(vector.pooler_output[0]), len(ids)


def clip():
    """The layout of the hub: no modules.json, the eos of early configurations."""
    directory = HERE / "clip"
    sizes = {
        "text": {
            "hidden_size": 40,
            "intermediate_size": 72,
            "num_attention_heads": 5,
            "num_hidden_layers": 2,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-4,
        },
        "vision": {
            "hidden_size": 48,
            "intermediate_size": 80,
            "num_attention_heads": 3,
            "num_hidden_layers": 3,
            "image_size": 32,
            "patch_size": 8,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-4,
        },
        "projection": 36,
    }
    write_clip(directory, sizes, 2, {"size": 32, "crop_size": 32, "do_center_crop": True})
    model = transformers.CLIPModel.from_pretrained(directory)
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    processor = CLIPImageProcessorPil.from_pretrained(directory)

    def answer(case, double):
        dtype = torch.float64 if double else torch.float32
        return clip_answer(model.to(dtype), tokenizer, processor, case, dtype)

    return [{"text": text} for text in TEXTS] + [{"images": [name]} for name in IMAGES], answer


def clip_sentence_transformers():
    """The layout of sentence-transformers: the model in a folder of its own, no L2."""
    top = HERE / "clip-sentence-transformers"
    directory = top / "0_CLIPModel"
    sizes = {
        "text": {
            "hidden_size": 32,
            "intermediate_size": 56,
            "num_attention_heads": 2,
            "num_hidden_layers": 3,
            "hidden_act": "gelu",
        },
        "vision": {
            "hidden_size": 36,
            "intermediate_size": 60,
            "num_attention_heads": 3,
            "num_hidden_layers": 2,
            "image_size": 30,
            "patch_size": 10,
            "hidden_act": "gelu",
        },
        "projection": 44,
    }
    side = {"height": 30, "width": 30}
    preprocessor = {"size": {"shortest_edge": 34}, "crop_size": side, "do_center_crop": True}
    write_clip(directory, sizes, None, preprocessor)
    kind = "sentence_transformers.models.CLIPModel"
    modules = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": kind}]
    write_json(top / "modules.json", modules)
    model = SentenceTransformer(str(top), device="cpu", model_kwargs={"dtype": torch.float32})
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))

    def answer(case, double):
        reference = model.double() if double else model.float()
        text = case.get("text")
        vector = reference.encode(image(case["images"][0]) if text is None else text)
        tokens = 1 if text is None else len(tokenizer.encode(text).ids)
        return torch.tensor(vector), tokens

    return [{"text": text} for text in TEXTS] + [{"images": [name]} for name in IMAGES], answer


def gme(directory):
    """GME on Qwen2-VL, in the files of its hub."""
    end = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    config = {"tokenizer_class": "Qwen2Tokenizer", "model_max_length": 1024, **end}
    tokenizer = write_tokenizer(directory, qwen_tokenizer, config)
    token = tokenizer.token_to_id
    sizes = {
        "hidden_size": 48,
        "intermediate_size": 72,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "max_window_layers": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 7000.0,
        "hidden_act": "silu",
        "sliding_window": 32,
        "use_sliding_window": False,
        "vocab_size": math.ceil(tokenizer.get_vocab_size() / 16) * 16,
        "bos_token_id": token("<|endoftext|>"),
        "eos_token_id": token("<|endoftext|>"),
    }
    ids = {f"{name}_token_id": token(f"<|{name}_pad|>") for name in ("image", "video")}
    ids |= {f"vision_{name}_token_id": token(f"<|vision_{name}|>") for name in ("start", "end")}
    vision = {
        "depth": 2,
        "embed_dim": 40,
        "mlp_ratio": 2,
        "num_heads": 2,
        "in_chans": 3,
        "hidden_size": 48,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "temporal_patch_size": 2,
    }
    settings = {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        **sizes,
        **ids,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        "vision_config": vision,
        "torch_dtype": "float32",
    }
    write_json(directory / "config.json", settings)
    sizes = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
    bounds = {"min_pixels": 3136, "max_pixels": 28 * 28 * 16}
    settings = seen("Qwen2VLImageProcessor", **sizes, **bounds)
    write_json(directory / "preprocessor_config.json", settings)
    model = transformers.Qwen2VLModel(transformers.AutoConfig.from_pretrained(directory))
    randomize(model)
    old = {"visual.": "visual.", "language_model.": "model."}
    state = {}
    for name, weight in model.state_dict().items():
        prefix = next(prefix for prefix in old if name.startswith(prefix))
        state[old[prefix] + name.removeprefix(prefix)] = weight.contiguous()
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})


def gme_cases(directory):
    """What is asked of it, and how the reference answers."""
    _, info = transformers.Qwen2VLModel.from_pretrained(directory, output_loading_info=True)
    wrong = {key: value for key, value in info.items() if value}
    assert not wrong, f"{directory.name}: {wrong}"
    model = transformers.Qwen2VLModel.from_pretrained(directory)
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    processor = Qwen2VLImageProcessorPil.from_pretrained(directory)
    cases = [{"text": text} for text in TEXTS]
    cases += [{"images": [name]} for name in IMAGES]
    cases += [{"text": TEXTS[0], "images": [name]} for name in ("odd.png", "wide.png")]
    cases.append({"text": TEXTS[1], "instruction": "Find an image that matches the given text."})
    cases.append({"images": ["tiny.png"], "instruction": "Represent the image."})
    cases.append({"text": TEXTS[2], "images": ["odd.png", "long.png"]})

    def answer(case, double):
        dtype = torch.float64 if double else torch.float32
        reference = model.to(dtype)
        seen, content = {}, ""
        if "images" in case:
            seen = processor(images=[image(name) for name in case["images"]], return_tensors="pt")
            for _, rows, columns in seen["image_grid_thw"].tolist():
                pads = "<|image_pad|>" * (rows * columns // 4)
                content += f"<|vision_start|>{pads}<|vision_end|>"
            seen["pixel_values"] = seen["pixel_values"].to(dtype)
        prompt = (
            f"<|im_start|>system\n{case.get('instruction', SYSTEM)}<|im_end|>\n"
            f"<|im_start|>user\n{content}{case.get('text', '')}<|im_end|>\n"
            "<|im_start|>assistant\n<|endoftext|>"
        )
        ids = torch.tensor([tokenizer.encode(prompt, add_special_tokens=False).ids])
        kinds = (ids == tokenizer.token_to_id("<|image_pad|>")).int()
        with torch.no_grad():
            output = reference(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=kinds,
                **seen,
            )
        return unit(output.last_hidden_state[0, -1]), ids.shape[1]

    return cases, answer


def gme_qwen2_vl():
    """The old layout."""
    gme(HERE / "gme-qwen2-vl")
    return gme_cases(HERE / "gme-qwen2-vl")


def gme_qwen2_vl_resaved():
    """The same, as transformers 5 saves it."""
    source, directory = HERE / "gme-qwen2-vl", HERE / "gme-qwen2-vl-resaved"
    shutil.rmtree(directory, ignore_errors=True)
    transformers.Qwen2VLModel.from_pretrained(source).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, directory / name)
    Qwen2VLImageProcessorPil.from_pretrained(source).save_pretrained(directory)
    assert load_file(directory / "model.safetensors")
    return gme_cases(directory)


def goldens(name, make):
    """Makes a checkpoint, and NAME.json."""
    cases, answer = make()
    answers = [answer(case, False) for case in cases]
    exact = [answer(case, True)[0] for case in cases]
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
            for case, (vector, tokens) in zip(cases, answers)
        ],
    }
    (HERE / f"{name}.json").write_text(json.dumps(golden, indent=0, ensure_ascii=False) + "\n")
    print(f"{name}: tokens {[tokens for _, tokens in answers]}, f64 {max(differences):.1e}")


def main():
    """Makes everything."""
    torch.set_num_threads(1)
    make_images()
    goldens("clip", clip)
    goldens("clip-sentence-transformers", clip_sentence_transformers)
    goldens("gme-qwen2-vl", gme_qwen2_vl)
    goldens("gme-qwen2-vl-resaved", gme_qwen2_vl_resaved)


if __name__ == "__main__":
    main()
