"""What each tiny checkpoint is: config.json, tokenizer and the files of sentence-transformers.

Values that a reader must not replace by a default, epsilons and thetas, differ from the defaults.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from tokenizers import AddedToken, Tokenizer, normalizers, processors

import tiny_tokenizers as tiny

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


BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BERT_NAMES = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
ROBERTA_NAMES = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": {
        "__type": "AddedToken",
        "content": "<mask>",
        "lstrip": True,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
        "special": True,
    },
}
END_OF_TEXT = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
LENGTH_64 = {"max_seq_length": 64, "do_lower_case": False}
LENGTH_128 = {"max_seq_length": 128, "do_lower_case": False}
TASK = "Given a web search query, retrieve relevant passages that answer the query"


def roberta_tokenizer():
    """Byte-level merges with RoBERTa's own post-processor."""
    mask = AddedToken("<mask>", lstrip=True, normalized=False)
    special = ("<s>", "<pad>", "</s>", "<unk>")
    tokenizer = tiny.byte_level(special, added=[mask])
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return tokenizer


def modernbert_tokenizer():
    """NFC and byte-level merges between [CLS] and [SEP]."""
    special = ["<|padding|>", "<|endoftext|>", "[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    added = [AddedToken("[MASK]", lstrip=True, normalized=False)]
    tokenizer = tiny.byte_level(special, normalizer=normalizers.NFC(), added=added)
    tokenizer.post_processor = tiny.template(tokenizer, "[CLS] $A [SEP]")
    return tokenizer


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


FAMILIES = {
    "roberta": Family(
        config={
            "architectures": ["RobertaModel"],
            "model_type": "roberta",
            "hidden_size": 32,
            "intermediate_size": 80,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-4,
            "max_position_embeddings": 98,
            "type_vocab_size": 1,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "position_embedding_type": "absolute",
            "torch_dtype": "float32",
        },
        tokenizer=roberta_tokenizer,
        tokenizer_config=tokenizer_config("RobertaTokenizer", 96, **ROBERTA_NAMES),
        pooling=old_pooling(32, "mean_tokens", "cls_token", "max_tokens"),
        sentence_bert=LENGTH_64,
        normalize=False,
    ),
    "xlm-roberta": Family(
        config={
            "architectures": ["XLMRobertaModel"],
            "model_type": "xlm-roberta",
            "hidden_size": 32,
            "intermediate_size": 80,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-4,
            "max_position_embeddings": 130,
            "type_vocab_size": 1,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "dtype": "float16",
        },
        tokenizer=tiny.unigram,
        tokenizer_config=tokenizer_config("XLMRobertaTokenizer", 120, **ROBERTA_NAMES),
        pooling=new_pooling(32, ["mean", "cls"]),
        sentence_bert={"transformer_task": "feature-extraction"},
        prompts={"query": "query: ", "passage": "passage: "},
        default_prompt="passage",
        types=NEW_TYPES,
        storage="float16",
        truncate=24,
    ),
    "distilbert": Family(
        config={
            "architectures": ["DistilBertModel"],
            "model_type": "distilbert",
            "dim": 32,
            "hidden_dim": 80,
            "n_layers": 3,
            "n_heads": 4,
            "activation": "gelu",
            "max_position_embeddings": 96,
            "sinusoidal_pos_embds": False,
            "tie_weights_": True,
            "pad_token_id": 0,
        },
        tokenizer=lambda: tiny.word_piece(BERT_SPECIAL, lowercase=False),
        tokenizer_config=tokenizer_config(
            "DistilBertTokenizer", 96, do_lower_case=False, **BERT_NAMES
        ),
        pooling=old_pooling(32, "weightedmean_tokens", "mean_sqrt_len_tokens"),
        sentence_bert={"max_seq_length": 48, "do_lower_case": True},
        normalize=False,
        dense=[dense(64, 24, True, "activation.Tanh")],
    ),
    "nomic": Family(
        config={
            "architectures": ["NomicBertModel"],
            "model_type": "nomic_bert",
            "hidden_size": 32,
            "intermediate_size": 72,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "hidden_act": "silu",
            "layer_norm_eps": 1e-6,
            "max_position_embeddings": 256,
            "type_vocab_size": 2,
            "pad_token_id": 0,
            "rope_parameters": {"rope_theta": 500.0, "rope_type": "default"},
            "is_matryoshka": True,
            "dtype": "float32",
        },
        tokenizer=lambda: tiny.word_piece(BERT_SPECIAL, lowercase=True),
        tokenizer_config=tokenizer_config("BertTokenizer", 256, do_lower_case=True, **BERT_NAMES),
        pooling=old_pooling(32, "mean_tokens", include_prompt=False),
        sentence_bert=LENGTH_128,
        prompts={"query": "search_query: ", "document": "search_document: "},
        normalize=False,
        dimensions=(1, 11, 32),
        layer_norm=True,
    ),
    "modernbert": Family(
        config={
            "architectures": ["ModernBertModel"],
            "model_type": "modernbert",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "hidden_activation": "gelu",
            "norm_eps": 1e-4,
            "norm_bias": False,
            "attention_bias": False,
            "mlp_bias": False,
            "max_position_embeddings": 512,
            "global_attn_every_n_layers": 3,
            "local_attention": 16,
            "global_rope_theta": 8000.0,
            "local_rope_theta": 200.0,
            "classifier_pooling": "mean",
            "cls_token_id": 3,
            "bos_token_id": 3,
            "sep_token_id": 4,
            "eos_token_id": 4,
            "pad_token_id": 5,
            "position_embedding_type": "absolute",
            "torch_dtype": "float32",
        },
        tokenizer=modernbert_tokenizer,
        tokenizer_config=tokenizer_config("PreTrainedTokenizerFast", 512, **BERT_NAMES),
        pooling=old_pooling(32, "cls_token"),
        sentence_bert=LENGTH_128,
    ),
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
