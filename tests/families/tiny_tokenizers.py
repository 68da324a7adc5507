"""Tokenizers of a few hundred tokens, one function for each kind that model families use."""

import json

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

# What Qwen and Llama 3 split before merging: digits one by one, or in threes.
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_SPLIT = QWEN_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")

CORPUS = [
    "A tenon fits a mortise without nails, and the joint holds for a hundred years.",
    "The cat sat on the mat while rain was falling on the roof of the old house.",
    "How do I reset my router to factory settings? Hold the button for ten seconds.",
    "The committee postponed the vote until next Thursday; nobody was surprised.",
    "Photosynthesis turns light into sugar, and sugar into wood, leaves and seeds.",
    "search_query: what is the boiling point of water at 3,000 metres?",
    "search_document: water boils at about 90 degrees Celsius on a high mountain.",
    "Instruct: Given a web search query, retrieve relevant passages that answer the query",
    "query: planing a board passage: Plane along the grain, never against it.",
    "task: search result | query: title: none | text: The plane must be sharp.",
    "Il était une fois un menuisier qui aimait le chêne, le frêne et le noyer.",
    "Der Zapfen paßt in das Zapfenloch; über Nacht trocknet der Leim.",
    "El carpintero cortó la madera según la veta y la pulió después.",
    "Плотник срубил дом без единого гвоздя за одно лето.",
    "木工は木目に沿って鉋をかける。 木匠用榫卯连接木头。",
    "UPPER CASE WORDS, CamelCaseWords and snake_case_words in 2024, 1999 and 42.",
]


def word_piece(special, lowercase, around="[CLS] $A [SEP]", size=400):
    """BERT's: `special` come first in the vocabulary."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=list(special), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = template(tokenizer, around)
    return tokenizer


def unigram(size=420):
    """XLM-RoBERTa's: SentencePiece's unigram model, <s> and </s> around the text."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    tokenizer.post_processor = template(tokenizer, "<s> $A </s>")
    return tokenizer


def byte_level(special, split=None, normalizer=None, added=(), size=380):
    """GPT-2's kind: merges over bytes. `special` come first, `added` after the vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer
    if split is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(split), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(list(added))
    return tokenizer


def byte_fallback(special, normalizer, size=420):
    """SentencePiece's BPE as Llama 2, Mistral and Gemma use it: unknown characters become bytes.

    `special` come first, then the 256 bytes, then the characters and the merges.
    """
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    space = len(special) + 256
    trainer = trainers.BpeTrainer(vocab_size=size - space, limit_alphabet=60, show_progress=False)
    trained.train_from_iterator(CORPUS, trainer)
    model = model_of(trained)
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += sorted(model["vocab"], key=model["vocab"].get)
    vocabulary = {token: id for id, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary,
            [tuple(merge) for merge in model["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(list(special))
    return tokenizer


def model_of(tokenizer):
    """The model part of a tokenizer, as tokenizer.json has it."""
    return json.loads(tokenizer.to_str())["model"]


def template(tokenizer, single):
    """A template whose special tokens are all the tokens beside $A in `single`."""
    special = [token for token in single.split() if token != "$A"]
    pairs = [(token, tokenizer.token_to_id(token)) for token in dict.fromkeys(special)]
    return processors.TemplateProcessing(single=single, special_tokens=pairs)


def after_bytes(tokenizer, single):
    """The template behind a ByteLevel processor, as Qwen and Llama 3 files have it."""
    offsets = processors.ByteLevel(trim_offsets=False)
    return processors.Sequence([offsets, template(tokenizer, single)])
