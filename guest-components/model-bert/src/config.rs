//! What the graph needs of a checkpoint's `config.json`.

use tenon_sdk::checkpoint::CheckpointConfig;
use tenon_sdk::tensor::Activation;

use crate::family::Family;

/// The sizes and functions of an encoder of one of the families.
pub struct BertConfig {
    /// Whose checkpoint it is.
    pub family: &'static Family,
    /// Rows of the word embedding.
    pub vocab_size: u32,
    /// Rows of the position embedding.
    pub max_position_embeddings: u32,
    /// The padding token, where positions are counted from it.
    pub padding: Option<u32>,
    /// Rows of the token type embedding, where there is one.
    pub type_vocab_size: Option<u32>,
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
        let family = Family::of(config)?;
        for &(key, only) in family.constants {
            config.require(key, only)?;
        }
        let keys = &family.keys;
        let (hidden_size, heads) = config.width_and_heads(keys.hidden_size, keys.heads)?;
        Ok(Self {
            family,
            vocab_size: config.size("vocab_size")?,
            max_position_embeddings: config.size("max_position_embeddings")?,
            padding: keys.padding.map(|key| config.token_id(key)).transpose()?,
            type_vocab_size: keys.token_types.map(|key| config.size(key)).transpose()?,
            hidden_size,
            intermediate_size: config.size(keys.intermediate_size)?,
            layers: config.size(keys.layers)?,
            heads,
            eps: keys.eps.map_or(Ok(1e-12), |key| config.eps(key))?,
            activation: config.activation(keys.activation)?,
        })
    }

    /// The longest sequence that the position embedding has rows for.
    ///
    /// # Errors
    /// Where there is none.
    pub fn max_tokens(&self) -> Result<u32, String> {
        let rows = self.max_position_embeddings;
        let Some(padding) = self.padding else {
            return Ok(rows);
        };
        match rows
            .checked_sub(padding)
            .and_then(|left| left.checked_sub(1))
        {
            Some(tokens) if tokens > 0 => Ok(tokens),
            _ => Err(format!(
                "config.json: max_position_embeddings is {rows}, wanted more than \
                 pad_token_id {padding} + 1"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINILM: &str = r#"{"model_type": "bert", "hidden_act": "gelu",
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
    fn relatives_have_their_own_keys_and_positions() -> Result<(), String> {
        let roberta = MINILM
            .replace(r#""bert""#, r#""xlm-roberta", "pad_token_id": 1"#)
            .replace("512", "514");
        assert_eq!(read(&roberta)?.max_tokens()?, 512);
        let none_left = read(&roberta.replace("514", "2"))?;
        assert_eq!(
            none_left.max_tokens().err().as_deref(),
            Some("config.json: max_position_embeddings is 2, wanted more than pad_token_id 1 + 1")
        );

        let distilbert = r#"{"model_type": "distilbert", "activation": "gelu", "dim": 768,
            "hidden_dim": 3072, "max_position_embeddings": 512, "n_heads": 12, "n_layers": 6,
            "vocab_size": 30522}"#;
        let config = read(distilbert)?;
        assert_eq!((config.type_vocab_size, config.eps), (None, 1e-12));
        assert_eq!(config.max_tokens()?, 512);

        let mpnet = MINILM
            .replace(r#""bert""#, r#""mpnet", "pad_token_id": 1"#)
            .replace("512", "514");
        let config = read(&mpnet)?;
        assert_eq!((config.type_vocab_size, config.max_tokens()?), (None, 512));
        let other = read(&mpnet.replace(r#"_id": 1"#, r#"_id": 0"#));
        assert_eq!(
            other.err().as_deref(),
            Some("config.json: pad_token_id is 0, only 1 is supported")
        );
        let buckets = r#""mpnet", "relative_attention_num_buckets": 64"#;
        let other = read(&mpnet.replace(r#""mpnet""#, buckets));
        assert_eq!(
            other.err().as_deref(),
            Some("config.json: relative_attention_num_buckets is 64, only 32 is supported")
        );
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
            r#""bert""#,
            r#""electra""#,
            r#"config.json: model_type is "electra", supported are bert, roberta, xlm-roberta, camembert, distilbert, mpnet"#,
        );
        check(
            r#""bert""#,
            r#""roberta""#,
            "config.json: pad_token_id is missing, wanted an integer of at least 0",
        );
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
