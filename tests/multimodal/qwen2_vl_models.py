"""GME on Qwen2-VL, in the files of its hub and in those that transformers 5 writes."""

import math
import shutil

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, normalizers
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

import pictures
from common import HERE, TEXTS, Reference, load_whole, randomize, tiny, unit, write_json
from common import write_preprocessor, write_tokenizer, write_weights

SYSTEM = "You are a helpful assistant."
PAD = "<|image_pad|>"


def tokenizer():
    """Qwen's split, and the special tokens of Qwen2-VL; none is added to a text."""
    names = ["endoftext", "im_start", "im_end", "vision_start", "vision_end"]
    names += ["image_pad", "video_pad"]
    added = [AddedToken(f"<|{name}|>", special=True) for name in names]
    return tiny.byte_level([], tiny.QWEN_SPLIT, normalizers.NFC(), added)


def write(directory):
    """One section for all of config.json but the vision tower; tensors named as on the hub."""
    end = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    config = {"tokenizer_class": "Qwen2Tokenizer", "model_max_length": 1024, **end}
    written = write_tokenizer(directory, tokenizer, config)
    token = written.token_to_id
    ids = {f"{name}_token_id": token(f"<|{name}_pad|>") for name in ("image", "video")}
    ids |= {f"vision_{name}_token_id": token(f"<|vision_{name}|>") for name in ("start", "end")}
    settings = {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": 48,
        "initializer_range": 0.02,
        "intermediate_size": 72,
        "max_position_embeddings": 1024,
        "max_window_layers": 2,
        "num_attention_heads": 6,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        "rope_theta": 7000.0,
        "sliding_window": 32,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "use_cache": True,
        "use_sliding_window": False,
        "vision_config": {
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
        },
        "vocab_size": math.ceil(written.get_vocab_size() / 16) * 16,
        "bos_token_id": token("<|endoftext|>"),
        "eos_token_id": token("<|endoftext|>"),
        **ids,
    }
    write_json(directory / "config.json", settings)
    write_preprocessor(
        directory,
        "Qwen2VLImageProcessor",
        patch_size=14,
        temporal_patch_size=2,
        merge_size=2,
        min_pixels=56 * 56,
        max_pixels=28 * 28 * 16,
    )
    model = transformers.Qwen2VLModel(transformers.AutoConfig.from_pretrained(directory))
    state = randomize(model).state_dict()
    write_weights(
        directory,
        {name.replace("language_model.", "model.", 1): state[name] for name in state},
    )


def cases():
    """Texts, images, both, several images, and other instructions."""
    texts = [TEXTS[index] for index in (0, 1, 3, 11, 18)]
    asked = [{"text": text} for text in texts]
    asked += [{"images": [name]} for name in pictures.NAMES]
    asked += [{"text": TEXTS[2], "images": [name]} for name in ("odd.png", "wide.png")]
    asked += [{"text": TEXTS[18], "images": ["large.png"]}]
    asked += [{"text": TEXTS[11], "images": ["odd.png", "long.png"]}]
    asked += [{"images": ["tiny.png", "alpha.png", "thin.png"]}]
    asked += [{"text": TEXTS[2], "instruction": "Find an image that matches the given text."}]
    asked += [{"images": ["tiny.png"], "instruction": "Represent the image."}]
    asked += [{"text": TEXTS[0], "images": ["grey.png"], "instruction": "A word"}]
    return asked


def prompt(case, grids):
    """What the model reads, images before the text."""
    content = ""
    for rows, columns in grids:
        content += f"<|vision_start|>{PAD * (rows * columns // 4)}<|vision_end|>"
    return (
        f"<|im_start|>system\n{case.get('instruction', SYSTEM)}<|im_end|>\n"
        f"<|im_start|>user\n{content}{case.get('text', '')}<|im_end|>\n"
        "<|im_start|>assistant\n<|endoftext|>"
    )


def reference(directory):
    """The last row of the last hidden state."""
    model = load_whole(transformers.Qwen2VLModel, directory)
    read = Tokenizer.from_file(str(directory / "tokenizer.json"))
    processor = Qwen2VLImageProcessorPil.from_pretrained(directory)
    pad = read.token_to_id(PAD)

    def process(names):
        return processor(images=[pictures.load(name) for name in names], return_tensors="pt")

    def answer(case, is_double):
        model.to(torch.float64 if is_double else torch.float32)
        seen, grids = {}, []
        if "images" in case:
            seen = process(case["images"])
            seen["pixel_values"] = seen["pixel_values"].to(model.dtype)
            grids = [grid[1:] for grid in seen["image_grid_thw"].tolist()]
        ids = read.encode(prompt(case, grids), add_special_tokens=False).ids
        ids = torch.tensor([ids])
        with torch.no_grad():
            output = model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == pad).int(),
                **seen,
            )
        return unit(output.last_hidden_state[0, -1]), ids.shape[1]

    def see(name):
        seen = process([name])
        patches = seen["pixel_values"].reshape(-1, 3, 2, 14, 14)
        assert torch.equal(patches[:, :, 0], patches[:, :, 1]), "an image is two equal frames"
        frames, rows, columns = seen["image_grid_thw"][0].tolist()
        assert frames == 1
        return patches[:, :, 0], (rows, columns)

    return Reference(cases(), answer, see)


def hub():
    """As gme-Qwen2-VL-2B-Instruct lies on the hub."""
    directory = HERE / "gme-qwen2-vl"
    write(directory)
    return reference(directory)


def resaved():
    """The same as transformers 5 saves it: a section for texts, and other names of tensors."""
    source, directory = HERE / "gme-qwen2-vl", HERE / "gme-qwen2-vl-resaved"
    shutil.rmtree(directory, ignore_errors=True)
    transformers.Qwen2VLModel.from_pretrained(source).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, directory / name)
    Qwen2VLImageProcessorPil.from_pretrained(source).save_pretrained(directory)
    return reference(directory)


CHECKPOINTS = {"gme-qwen2-vl": hub, "gme-qwen2-vl-resaved": resaved}
