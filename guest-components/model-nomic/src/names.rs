//! What NomicBERT checkpoints call their weights.

use tenon_sdk::checkpoint::Weights;

/// Names of weights, by their part in the graph.
pub struct Names {
    pub embedding_norm: &'static str,
    /// What stands before a layer's number.
    pub layers: &'static str,
    /// One fused projection, or three.
    pub qkv: &'static [&'static str],
    pub attention_output: &'static str,
    pub attention_norm: &'static str,
    /// The gate's projection, then the one it gates.
    pub gate_up: [&'static str; 2],
    pub down: &'static str,
    pub mlp_norm: &'static str,
}

impl Names {
    /// Those that the checkpoint uses, whichever way its `config.json` is spelled.
    pub fn of(weights: &Weights) -> &'static Self {
        if weights.has("emb_ln.weight") {
            &ORIGINAL
        } else {
            &TRANSFORMERS
        }
    }
}

/// Checkpoints that came with code of their own.
const ORIGINAL: Names = Names {
    embedding_norm: "emb_ln",
    layers: "encoder.layers",
    qkv: &["attn.Wqkv"],
    attention_output: "attn.out_proj",
    attention_norm: "norm1",
    gate_up: ["mlp.fc12", "mlp.fc11"],
    down: "mlp.fc2",
    mlp_norm: "norm2",
};

/// Checkpoints of the class in transformers.
const TRANSFORMERS: Names = Names {
    embedding_norm: "embeddings.LayerNorm",
    layers: "layers",
    qkv: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    attention_output: "self_attn.o_proj",
    attention_norm: "post_attention_layernorm",
    gate_up: ["mlp.gate_proj", "mlp.up_proj"],
    down: "mlp.down_proj",
    mlp_norm: "post_mlp_layernorm",
};
