"""Other sizes for a family: odd numbers of heads, widths that no vector register divides."""

import random
from dataclasses import replace

# The names that configurations have for one thing.
HEADS = ("num_attention_heads", "n_heads")
WIDTH = ("hidden_size", "dim")
INNER = ("intermediate_size", "hidden_dim")
LAYERS = ("num_hidden_layers", "n_layers")
POOLED_WIDTH = ("word_embedding_dimension", "embedding_dimension")


def resized(name, family, seed):
    """The family in sizes drawn from the seed."""
    draw = random.Random(f"{seed} {name}")
    config, pooling = dict(family.config), dict(family.pooling)

    def put(keys, value, settings=config):
        settings[next(key for key in keys if key in settings)] = value

    heads = draw.choice((3, 5, 7))
    if "num_key_value_heads" in config:
        shared = draw.choice((1, 3))
        config["num_key_value_heads"] = shared
        heads = shared * draw.choice((3, 5))
    head_dim = 2 * draw.randint(3, 11)
    if "rotary_pct" in config:
        head_dim = 8 * draw.randint(1, 3)
        config["rotary_pct"] = draw.choice((0.25, 0.5, 1.0))
    width = heads * head_dim
    if "head_dim" in config:
        config["head_dim"] = head_dim
        width = heads * draw.randint(5, 12)
    layers = draw.randint(1, 5)
    put(HEADS, heads)
    put(WIDTH, width)
    put(INNER, draw.randint(20, 90))
    put(LAYERS, layers)
    put(POOLED_WIDTH, width, pooling)
    if config.get("sliding_window"):
        config["sliding_window"] = draw.randint(2, 20)
    if "max_window_layers" in config:
        config["max_window_layers"] = draw.randint(0, layers)
    if "layer_types" in config:
        config["layer_types"] = draw.choices(["sliding_attention", "full_attention"], k=layers)
    if "local_attention" in config:
        config["local_attention"] = 2 * draw.randint(1, 10)

    length = width * pooled_modes(pooling)
    dense = []
    for settings in family.dense:
        outputs = draw.randint(10, 70)
        dense.append({**settings, "in_features": length, "out_features": outputs})
        length = outputs
    dimensions = tuple(sorted(draw.sample(range(1, length), k=len(family.dimensions))))
    if "matryoshka_dimensions" in config:
        config["matryoshka_dimensions"] = list(dimensions)
    truncate = family.truncate and draw.randint(1, length)
    return replace(
        family,
        config=config,
        pooling=pooling,
        dense=dense,
        dimensions=dimensions,
        truncate=truncate,
    )


def pooled_modes(pooling):
    """How many vectors the pooling puts side by side."""
    modes = pooling.get("pooling_mode")
    if modes is None:
        return sum(pooling[key] for key in pooling if key.startswith("pooling_mode_"))
    return 1 if isinstance(modes, str) else len(modes)
