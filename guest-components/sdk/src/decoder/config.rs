//! What the graph needs of a decoder checkpoint's `config.json`: one description for every
//! family.

use crate::checkpoint::{CheckpointConfig, Weights};
use crate::layers::RmsNorm;
use crate::tensor::Activation;

use super::family::Family;
use super::layer_types::{LayerType, LayerTypes};
use super::rope::{Rope, mrope_section};

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
    /// How many of a head's frequencies turn with each axis of an image, where positions have
    /// axes.
    pub mrope_section: Option<[u32; 3]>,
    /// What sets layers apart from each other.
    pub layers: Vec<LayerConfig>,
    /// What norms add to the mean square.
    pub norm_eps: f32,
    /// What norms add to their weights.
    pub norm_weight_offset: f32,
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
            mrope_section: match family {
                Family::Qwen2Vl => Some(mrope_section(config, head_dim)?),
                _ => None,
            },
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
            _ => Rope::shared(config, family)?,
        };
        let window = (layer_type == LayerType::Sliding).then_some(window);
        Ok(LayerConfig { window, rope })
    };
    types.into_iter().map(layer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: &str = r#""vocab_size": 97, "hidden_size": 48, "intermediate_size": 80,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-6"#;

    fn text(model_type: &str, rest: &str) -> String {
        let activation = match model_type {
            "gemma3_text" => r#""hidden_activation": "gelu_pytorch_tanh""#,
            _ => r#""hidden_act": "silu""#,
        };
        format!(r#"{{{SIZES}, {activation}, "model_type": "{model_type}"{rest}}}"#)
    }

    fn read(text: &str) -> Result<DecoderConfig, String> {
        DecoderConfig::read(&CheckpointConfig::parse(text)?)
    }

    fn refused(model_type: &str, rest: &str, message: &str) {
        let error = read(&text(model_type, rest)).err();
        assert_eq!(error, Some(format!("config.json: {message}")));
    }

    #[test]
    fn families_differ_in_biases_norms_and_heads() -> Result<(), String> {
        let qwen2 = read(&text("qwen2", ""))?;
        assert!(qwen2.causal && qwen2.qkv_bias && !qwen2.attention_output_bias);
        assert_eq!(
            (qwen2.head_dim, qwen2.query_width, qwen2.kv_width),
            (12, 48, 24)
        );
        assert!(!read(&text("qwen2", r#", "is_causal": false"#))?.causal);

        let qwen3 = read(&text("qwen3", r#", "head_dim": 16"#))?;
        assert!(qwen3.norms_heads && !qwen3.qkv_bias && !qwen3.norms_outputs);
        assert_eq!((qwen3.query_width, qwen3.attention_scale), (64, 0.25));

        let biased = r#", "attention_bias": true, "mlp_bias": true"#;
        let llama = read(&text("llama", biased))?;
        assert!(llama.qkv_bias && llama.attention_output_bias && llama.mlp_bias);
        let mistral = read(&text("mistral", biased))?;
        assert!(!mistral.qkv_bias && !mistral.attention_output_bias && !mistral.mlp_bias);

        let sizes = r#", "head_dim": 16, "query_pre_attn_scalar": 64"#;
        let gemma = read(&text("gemma3_text", sizes))?;
        assert!(gemma.causal && gemma.norms_outputs && gemma.scales_embeddings);
        assert_eq!(
            (gemma.attention_scale, gemma.norm_weight_offset),
            (0.125, 1.0)
        );
        assert_eq!(gemma.activation, Activation::GeluTanh);
        let bidirectional = format!(r#"{sizes}, "use_bidirectional_attention": true"#);
        assert!(!read(&text("gemma3_text", &bidirectional))?.causal);
        Ok(())
    }

    #[test]
    fn an_early_llama_has_as_many_key_heads_as_heads() -> Result<(), String> {
        let old = text("llama", "").replace(r#""num_key_value_heads": 2,"#, "");
        assert_eq!(read(&old)?.kv_width, 48);
        Ok(())
    }

    #[test]
    fn names_what_it_cannot_compute() {
        refused(
            "qwen3_moe",
            "",
            r#"model_type is "qwen3_moe"; supported are gemma3_text, llama, mistral, qwen2, qwen2_vl, qwen2_vl_text, qwen3"#,
        );
        refused(
            "qwen3",
            "",
            "head_dim is missing, wanted an integer of at least 1",
        );
        refused(
            "llama",
            r#", "head_dim": 7"#,
            "head_dim is 7, only an even one is supported",
        );
        refused(
            "gemma3_text",
            r#", "attn_logit_softcapping": 50.0"#,
            "attn_logit_softcapping is 50.0, only null is supported",
        );
        refused(
            "gemma3_text",
            r#", "head_dim": 16, "is_causal": false"#,
            "is_causal is false, only true is supported",
        );
        let odd = text("mistral", "").replace(r#"heads": 2"#, r#"heads": 3"#);
        let message =
            "config.json: num_attention_heads 4 is not a multiple of num_key_value_heads 3";
        assert_eq!(read(&odd).err().as_deref(), Some(message));
        let unknown = text("qwen2", "").replace("silu", "xielu");
        let message = r#"config.json: hidden_act is "xielu", which is not supported"#;
        assert_eq!(read(&unknown).err().as_deref(), Some(message));
        let deep = text("qwen2", "").replace(r#"layers": 2"#, r#"layers": 5000"#);
        let message = "config.json: num_hidden_layers is 5000, at most 4096 are supported";
        assert_eq!(read(&deep).err().as_deref(), Some(message));
    }
}
