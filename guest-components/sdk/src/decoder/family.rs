//! The families, and what sets one apart that its `config.json` does not say.

use crate::checkpoint::CheckpointConfig;

/// A family of decoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Qwen2, Qwen2.5
    Qwen2,
    /// The text model of Qwen2-VL
    Qwen2Vl,
    /// Qwen3
    Qwen3,
    /// Mistral
    Mistral,
    /// Llama 1 to 3
    Llama,
    /// The text model of Gemma 3
    Gemma3,
}

impl Family {
    const MODEL_TYPES: [(&str, Self); 7] = [
        ("gemma3_text", Self::Gemma3),
        ("llama", Self::Llama),
        ("mistral", Self::Mistral),
        ("qwen2", Self::Qwen2),
        ("qwen2_vl", Self::Qwen2Vl),
        ("qwen2_vl_text", Self::Qwen2Vl),
        ("qwen3", Self::Qwen3),
    ];

    /// The one that `model_type` names.
    pub fn read(config: &CheckpointConfig) -> Result<Self, String> {
        let name = config.text("model_type")?;
        match Self::MODEL_TYPES.iter().find(|(known, _)| *known == name) {
            Some((_, family)) => Ok(*family),
            None => {
                let supported = Self::MODEL_TYPES.map(|(name, _)| name);
                Err(config.unsupported("model_type", &supported))
            }
        }
    }

    /// Whether queries and keys have a norm, head by head.
    pub fn norms_heads(self) -> bool {
        matches!(self, Self::Qwen3 | Self::Gemma3)
    }

    /// Whether the projections of attention have biases: to queries, keys and values, and back.
    pub fn attention_biases(self, config: &CheckpointConfig) -> Result<(bool, bool), String> {
        match self {
            Self::Qwen2 | Self::Qwen2Vl => Ok((true, false)),
            Self::Mistral => Ok((false, false)),
            Self::Qwen3 | Self::Llama | Self::Gemma3 => {
                let bias = config.flag_or("attention_bias", false)?;
                Ok((bias, bias))
            }
        }
    }

    /// Whether the projections of the feed-forward part have biases.
    pub fn mlp_bias(self, config: &CheckpointConfig) -> Result<bool, String> {
        match self {
            Self::Llama => config.flag_or("mlp_bias", false),
            Self::Qwen2 | Self::Qwen2Vl | Self::Qwen3 | Self::Mistral | Self::Gemma3 => Ok(false),
        }
    }

    /// Whether tokens see only those before them.
    pub fn is_causal(self, config: &CheckpointConfig) -> Result<bool, String> {
        match self {
            Self::Gemma3 => {
                config.require("is_causal", true)?;
                let bidirectional = config.flag_or("use_bidirectional_attention", false)?;
                Ok(!bidirectional)
            }
            Self::Qwen2 | Self::Qwen2Vl | Self::Qwen3 | Self::Mistral | Self::Llama => {
                config.flag_or("is_causal", true)
            }
        }
    }

    /// How many key and value heads there are.
    pub fn kv_heads(self, config: &CheckpointConfig, heads: u32) -> Result<u32, String> {
        let key = "num_key_value_heads";
        match self {
            // Written before heads were shared.
            Self::Llama if config.get(key).is_none() => Ok(heads),
            _ => config.size(key),
        }
    }

    /// The width of a head.
    pub fn head_dim(self, config: &CheckpointConfig, heads: u32) -> Result<u32, String> {
        match self {
            Self::Qwen2 | Self::Qwen2Vl | Self::Mistral | Self::Llama
                if config.get("head_dim").is_none() =>
            {
                let (hidden, _) = config.width_and_heads("hidden_size", "num_attention_heads")?;
                Ok(hidden / heads)
            }
            _ => config.size("head_dim"),
        }
    }
}
