//! What the graph needs of a decoder checkpoint's `config.json`: one description for every
//! family.

use tenon_sdk::checkpoint::{CheckpointConfig, Weights};
use tenon_sdk::layers::RmsNorm;
use tenon_sdk::tensor::Activation;

use crate::family::Family;
use crate::layer_types::{LayerType, LayerTypes};
use crate::rope::Rope;

/// The most layers; the deepest known decoders have some 130.
const MAX_LAYERS: u32 = 4096;

/// The sizes and functions of a decoder.
pub struct DecoderConfig {
    /// Rows of the token embedding.
    pub vocab_size: u32,
    /// Width of the hidden states.
    pub hidden_size: u32,
    /// Width inside of the feed-forward part.
    pub intermediate_size: u32,
    /// The longest sequence that it was trained for.
    pub max_position_embeddings: u32,
    /// Width of a head; even.
    pub head_dim: u32,
    /// Width of all query heads; a multiple of `kv_width`.
    pub query_width: u32,
    /// Width of all key heads, and of all value heads; a multiple of `head_dim`.
    pub kv_width: u32,
    /// What attention scores are multiplied with.
    pub attention_scale: f32,
    /// Whether tokens see only those before them.
    pub causal: bool,
    /// Whether the projections to queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether attention's projection back has a bias.
    pub attention_output_bias: bool,
    /// Whether the projections of the feed-forward part have biases.
    pub mlp_bias: bool,
    /// Whether queries and keys have a norm, head by head.
    pub norms_heads: bool,
    /// Whether what attention and the feed-forward part give has a norm.
    pub norms_outputs: bool,
    /// Whether embeddings are multiplied with the root of `hidden_size`.
    pub scales_embeddings: bool,
    /// The function of the feed-forward part's gate.
    pub activation: Activation,
    /// What sets layers apart from each other.
    pub layers: Vec<LayerConfig>,
    norm_eps: f32,
    norm_weight_offset: f32,
}

/// What sets a layer apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerConfig {
    /// The farthest token that a token sees, as a distance; none: all.
    pub window: Option<u32>,
    /// Its rotary position embedding.
    pub rope: Rope,
}

impl DecoderConfig {
    /// Reads it, and refuses what this graph does not compute.
    pub fn read(config: &CheckpointConfig) -> Result<Self, String> {
        let family = Family::read(config)?;
        let is_gemma = family == Family::Gemma3;
        config.require("attn_logit_softcapping", ())?;

        let heads = config.size("num_attention_heads")?;
        let kv_heads = family.kv_heads(config, heads)?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(format!(
                "config.json: num_attention_heads {heads} is not a multiple of \
                 num_key_value_heads {kv_heads}"
            ));
        }
        let head_dim = family.head_dim(config, heads)?;
        if !head_dim.is_multiple_of(2) {
            return Err(format!(
                "config.json: head_dim is {head_dim}, only an even one is supported"
            ));
        }
        let Some(query_width) = heads.checked_mul(head_dim).filter(|it| *it < u32::MAX / 3) else {
            return Err(format!(
                "config.json: num_attention_heads {heads} of head_dim {head_dim} are too many"
            ));
        };
        let intermediate_size = config.size("intermediate_size")?;
        if intermediate_size > u32::MAX / 2 {
            return Err(format!(
                "config.json: intermediate_size {intermediate_size} is too large"
            ));
        }
        let (qkv_bias, attention_output_bias) = family.attention_biases(config)?;
        let causal = family.is_causal(config)?;
        Ok(Self {
            vocab_size: config.size("vocab_size")?,
            hidden_size: config.size("hidden_size")?,
            intermediate_size,
            max_position_embeddings: config.size("max_position_embeddings")?,
            head_dim,
            query_width,
            kv_width: kv_heads * head_dim,
            attention_scale: match is_gemma {
                true => 1.0 / config.positive("query_pre_attn_scalar")?.sqrt(),
                false => 1.0 / (head_dim as f32).sqrt(),
            },
            causal,
            qkv_bias,
            attention_output_bias,
            mlp_bias: family.mlp_bias(config)?,
            norms_heads: family.norms_heads(),
            norms_outputs: is_gemma,
            scales_embeddings: is_gemma,
            activation: config.activation(match is_gemma {
                true => "hidden_activation",
                false => "hidden_act",
            })?,
            layers: layers(config, family, causal)?,
            norm_eps: config.eps("rms_norm_eps")?,
            norm_weight_offset: if is_gemma { 1.0 } else { 0.0 },
        })
    }

    /// Takes a norm of the kind that this decoder has.
    pub fn norm(&self, weights: &Weights, name: &str, size: u32) -> Result<RmsNorm, String> {
        RmsNorm::take(weights, name, size, self.norm_eps, self.norm_weight_offset)
    }
}

fn layers(
    config: &CheckpointConfig,
    family: Family,
    causal: bool,
) -> Result<Vec<LayerConfig>, String> {
    let count = config.size("num_hidden_layers")?;
    if count > MAX_LAYERS {
        return Err(format!(
            "config.json: num_hidden_layers is {count}, at most {MAX_LAYERS} are supported"
        ));
    }
    let LayerTypes { types, window } = LayerTypes::read(config, family, count, causal)?;
    let layer = |layer_type: LayerType| {
        let rope = match family {
            Family::Gemma3 => Rope::of_layer_type(config, layer_type)?,
            _ => Rope::shared(config)?,
        };
        let window = (layer_type == LayerType::Sliding).then_some(window);
        Ok(LayerConfig { window, rope })
    };
    types.into_iter().map(layer).collect()
}
