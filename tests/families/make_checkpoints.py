"""Makes tiny checkpoints of the model families, and what sentence-transformers answers for them.

Versions that made the committed files:

    pip install sentence-transformers==6.2.0 transformers==5.23.0 torch==2.15.0

Run with the names of families, or with none for all of encoders.py, decoders.py and copies.py:

    python make_checkpoints.py [NAME...]

With --out another folder is filled, with --seed by other weights, and with --scale in other sizes
too; TENON_FAMILIES=FOLDER makes the tests read it.

NAME/ is a checkpoint with random weights in the files of a real one (third-party/NAME/ if no
built-in component computes it, conversations/NAME/ if it has a chat template); NAME.json beside it has the vectors of texts.json, each computed
alone (batch of one, no padding) in f32, and how far the reference is from itself in f64. The
weights are larger than those of a fresh model, so that an error in any part of the graph shows in
the vectors. A tokenizer.json that is there is kept: training one breaks ties differently on every
run.
"""

import argparse
import base64
import json
import math
import platform
import shutil
from pathlib import Path

import numpy
import sentence_transformers
import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

import conversations
from copies import COPIES
from decoders import DECODERS
from encoders import ENCODERS
from sizes import resized

HERE = Path(__file__).parent
FAMILIES = ENCODERS | DECODERS
SEED = 7
# The texts with a prompt, and with shorter vectors.
CHOSEN_TEXTS = (0, 10, 18)
# As real models have more rows than tokens.
EMBEDDING_ROWS = 16


def write_json(path, value):
    """Writes a compact JSON file, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text + "\n", encoding="utf-8")


def randomize(model, seed):
    """Weights that keep the size of activations; norms and biases away from ones and zeros."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.ndim == 1 and name.endswith("bias"):
            value = 0.2 * noise
        elif weight.ndim == 1:
            value = weight + 0.3 * noise
        elif "embed" in name:
            value = 0.1 * noise
        else:
            value = 1.2 / math.sqrt(weight.shape[1]) * noise
        weight.data = value.float()
    return model


def write_tokenizer(family, directory):
    """tokenizer.json and tokenizer_config.json; the size of the vocabulary."""
    path = directory / "tokenizer.json"
    if not path.exists():
        write_json(path, json.loads(family.tokenizer().to_str()))
    write_json(directory / "tokenizer_config.json", family.tokenizer_config)
    return tokenizers.Tokenizer.from_file(str(path)).get_vocab_size()


def write_model(family, vocabulary, directory, seed):
    """config.json and model.safetensors."""
    rows = math.ceil(vocabulary / EMBEDDING_ROWS) * EMBEDDING_ROWS
    write_json(directory / "config.json", {**family.config, "vocab_size": rows})
    config = transformers.AutoConfig.from_pretrained(directory)
    model = randomize(transformers.AutoModel.from_config(config), seed)
    storage = getattr(torch, family.storage)
    state = {
        family.prefix + name: weight.to(storage).contiguous()
        for name, weight in model.state_dict().items()
    }
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})


def write_dense(settings, storage, directory, seed):
    """A Dense module's two files: f32, with values that `storage` can hold too."""
    write_json(directory / "config.json", settings)
    sizes = {key: settings[key] for key in ("in_features", "out_features", "bias")}
    linear = randomize(torch.nn.Linear(**sizes), seed)
    state = {
        f"linear.{name}": weight.to(storage).float()
        for name, weight in linear.state_dict().items()
    }
    save_file(state, directory / "model.safetensors")


def write_modules(family, directory, seed):
    """modules.json and the modules after the transformer."""
    kinds = ["Transformer", "Pooling"] + ["Dense"] * len(family.dense)
    kinds += ["Normalize"] * family.normalize
    paths = [f"{index}_{kind}" if index else "" for index, kind in enumerate(kinds)]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": family.types[kind]}
        for index, (kind, path) in enumerate(zip(kinds, paths))
    ]
    write_json(directory / "modules.json", modules)
    write_json(directory / "1_Pooling/config.json", family.pooling)
    for settings, path in zip(family.dense, paths[2:]):
        write_dense(settings, getattr(torch, family.storage), directory / path, seed)


def write_settings(family, directory):
    """sentence_bert_config.json and config_sentence_transformers.json."""
    if family.sentence_bert is not None:
        write_json(directory / "sentence_bert_config.json", family.sentence_bert)
    settings = {
        "__version__": {
            "sentence_transformers": sentence_transformers.__version__,
            "transformers": transformers.__version__,
            "pytorch": torch.__version__.split("+")[0],
        },
        "prompts": family.prompts,
        "default_prompt_name": family.default_prompt,
        "similarity_fn_name": "cosine",
    }
    if family.truncate is not None:
        settings["truncate_dim"] = family.truncate
    write_json(directory / "config_sentence_transformers.json", settings)


def write_checkpoint(family, directory, seed):
    """The whole directory."""
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = write_tokenizer(family, directory)
    write_model(family, vocabulary, directory, seed)
    write_modules(family, directory, seed)
    write_settings(family, directory)


def check_loading(directory, texts):
    """The reference reads every weight, and tokenizes as tokenizer.json says."""
    _, info = transformers.AutoModel.from_pretrained(directory, output_loading_info=True)
    wrong = {key: value for key, value in info.items() if value}
    assert not wrong, f"{directory.name}: {wrong}"
    file = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    loaded = transformers.AutoTokenizer.from_pretrained(directory)
    for text in texts:
        assert file.encode(text).ids == loaded(text)["input_ids"], f"{directory.name}: {text!r}"


def encoded(vector):
    """Little-endian f32 values in base64."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


def count(model, text, prompt):
    """Tokens of a text behind its prompt, special tokens counted, after truncation."""
    return int(model.preprocess([text], prompt=prompt)["attention_mask"].sum())


def shortened(vector, dimensions, layer_norm):
    """As nomic-embed-text-v1.5 and others say: layer norm of the whole, the first elements, L2."""
    if dimensions is None:
        return vector
    vector = torch.from_numpy(vector)
    if layer_norm:
        vector = torch.nn.functional.layer_norm(vector, vector.shape)
    return torch.nn.functional.normalize(vector[:dimensions], dim=0).numpy()


def goldens(directory, family, texts):
    """What sentence-transformers answers."""
    f32 = {"dtype": torch.float32}
    model = SentenceTransformer(str(directory), device="cpu", model_kwargs=f32)
    cases = [(index, None, None) for index in range(len(texts))]
    cases += [(index, name, None) for name in family.prompts for index in CHOSEN_TEXTS]
    cases += [(index, None, length) for length in family.dimensions for index in CHOSEN_TEXTS]

    def vectors():
        return [
            shortened(model.encode(texts[index], prompt_name=name), length, family.layer_norm)
            for index, name, length in cases
        ]

    found, counts = vectors(), []
    for index, name, _ in cases:
        prompt = model.prompts.get(name or model.default_prompt_name)
        counts.append(count(model, texts[index], prompt))
    model.double()
    exact = vectors()
    errors = [
        numpy.abs(vector - other).max() / numpy.linalg.norm(vector)
        for vector, other in zip(found, exact)
    ]
    return {
        "versions": {
            "python": platform.python_version(),
            "sentence-transformers": sentence_transformers.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
            "torch": torch.__version__.split("+")[0],
        },
        "reference_f64_max_abs": float(max(errors)),
        "dimensions": len(found[0]),
        "cases": [
            {
                "text": index,
                "prompt_name": name,
                **({} if length is None else {"dimensions": length}),
                "tokens": tokens,
                "vector": encoded(vector),
            }
            for (index, name, length), tokens, vector in zip(cases, counts, found)
        ],
    }


def make(name, texts, options):
    """One family: its directory and its goldens."""
    family = FAMILIES[name]
    if options.scale:
        family = resized(name, family, options.seed)
    directory = options.out / family.folder / name
    write_checkpoint(family, directory, options.seed)
    check_loading(directory, texts)
    answers = goldens(directory, family, texts)
    if "chat_template" in family.tokenizer_config:
        answers["cases"] += [
            {**request, "tokens": tokens, "vector": encoded(vector)}
            for request, tokens, vector in conversations.answers(directory)
        ]
    directory.with_name(f"{name}.json").write_text(json.dumps(answers, indent=0) + "\n")
    lengths = [case["tokens"] for case in answers["cases"]]
    print(f"{name}: tokens {lengths}, f64 {answers['reference_f64_max_abs']:.1e}")


def copy(name, out):
    """A copy of a family in other files, with the same goldens."""
    source, write = COPIES[name]
    shutil.rmtree(out / name, ignore_errors=True)
    write(out / source, out / name)
    shutil.copyfile(out / f"{source}.json", out / f"{name}.json")


def main():
    """Makes the families that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=[*FAMILIES, *COPIES])
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--scale", action="store_true", help="in sizes drawn from the seed")
    options = parser.parse_args()
    if options.out == HERE and (options.scale or options.seed != SEED):
        parser.error("other weights and sizes belong into another folder: --out")
    listed = (HERE / "texts.json").read_text(encoding="utf-8")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "texts.json").write_text(listed, encoding="utf-8")
    torch.set_num_threads(1)
    for name in options.names:
        if name in COPIES:
            copy(name, options.out)
        else:
            make(name, json.loads(listed), options)


if __name__ == "__main__":
    main()
