"""The families of encoders.

Values that a reader must not replace by a default, epsilons and thetas, differ from the defaults.
"""

from tokenizers import AddedToken, normalizers, processors

import tiny_tokenizers as tiny
from family import (
    LENGTH_64,
    LENGTH_128,
    NEW_TYPES,
    Family,
    dense,
    new_pooling,
    old_pooling,
    tokenizer_config,
)

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


def roberta_tokenizer():
    """Byte-level merges with RoBERTa's own post-processor."""
    mask = AddedToken("<mask>", lstrip=True, normalized=False)
    special = ("<s>", "<pad>", "</s>", "<unk>")
    tokenizer = tiny.byte_level(special, added=[mask])
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return tokenizer


def mpnet_tokenizer():
    """BERT's word pieces, RoBERTa's special tokens."""
    special = ("<s>", "<pad>", "</s>", "<unk>", "[UNK]")
    tokenizer = tiny.word_piece(special, lowercase=True, around="<s> $A </s>")
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    return tokenizer


def modernbert_tokenizer():
    """NFC and byte-level merges between [CLS] and [SEP]."""
    special = ["<|padding|>", "<|endoftext|>", "[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    added = [AddedToken("[MASK]", lstrip=True, normalized=False)]
    tokenizer = tiny.byte_level(special, normalizer=normalizers.NFC(), added=added)
    tokenizer.post_processor = tiny.template(tokenizer, "[CLS] $A [SEP]")
    return tokenizer


ENCODERS = {
    "bert": Family(
        config={
            "architectures": ["BertForMaskedLM"],
            "model_type": "bert",
            "hidden_size": 32,
            "intermediate_size": 80,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-5,
            "max_position_embeddings": 72,
            "type_vocab_size": 2,
            "pad_token_id": 0,
            "position_embedding_type": "absolute",
            "torch_dtype": "bfloat16",
        },
        tokenizer=lambda: tiny.word_piece(BERT_SPECIAL, lowercase=True),
        tokenizer_config=tokenizer_config("BertTokenizer", 72, do_lower_case=True, **BERT_NAMES),
        pooling=old_pooling(32, "cls_token"),
        sentence_bert=LENGTH_64,
        prompts={"query": "Represent this sentence for searching relevant passages: "},
        storage="bfloat16",
        prefix="bert.",
    ),
    "camembert": Family(
        config={
            "architectures": ["CamembertModel"],
            "model_type": "camembert",
            "hidden_size": 32,
            "intermediate_size": 72,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "hidden_act": "gelu_new",
            "layer_norm_eps": 1e-6,
            "max_position_embeddings": 80,
            "type_vocab_size": 1,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
        },
        tokenizer=tiny.unigram,
        tokenizer_config=tokenizer_config("PreTrainedTokenizerFast", 78, **ROBERTA_NAMES),
        pooling=old_pooling(32, "mean_tokens"),
        sentence_bert=None,
        normalize=False,
    ),
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
    # Texts of more than 128 tokens reach every bucket of its bias.
    "mpnet": Family(
        config={
            "architectures": ["MPNetForMaskedLM"],
            "model_type": "mpnet",
            "hidden_size": 32,
            "intermediate_size": 80,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-5,
            "max_position_embeddings": 322,
            "relative_attention_num_buckets": 32,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
        },
        tokenizer=mpnet_tokenizer,
        tokenizer_config=tokenizer_config(
            "MPNetTokenizer", 320, do_lower_case=True, **{**ROBERTA_NAMES, "unk_token": "[UNK]"}
        ),
        pooling=old_pooling(32, "mean_tokens"),
        sentence_bert={"max_seq_length": 300, "do_lower_case": False},
        prefix="mpnet.",
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
}
