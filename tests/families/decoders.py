"""The families of decoders.

Values that a reader must not replace by a default, epsilons and thetas, differ from the defaults.
"""

from tokenizers import normalizers

import tiny_tokenizers as tiny
from conversations import CHAT_TEMPLATE
from family import (
    LENGTH_128,
    NEW_TYPES,
    Family,
    dense,
    new_pooling,
    old_pooling,
    tokenizer_config,
)

END_OF_TEXT = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
TASK = "Given a web search query, retrieve relevant passages that answer the query"


def qwen_tokenizer():
    """Qwen's split and NFC; one <|endoftext|> appended."""
    added = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = tiny.byte_level([], tiny.QWEN_SPLIT, normalizers.NFC(), added)
    tokenizer.post_processor = tiny.after_bytes(tokenizer, "$A <|endoftext|>")
    return tokenizer


def gpt_neox_tokenizer():
    """NFC and byte-level merges; nothing around the text."""
    return tiny.byte_level(["<|endoftext|>", "<|padding|>"], normalizer=normalizers.NFC())


def llama_tokenizer():
    """Llama 3's split; <|begin_of_text|> first and <|end_of_text|> last."""
    added = ["<|begin_of_text|>", "<|end_of_text|>"]
    tokenizer = tiny.byte_level([], tiny.LLAMA_SPLIT, None, added)
    single = "<|begin_of_text|> $A <|end_of_text|>"
    tokenizer.post_processor = tiny.after_bytes(tokenizer, single)
    return tokenizer


def mistral_tokenizer():
    """Llama 2's normalizer, which puts a space before the text; <s> and </s> around it."""
    spaces = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer = tiny.byte_fallback(["<unk>", "<s>", "</s>"], normalizers.Sequence(spaces))
    tokenizer.post_processor = tiny.template(tokenizer, "<s> $A </s>")
    return tokenizer


def gemma_tokenizer():
    """No space before the text; <bos> and <eos> around it."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokenizer = tiny.byte_fallback(special, normalizers.Replace(" ", "▁"))
    tokenizer.post_processor = tiny.template(tokenizer, "<bos> $A <eos>")
    return tokenizer


def decoder(**more):
    """What the config.json of every decoder here has."""
    common = {
        "hidden_size": 32,
        "intermediate_size": 72,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_act": "silu",
        "max_position_embeddings": 512,
        "rms_norm_eps": 3e-5,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": False,
        "use_cache": True,
    }
    return {**common, **more}


DECODERS = {
    "qwen2": Family(
        config=decoder(
            architectures=["Qwen2ForCausalLM"],
            model_type="qwen2",
            rope_theta=5000.0,
            sliding_window=12,
            use_sliding_window=True,
            max_window_layers=1,
            torch_dtype="float32",
        ),
        tokenizer=qwen_tokenizer,
        tokenizer_config=tokenizer_config("Qwen2Tokenizer", 512, **END_OF_TEXT),
        pooling=old_pooling(32, "lasttoken"),
        sentence_bert=LENGTH_128,
        prompts={"query": f"Instruct: {TASK}\nQuery: "},
        prefix="model.",
    ),
    "qwen2-bidirectional": Family(
        config=decoder(
            architectures=["Qwen2Model"],
            model_type="qwen2",
            is_causal=False,
            rope_parameters={"rope_theta": 20000.0, "rope_type": "default"},
            sliding_window=None,
            use_sliding_window=False,
            max_window_layers=3,
            dtype="float32",
        ),
        tokenizer=qwen_tokenizer,
        tokenizer_config=tokenizer_config("Qwen2Tokenizer", 512, **END_OF_TEXT),
        pooling=new_pooling(32, "mean"),
        sentence_bert=None,
        types=NEW_TYPES,
    ),
    "qwen2-chat": Family(
        config=decoder(
            architectures=["Qwen2ForCausalLM"],
            model_type="qwen2",
            rope_theta=2000.0,
            sliding_window=None,
            use_sliding_window=False,
            max_window_layers=3,
            torch_dtype="float32",
        ),
        tokenizer=qwen_tokenizer,
        tokenizer_config=tokenizer_config(
            "Qwen2Tokenizer", 512, chat_template=CHAT_TEMPLATE, **END_OF_TEXT
        ),
        pooling=old_pooling(32, "lasttoken"),
        sentence_bert=LENGTH_128,
        prefix="model.",
        folder="conversations",
    ),
    "qwen3": Family(
        config=decoder(
            architectures=["Qwen3ForCausalLM"],
            model_type="qwen3",
            hidden_size=48,
            head_dim=16,
            attention_bias=False,
            rope_scaling=None,
            rope_theta=30000,
            sliding_window=8,
            use_sliding_window=False,
            max_window_layers=1,
            torch_dtype="bfloat16",
        ),
        tokenizer=qwen_tokenizer,
        tokenizer_config=tokenizer_config("Qwen2Tokenizer", 128, **END_OF_TEXT),
        pooling=old_pooling(48, "lasttoken", include_prompt=True),
        sentence_bert=None,
        prompts={"query": f"Instruct: {TASK}\nQuery:", "document": ""},
        storage="bfloat16",
    ),
    "mistral": Family(
        config=decoder(
            architectures=["MistralModel"],
            model_type="mistral",
            rms_norm_eps=1e-5,
            rope_theta=3000.0,
            sliding_window=12,
            bos_token_id=1,
            eos_token_id=2,
            torch_dtype="float16",
        ),
        tokenizer=mistral_tokenizer,
        tokenizer_config=tokenizer_config(
            "PreTrainedTokenizerFast",
            512,
            bos_token="<s>",
            eos_token="</s>",
            unk_token="<unk>",
            pad_token="</s>",
        ),
        pooling=old_pooling(32, "lasttoken"),
        sentence_bert=LENGTH_128,
        prompts={"query": f"Instruct: {TASK}\nQuery: "},
        storage="float16",
    ),
    "llama": Family(
        config=decoder(
            architectures=["LlamaModel"],
            model_type="llama",
            rms_norm_eps=1e-5,
            head_dim=16,
            attention_bias=False,
            mlp_bias=False,
            rope_theta=10000.0,
            rope_scaling={
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
            torch_dtype="float32",
        ),
        tokenizer=llama_tokenizer,
        tokenizer_config=tokenizer_config(
            "PreTrainedTokenizerFast",
            512,
            bos_token="<|begin_of_text|>",
            eos_token="<|end_of_text|>",
            pad_token="<|end_of_text|>",
        ),
        pooling=new_pooling(32, ["lasttoken", "mean"]),
        sentence_bert={"max_seq_length": 160},
        normalize=False,
        types=NEW_TYPES,
    ),
    "gemma3-text": Family(
        config={
            "architectures": ["Gemma3TextModel"],
            "model_type": "gemma3_text",
            "hidden_size": 32,
            "intermediate_size": 72,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "hidden_activation": "gelu_pytorch_tanh",
            "max_position_embeddings": 256,
            "rms_norm_eps": 3e-5,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "query_pre_attn_scalar": 24,
            "sliding_window": 16,
            "_sliding_window_pattern": 3,
            "layer_types": [
                "sliding_attention",
                "sliding_attention",
                "full_attention",
                "sliding_attention",
            ],
            "rope_theta": 20000.0,
            "rope_local_base_freq": 300.0,
            "rope_scaling": None,
            "use_bidirectional_attention": True,
            "matryoshka_dimensions": [8, 12, 32],
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "bos_token_id": 2,
            "eos_token_id": 1,
            "pad_token_id": 0,
            "dtype": "bfloat16",
        },
        tokenizer=gemma_tokenizer,
        tokenizer_config=tokenizer_config(
            "GemmaTokenizer",
            160,
            bos_token="<bos>",
            eos_token="<eos>",
            unk_token="<unk>",
            pad_token="<pad>",
        ),
        pooling=old_pooling(32, "mean_tokens", include_prompt=True),
        sentence_bert={"max_seq_length": 160, "do_lower_case": False},
        dense=[
            dense(32, 64, False, "linear.Identity"),
            dense(64, 32, False, "linear.Identity"),
        ],
        prompts={
            "query": "task: search result | query: ",
            "document": "title: none | text: ",
        },
        types=NEW_TYPES,
        storage="bfloat16",
        dimensions=(8, 12, 32),
    ),
    "gpt-neox": Family(
        config={
            "architectures": ["GPTNeoXForCausalLM"],
            "model_type": "gpt_neox",
            "hidden_size": 48,
            "intermediate_size": 80,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-4,
            "max_position_embeddings": 256,
            "rotary_emb_base": 500,
            "rotary_pct": 0.25,
            "use_parallel_residual": True,
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
        },
        tokenizer=gpt_neox_tokenizer,
        tokenizer_config=tokenizer_config("PreTrainedTokenizerFast", 256, **END_OF_TEXT),
        pooling=old_pooling(48, "weightedmean_tokens"),
        sentence_bert=LENGTH_128,
        prefix="gpt_neox.",
        folder="third-party",
    ),
}
