//! What the graph needs of a GPT-NeoX checkpoint's `config.json`.

use tenon_sdk::checkpoint::CheckpointConfig;
use tenon_sdk::rotary::inverse_frequencies;
use tenon_sdk::tensor::Activation;

/// The part of a head that is rotated where `config.json` does not say.
const DEFAULT_ROTARY_PART: f32 = 0.25;
/// The base of the rotary frequencies, likewise.
const DEFAULT_THETA: f32 = 10_000.0;
/// Parts that tensors can be joined of, which bounds the heads.
const MAX_HEADS: u32 = 64;

/// The sizes and functions of a GPT-NeoX decoder.
pub struct GptNeoXConfig {
    /// Rows of the token embedding.
    pub vocab_size: u32,
    /// Width of the hidden states.
    pub hidden_size: u32,
    /// Width inside of the feed-forward part.
    pub intermediate_size: u32,
    /// Decoder layers.
    pub layers: u32,
    /// Attention heads; divides `hidden_size`.
    pub heads: u32,
    /// The eps of every layer norm.
    pub eps: f32,
    /// The longest sequence, in tokens.
    pub max_tokens: u32,
    /// Whether attention and the feed-forward part read the same hidden states.
    pub parallel: bool,
    /// Whether attention's projections have biases.
    pub attention_bias: bool,
    /// The function inside of the feed-forward part.
    pub activation: Activation,
    /// The angles that a step of one position turns the pairs of a head's first part by.
    pub frequencies: Vec<f32>,
}

impl GptNeoXConfig {
    /// Reads it, and refuses what this graph does not compute.
    pub fn read(config: &CheckpointConfig) -> Result<Self, String> {
        let (hidden_size, heads) = config.width_and_heads("hidden_size", "num_attention_heads")?;
        if heads > MAX_HEADS {
            return Err(format!(
                "config.json: num_attention_heads is {heads}, at most {MAX_HEADS} are supported"
            ));
        }
        Ok(Self {
            vocab_size: config.size("vocab_size")?,
            hidden_size,
            intermediate_size: config.size("intermediate_size")?,
            layers: config.size("num_hidden_layers")?,
            heads,
            eps: config.eps("layer_norm_eps")?,
            max_tokens: config.size("max_position_embeddings")?,
            parallel: config.flag_or("use_parallel_residual", true)?,
            attention_bias: config.flag_or("attention_bias", true)?,
            activation: config.activation("hidden_act")?,
            frequencies: frequencies(config, hidden_size / heads)?,
        })
    }
}

/// In both spellings: transformers 5 writes `rope_parameters`.
fn frequencies(config: &CheckpointConfig, head_dim: u32) -> Result<Vec<f32>, String> {
    config.require("rope_scaling", ())?;
    let rope = config.section("rope_parameters")?;
    rope.require("rope_type", "default")?;
    let part = config.positive_or("rotary_pct", DEFAULT_ROTARY_PART)?;
    let part = rope.positive_or("partial_rotary_factor", part)?;
    let theta = config.positive_or("rotary_emb_base", DEFAULT_THETA)?;
    let theta = rope.positive_or("rope_theta", theta)?;
    let rotated = (head_dim as f32 * part) as u32;
    if part > 1.0 || rotated == 0 || !rotated.is_multiple_of(2) {
        return Err(format!(
            "config.json: of heads of {head_dim} the part {part} is rotated, which is not an \
             even number of elements"
        ));
    }
    Ok(inverse_frequencies(rotated, theta))
}
