"""CLIP in the files of its hub, and in those of sentence-transformers, old and new."""

import shutil

import torch
import transformers
from sentence_transformers import SentenceTransformer
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import pictures
from common import HERE, TEXTS, Reference, load_whole, randomize, tiny, write_json
from common import write_preprocessor, write_tokenizer, write_weights

MAX_TOKENS = 48
START, END, EXTRA = "<|startoftext|>", "<|endoftext|>", "<|extra|>"
# Where the first end is not the last token, nor the largest id.
SPECIAL_TEXTS = [
    f"a joint {END} and its glue",
    f"an {EXTRA} tenon {EXTRA}",
    f"{EXTRA} before {END} after {EXTRA}",
]
SPLIT = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def tokenizer():
    """CLIP's: lower case, merges over bytes, words end in </w>; and one more token."""
    made = Tokenizer(models.BPE())
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    made.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    made.train_from_iterator(tiny.CORPUS, trainer)
    trained = tiny.model_of(made)
    vocabulary = trained["vocab"]
    # Every byte may end a word.
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary.setdefault(f"{letter}</w>", len(vocabulary))
    made.model = models.BPE(
        vocabulary,
        [tuple(merge) for merge in trained["merges"]],
        unk_token=END,
        end_of_word_suffix="</w>",
    )
    added = [AddedToken(token, special=True) for token in (START, END, EXTRA)]
    made.add_special_tokens(added)
    end, start = ((token, made.token_to_id(token)) for token in (END, START))
    made.post_processor = processors.RobertaProcessing(end, start, False, False)
    return made


def write(directory, text, vision, projection, eos, **preprocessor):
    """A checkpoint; `eos` is the id of config.json, none: that of the tokenizer."""
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": MAX_TOKENS}
    config |= {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    written = write_tokenizer(directory, tokenizer, config)
    end = written.token_to_id(END)
    text = {
        "model_type": "clip_text_model",
        "vocab_size": written.get_vocab_size(),
        "eos_token_id": end if eos is None else eos,
        "bos_token_id": written.token_to_id(START) if eos is None else 0,
        "pad_token_id": end if eos is None else 1,
        "max_position_embeddings": MAX_TOKENS,
        "projection_dim": projection,
        **text,
    }
    settings = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": projection,
        "logit_scale_init_value": 2.6592,
        "text_config": text,
        "vision_config": {
            "model_type": "clip_vision_model",
            "projection_dim": projection,
            **vision,
        },
        "torch_dtype": "float32",
    }
    write_json(directory / "config.json", settings)
    write_preprocessor(directory, "CLIPImageProcessor", do_center_crop=True, **preprocessor)
    model = transformers.CLIPModel(transformers.CLIPConfig.from_pretrained(directory))
    # A number, which has no second dimension to scale noise by.
    scale = model.logit_scale
    del model.logit_scale
    randomize(model)
    model.logit_scale = scale
    write_weights(directory, model.state_dict())


def cases():
    """Texts of every kind, and each image."""
    texts = [text for text in TEXTS if text.strip()] + SPECIAL_TEXTS
    return [{"text": text} for text in texts] + [{"images": [name]} for name in pictures.NAMES]


def reader(directory):
    """From texts to ids, truncated; the way transformers reads them is the same."""
    read = Tokenizer.from_file(str(directory / "tokenizer.json"))
    read.enable_truncation(MAX_TOKENS)
    loaded = transformers.AutoTokenizer.from_pretrained(directory)

    def ids(text):
        found = read.encode(text).ids
        assert found == loaded(text, truncation=True)["input_ids"], repr(text)
        return found

    return ids


def seer(directory):
    """The image processor, and `Reference.see`."""
    processor = CLIPImageProcessorPil.from_pretrained(directory)
    side = transformers.CLIPConfig.from_pretrained(directory).vision_config.patch_size

    def see(name):
        pixels = processor(images=[pictures.load(name)], return_tensors="pt")["pixel_values"]
        rows, columns = (length // side for length in pixels.shape[2:])
        patches = pixels.reshape(3, rows, side, columns, side).permute(1, 3, 0, 2, 4)
        return patches.reshape(rows * columns, 3, side, side), (rows, columns)

    return processor, see


def plain():
    """No modules.json; the eos_token_id of early checkpoints; vectors of length 1."""
    directory = HERE / "clip"
    text = {
        "hidden_size": 40,
        "intermediate_size": 72,
        "num_attention_heads": 5,
        "num_hidden_layers": 2,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-4,
    }
    vision = {
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_attention_heads": 3,
        "num_hidden_layers": 3,
        "image_size": 32,
        "patch_size": 8,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-4,
    }
    write(directory, text, vision, 36, 2, size=32, crop_size=32)
    model = load_whole(transformers.CLIPModel, directory)
    ids = reader(directory)
    processor, see = seer(directory)

    def answer(case, is_double):
        model.to(torch.float64 if is_double else torch.float32)
        image = pictures.load(case.get("images", ["tiny.png"])[0])
        pixels = processor(images=[image], return_tensors="pt")["pixel_values"].to(model.dtype)
        tokens = ids(case.get("text", ""))
        with torch.no_grad():
            output = model(input_ids=torch.tensor([tokens]), pixel_values=pixels)
        if "text" in case:
            return output.text_embeds[0], len(tokens)
        return output.image_embeds[0], 1

    return Reference(cases(), answer, see)


def sentence_transformers(directory):
    """The reference of a directory of sentence-transformers."""
    model = SentenceTransformer(str(directory), device="cpu")

    def answer(case, is_double):
        reference = model.double() if is_double else model.float()
        if "text" in case:
            tokens = model.preprocess([case["text"]])["input_ids"].shape[1]
            return torch.tensor(reference.encode(case["text"])), tokens
        return torch.tensor(reference.encode(pictures.load(case["images"][0]))), 1

    return answer


def hub():
    """A folder for the model itself; odd sizes; the tokenizer's eos; no division by length."""
    top = HERE / "clip-sentence-transformers"
    directory = top / "0_CLIPModel"
    text = {
        "hidden_size": 30,
        "intermediate_size": 56,
        "num_attention_heads": 3,
        "num_hidden_layers": 3,
        "hidden_act": "gelu",
    }
    vision = {
        "hidden_size": 35,
        "intermediate_size": 60,
        "num_attention_heads": 5,
        "num_hidden_layers": 2,
        "image_size": 30,
        "patch_size": 10,
        "hidden_act": "gelu",
    }
    crop = {"height": 30, "width": 30}
    write(directory, text, vision, 44, None, size={"shortest_edge": 34}, crop_size=crop)
    kind = "sentence_transformers.models.CLIPModel"
    modules = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": kind}]
    write_json(top / "modules.json", modules)
    load_whole(transformers.CLIPModel, directory)
    ids = reader(directory)
    for case in cases():
        ids(case.get("text", ""))
    return Reference(cases(), sentence_transformers(top), seer(directory)[1])


def resaved():
    """What the installed sentence-transformers writes of it."""
    source, directory = HERE / "clip-sentence-transformers", HERE / "clip-resaved"
    shutil.rmtree(directory, ignore_errors=True)
    model = SentenceTransformer(str(source), device="cpu")
    model.save(str(directory), create_model_card=False)
    return Reference(cases(), sentence_transformers(directory), seer(source / "0_CLIPModel")[1])


CHECKPOINTS = {
    "clip": plain,
    "clip-sentence-transformers": hub,
    "clip-resaved": resaved,
}
