//! What the graph needs of a BERT checkpoint's `config.json`.

use tenon_sdk::checkpoint::CheckpointConfig;
use tenon_sdk::tensor::Activation;

/// The sizes and functions of a BERT encoder.
pub struct BertConfig {
    /// Rows of the word embedding.
    pub vocab_size: u32,
    /// Rows of the position embedding.
    pub max_position_embeddings: u32,
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
    /// The function inside of the feed-forward part.
    pub activation: Activation,
}

impl BertConfig {
    /// Reads it, and refuses what this graph does not compute.
    pub fn read(config: &CheckpointConfig) -> Result<Self, String> {
        config.require("position_embedding_type", "absolute")?;
        config.require("is_decoder", false)?;
        config.require("add_cross_attention", false)?;
        let (hidden_size, heads) = (
            config.size("hidden_size")?,
            config.size("num_attention_heads")?,
        );
        if !hidden_size.is_multiple_of(heads) {
            return Err(format!(
                "config.json: hidden_size {hidden_size} is not a multiple of num_attention_heads {heads}"
            ));
        }
        if hidden_size > u32::MAX / 3 {
            return Err(format!(
                "config.json: hidden_size {hidden_size} is too large"
            ));
        }
        Ok(Self {
            vocab_size: config.size("vocab_size")?,
            max_position_embeddings: config.size("max_position_embeddings")?,
            type_vocab_size: config.size("type_vocab_size")?,
            hidden_size,
            intermediate_size: config.size("intermediate_size")?,
            layers: config.size("num_hidden_layers")?,
            heads,
            eps: config.eps("layer_norm_eps")?,
            activation: config.activation("hidden_act")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINILM: &str = r#"{"architectures": ["BertModel"], "hidden_act": "gelu",
        "hidden_size": 384, "intermediate_size": 1536, "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512, "num_attention_heads": 12, "num_hidden_layers": 6,
        "position_embedding_type": "absolute", "type_vocab_size": 2, "vocab_size": 30522}"#;

    fn read(text: &str) -> Result<BertConfig, String> {
        BertConfig::read(&CheckpointConfig::parse(text)?)
    }

    #[test]
    fn reads_a_checkpoint() -> Result<(), String> {
        let config = read(MINILM)?;
        assert_eq!(
            (config.hidden_size, config.heads, config.layers),
            (384, 12, 6)
        );
        assert_eq!(config.eps, 1e-12);
        assert_eq!(config.activation, Activation::GeluErf);
        Ok(())
    }

    #[test]
    fn names_what_it_cannot_compute() {
        let check = |from: &str, to: &str, message: &str| {
            let text = MINILM.replace(from, to);
            assert_ne!(text, MINILM, "{from} is not in the config");
            assert_eq!(read(&text).err().as_deref(), Some(message));
        };
        check(
            r#""gelu""#,
            r#""gelu_10""#,
            r#"config.json: hidden_act is "gelu_10", which is not supported"#,
        );
        check(
            r#""absolute""#,
            r#""relative_key""#,
            r#"config.json: position_embedding_type is "relative_key", only "absolute" is supported"#,
        );
        check(
            r#""type_vocab_size""#,
            r#""is_decoder": true, "type_vocab_size""#,
            "config.json: is_decoder is true, only false is supported",
        );
        check(
            r#""hidden_size": 384,"#,
            "",
            "config.json: hidden_size is missing, wanted an integer of at least 1",
        );
        check(
            r#""num_hidden_layers": 6"#,
            r#""num_hidden_layers": 0"#,
            "config.json: num_hidden_layers is 0, wanted an integer of at least 1",
        );
        check(
            r#""vocab_size": 30522"#,
            r#""vocab_size": "30522""#,
            r#"config.json: vocab_size is "30522", wanted an integer of at least 1"#,
        );
        check(
            r#""num_attention_heads": 12"#,
            r#""num_attention_heads": 11"#,
            "config.json: hidden_size 384 is not a multiple of num_attention_heads 11",
        );
        check(
            "1e-12",
            "-1",
            "config.json: layer_norm_eps is -1, wanted a number of at least 0",
        );
        assert!(read("[]").is_err());
        assert!(read("").is_err());
    }
}
