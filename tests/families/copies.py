"""The same model in other files: their answers are those of the directory they are copied from."""

import json
import shutil

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

NOMIC_NAMES = {
    "embeddings.LayerNorm": "emb_ln",
    "layers.": "encoder.layers.",
    "self_attn.o_proj": "attn.out_proj",
    "mlp.up_proj": "mlp.fc11",
    "mlp.gate_proj": "mlp.fc12",
    "mlp.down_proj": "mlp.fc2",
    "post_attention_layernorm": "norm1",
    "post_mlp_layernorm": "norm2",
}


def nomic_hub(source, directory):
    """The config keys and tensor names of nomic-embed-text-v1.5 on the hub, q, k and v fused."""
    shutil.copytree(source, directory)
    native = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config = {
        "activation_function": "swiglu",
        "architectures": ["NomicBertModel"],
        "attn_pdrop": 0.0,
        "causal": False,
        "dense_seq_output": True,
        "embd_pdrop": 0.0,
        "fused_bias_fc": True,
        "fused_dropout_add_ln": True,
        "initializer_range": 0.02,
        "is_matryoshka": native["is_matryoshka"],
        "layer_norm_epsilon": native["layer_norm_eps"],
        "max_trained_positions": native["max_position_embeddings"],
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "model_type": "nomic_bert",
        "n_embd": native["hidden_size"],
        "n_head": native["num_attention_heads"],
        "n_inner": native["intermediate_size"],
        "n_layer": native["num_hidden_layers"],
        "n_positions": native["max_position_embeddings"],
        "pad_vocab_size_multiple": 64,
        "parallel_block": False,
        "parallel_block_tied_norm": False,
        "prenorm": False,
        "qkv_proj_bias": False,
        "reorder_and_upcast_attn": False,
        "resid_pdrop": 0.0,
        "rotary_emb_base": native["rope_parameters"]["rope_theta"],
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None,
        "rotary_scaling_factor": None,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        "torch_dtype": "float32",
        "type_vocab_size": native["type_vocab_size"],
        "use_cache": True,
        "use_flash_attn": True,
        "use_rms_norm": False,
        "use_xentropy": True,
        "vocab_size": native["vocab_size"],
    }
    (directory / "config.json").write_text(json.dumps(config) + "\n")
    weights = load_file(source / "model.safetensors")
    for layer in range(native["num_hidden_layers"]):
        attention = f"layers.{layer}.self_attn"
        parts = [weights.pop(f"{attention}.{part}_proj.weight") for part in "qkv"]
        weights[f"layers.{layer}.attn.Wqkv.weight"] = torch.cat(parts)
    renamed = {}
    for name, weight in weights.items():
        for native_name, hub_name in NOMIC_NAMES.items():
            name = name.replace(native_name, hub_name)
        renamed[name] = weight
    save_file(renamed, directory / "model.safetensors", metadata={"format": "pt"})


def resaved(source, directory):
    """What the installed versions of the libraries write."""
    SentenceTransformer(str(source), device="cpu").save(str(directory), create_model_card=False)


def add_eos(source, directory):
    """A tokenizer.json without the end token, as e5-mistral has it: the setting is elsewhere."""
    shutil.copytree(source, directory)
    path = directory / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    template = tokenizer["post_processor"]
    end = template["single"].pop()["SpecialToken"]["id"]
    template["special_tokens"].pop(end)
    template["pair"] = [
        part for part in template["pair"] if part.get("SpecialToken", {}).get("id") != end
    ]
    path.write_text(json.dumps(tokenizer, ensure_ascii=False) + "\n", encoding="utf-8")
    path = directory / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings |= {"add_bos_token": True, "add_eos_token": True}
    path.write_text(json.dumps(settings) + "\n", encoding="utf-8")


COPIES = {
    "mistral-add-eos": ("mistral", add_eos),
    "nomic-hub": ("nomic", nomic_hub),
    "modernbert-resaved": ("modernbert", resaved),
    "gemma3-text-resaved": ("gemma3-text", resaved),
}
