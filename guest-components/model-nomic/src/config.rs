//! What the graph needs of a NomicBERT checkpoint's `config.json`, in either spelling.

use tenon_sdk::checkpoint::CheckpointConfig;
use tenon_sdk::tensor::Activation;

/// The sizes and functions of a NomicBERT encoder.
pub struct NomicConfig {
    /// Rows of the word embedding.
    pub vocab_size: u32,
    /// Rows of the token type embedding.
    pub type_vocab_size: u32,
    /// Width of the hidden states.
    pub hidden_size: u32,
    /// Width inside of the feed-forward part.
    pub intermediate_size: u32,
    /// Encoder layers.
    pub layers: u32,
    /// Attention heads; divides `hidden_size`.
    pub heads: u32,
    /// The eps of every layer norm.
    pub eps: f32,
    /// The base of the rotary frequencies.
    pub theta: f32,
    /// The longest sequence, in tokens.
    pub max_tokens: u32,
    /// The function of the feed-forward part's gate.
    pub activation: Activation,
}

impl NomicConfig {
    /// Reads it, and refuses what this graph does not compute.
    pub fn read(config: &CheckpointConfig) -> Result<Self, String> {
        match config.get("n_embd") {
            Some(_) => Self::original(config),
            None => Self::transformers(config),
        }
    }

    /// As checkpoints have it that came with code of their own.
    fn original(config: &CheckpointConfig) -> Result<Self, String> {
        config.require_stated("activation_function", "swiglu")?;
        for key in ["qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias"] {
            config.require_stated(key, false)?;
        }
        for key in [
            "prenorm",
            "parallel_block",
            "causal",
            "use_rms_norm",
            "use_alibi",
            "rotary_emb_interleaved",
        ] {
            config.require(key, false)?;
        }
        config.require_stated("rotary_emb_fraction", 1)?;
        config.require("rotary_emb_scale_base", ())?;
        if let Some(every) = config.get("moe_every_n_layers")
            && every.as_f64().is_none_or(|every| every > 0.0)
        {
            return Err(format!(
                "config.json: moe_every_n_layers is {every}, layers of experts are not supported"
            ));
        }
        let (hidden_size, heads) = config.width_and_heads("n_embd", "n_head")?;
        Ok(Self {
            vocab_size: config.size("vocab_size")?,
            type_vocab_size: config.size("type_vocab_size")?,
            hidden_size,
            intermediate_size: config.size("n_inner")?,
            layers: config.size("n_layer")?,
            heads,
            eps: config.eps("layer_norm_epsilon")?,
            theta: config.positive("rotary_emb_base")?,
            // The factor changes the frequencies of sequences longer than those trained on.
            max_tokens: config.size(match config.get("rotary_scaling_factor") {
                Some(_) => "max_trained_positions",
                None => "n_positions",
            })?,
            activation: Activation::Silu,
        })
    }

    /// As transformers writes it.
    fn transformers(config: &CheckpointConfig) -> Result<Self, String> {
        let (hidden_size, heads) = config.width_and_heads("hidden_size", "num_attention_heads")?;
        config.require("head_dim", hidden_size / heads)?;
        let rope = config.section("rope_parameters")?;
        rope.require("rope_type", "default")?;
        rope.require("partial_rotary_factor", 1)?;
        Ok(Self {
            vocab_size: config.size("vocab_size")?,
            type_vocab_size: config.size("type_vocab_size")?,
            hidden_size,
            intermediate_size: config.size("intermediate_size")?,
            layers: config.size("num_hidden_layers")?,
            heads,
            eps: config.eps("layer_norm_eps")?,
            theta: rope.positive_or("rope_theta", 1000.0)?,
            max_tokens: config.size("max_position_embeddings")?,
            activation: config.activation("hidden_act")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGINAL: &str = r#"{"model_type": "nomic_bert", "activation_function": "swiglu",
        "causal": false, "layer_norm_epsilon": 1e-12, "max_trained_positions": 2048,
        "mlp_fc1_bias": false, "mlp_fc2_bias": false, "n_embd": 768, "n_head": 12,
        "n_inner": 3072, "n_layer": 12, "n_positions": 8192, "prenorm": false,
        "qkv_proj_bias": false, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": false, "rotary_scaling_factor": null, "type_vocab_size": 2,
        "vocab_size": 30528}"#;

    const TRANSFORMERS: &str = r#"{"model_type": "nomic_bert", "head_dim": 64,
        "hidden_act": "silu", "hidden_size": 768, "intermediate_size": 3072,
        "layer_norm_eps": 1e-12, "max_position_embeddings": 2048, "num_attention_heads": 12,
        "num_hidden_layers": 12, "rope_parameters": {"rope_theta": 1000.0,
        "rope_type": "default"}, "type_vocab_size": 2, "vocab_size": 30528}"#;

    fn read(text: &str) -> Result<NomicConfig, String> {
        NomicConfig::read(&CheckpointConfig::parse(text)?)
    }

    #[test]
    fn reads_both_spellings() -> Result<(), String> {
        for (text, max_tokens) in [(ORIGINAL, 8192), (TRANSFORMERS, 2048)] {
            let config = read(text)?;
            assert_eq!(
                (config.hidden_size, config.heads, config.layers),
                (768, 12, 12)
            );
            assert_eq!((config.eps, config.theta), (1e-12, 1000.0));
            assert_eq!(config.max_tokens, max_tokens);
            assert_eq!(config.activation, Activation::Silu);
        }
        Ok(())
    }

    #[test]
    fn scaled_frequencies_end_at_the_trained_positions() -> Result<(), String> {
        let scaled = ORIGINAL.replace("_factor\": null", "_factor\": 2");
        assert_eq!(read(&scaled)?.max_tokens, 2048);
        Ok(())
    }

    #[test]
    fn names_what_it_cannot_compute() {
        let check = |config: &str, from: &str, to: &str, message: &str| {
            let text = config.replace(from, to);
            assert_ne!(text, config, "{from} is not in the config");
            let message = format!("config.json: {message}");
            assert_eq!(read(&text).err(), Some(message));
        };
        let original = |from: &str, to: &str, message: &str| check(ORIGINAL, from, to, message);
        original(
            r#""swiglu""#,
            r#""gelu""#,
            r#"activation_function is "gelu", only "swiglu" is supported"#,
        );
        original(
            r#""prenorm": false"#,
            r#""prenorm": true"#,
            "prenorm is true, only false is supported",
        );
        original(
            r#""qkv_proj_bias": false,"#,
            "",
            "qkv_proj_bias is missing, wanted false",
        );
        original(
            r#""rotary_emb_fraction": 1.0"#,
            r#""rotary_emb_fraction": 0.5"#,
            "rotary_emb_fraction is 0.5, only 1 is supported",
        );
        original(
            r#""rotary_emb_base": 1000"#,
            r#""rotary_emb_base": 1000, "rotary_emb_scale_base": 512"#,
            "rotary_emb_scale_base is 512, only null is supported",
        );
        original(
            r#""causal": false"#,
            r#""moe_every_n_layers": 2"#,
            "moe_every_n_layers is 2, layers of experts are not supported",
        );
        check(
            TRANSFORMERS,
            r#""default""#,
            r#""dynamic""#,
            r#"rope_parameters.rope_type is "dynamic", only "default" is supported"#,
        );
        check(
            TRANSFORMERS,
            r#""rope_theta": 1000.0"#,
            r#""rope_theta": 0"#,
            "rope_parameters.rope_theta is 0, wanted a number above 0",
        );
        check(
            TRANSFORMERS,
            r#""head_dim": 64"#,
            r#""head_dim": 32"#,
            "head_dim is 32, only 64 is supported",
        );
    }
}
