//! What BERT and its relatives call their settings and weights, and where they differ.

use tenon_sdk::checkpoint::CheckpointConfig;

/// A family of checkpoints that this graph computes.
pub struct Family {
    /// What their weights' names may begin with: nothing, or the encoder's name before a head.
    pub prefixes: &'static [&'static str],
    /// Keys of `config.json`.
    pub keys: Keys,
    /// Settings that have one value wherever they are stated: the reference has constants.
    pub constants: &'static [(&'static str, u32)],
    /// The weights of a layer.
    pub names: LayerNames,
    /// The table of attention's bias by distance, where there is one.
    pub relative_bias: Option<&'static str>,
}

/// Keys of `config.json` that not all families spell alike.
pub struct Keys {
    pub hidden_size: &'static str,
    pub intermediate_size: &'static str,
    pub layers: &'static str,
    pub heads: &'static str,
    pub activation: &'static str,
    /// None: every layer norm has an eps of 1e-12.
    pub eps: Option<&'static str>,
    /// None: tokens have no types.
    pub token_types: Option<&'static str>,
    /// The id after which positions begin, as fairseq counts them. None: they begin at 0.
    pub padding: Option<&'static str>,
}

/// The weights of a layer, by their part in it.
pub struct LayerNames {
    /// What stands before the layer's number.
    pub layers: &'static str,
    pub qkv: [&'static str; 3],
    pub attention_output: &'static str,
    pub attention_norm: &'static str,
    pub intermediate: &'static str,
    pub output: &'static str,
    pub output_norm: &'static str,
}

impl Family {
    /// The family that `model_type` names.
    ///
    /// # Errors
    /// Where it is absent or names none.
    pub fn of(config: &CheckpointConfig) -> Result<&'static Self, String> {
        let model_type = config.text("model_type")?;
        FAMILIES
            .iter()
            .find(|(known, _)| *known == model_type)
            .map(|(_, family)| *family)
            .ok_or_else(|| {
                let known: Vec<_> = FAMILIES.iter().map(|(known, _)| *known).collect();
                let known = known.join(", ");
                format!("config.json: model_type is {model_type:?}, supported are {known}")
            })
    }
}

const FAMILIES: [(&str, &Family); 6] = [
    ("bert", &BERT),
    ("roberta", &ROBERTA),
    ("xlm-roberta", &ROBERTA),
    ("camembert", &ROBERTA),
    ("distilbert", &DISTILBERT),
    ("mpnet", &MPNET),
];

const BERT: Family = Family {
    prefixes: &["", "bert."],
    keys: Keys {
        hidden_size: "hidden_size",
        intermediate_size: "intermediate_size",
        layers: "num_hidden_layers",
        heads: "num_attention_heads",
        activation: "hidden_act",
        eps: Some("layer_norm_eps"),
        token_types: Some("type_vocab_size"),
        padding: None,
    },
    constants: &[],
    names: LayerNames {
        layers: "encoder.layer",
        qkv: [
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
        ],
        attention_output: "attention.output.dense",
        attention_norm: "attention.output.LayerNorm",
        intermediate: "intermediate.dense",
        output: "output.dense",
        output_norm: "output.LayerNorm",
    },
    relative_bias: None,
};

const ROBERTA: Family = Family {
    prefixes: &["", "roberta."],
    keys: Keys {
        padding: Some("pad_token_id"),
        ..BERT.keys
    },
    ..BERT
};

const DISTILBERT: Family = Family {
    prefixes: &["", "distilbert."],
    keys: Keys {
        hidden_size: "dim",
        intermediate_size: "hidden_dim",
        layers: "n_layers",
        heads: "n_heads",
        activation: "activation",
        eps: None,
        token_types: None,
        padding: None,
    },
    constants: &[],
    names: LayerNames {
        layers: "transformer.layer",
        qkv: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
        attention_output: "attention.out_lin",
        attention_norm: "sa_layer_norm",
        intermediate: "ffn.lin1",
        output: "ffn.lin2",
        output_norm: "output_layer_norm",
    },
    relative_bias: None,
};

const MPNET: Family = Family {
    prefixes: &["", "mpnet."],
    keys: Keys {
        token_types: None,
        ..ROBERTA.keys
    },
    constants: &[("pad_token_id", 1), ("relative_attention_num_buckets", 32)],
    names: LayerNames {
        qkv: ["attention.attn.q", "attention.attn.k", "attention.attn.v"],
        attention_output: "attention.attn.o",
        attention_norm: "attention.LayerNorm",
        ..BERT.names
    },
    relative_bias: Some("encoder.relative_attention_bias.weight"),
};
