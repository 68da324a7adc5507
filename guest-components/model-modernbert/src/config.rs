//! What the graph needs of a ModernBERT checkpoint's `config.json`.

use tenon_sdk::checkpoint::CheckpointConfig;
use tenon_sdk::tensor::Activation;

/// The sizes and functions of a ModernBERT encoder.
pub struct ModernBertConfig {
    /// Rows of the token embedding.
    pub vocab_size: u32,
    /// Width of the hidden states.
    pub hidden_size: u32,
    /// Width inside of the feed-forward part.
    pub intermediate_size: u32,
    /// What each encoder layer sees.
    pub layers: Vec<Reach>,
    /// Attention heads; divides `hidden_size`.
    pub heads: u32,
    /// The eps of every layer norm.
    pub eps: f32,
    /// The base of the rotary frequencies in global layers.
    pub global_theta: f32,
    /// The base of the rotary frequencies in local layers.
    pub local_theta: f32,
    /// How far a token sees in local layers.
    pub window: u32,
    /// The longest sequence, in tokens.
    pub max_tokens: u32,
    /// The function of the feed-forward part's first half.
    pub activation: Activation,
}

/// What the tokens of a layer see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The whole sequence.
    Global,
    /// A window around themselves.
    Local,
}

impl ModernBertConfig {
    /// Reads it, and refuses what this graph does not compute.
    pub fn read(config: &CheckpointConfig) -> Result<Self, String> {
        for key in ["norm_bias", "attention_bias", "mlp_bias"] {
            config.require(key, false)?;
        }
        config.require("rope_scaling", ())?;
        let (hidden_size, heads) = config.width_and_heads("hidden_size", "num_attention_heads")?;
        let theta = |kind: &str, older_key: &str, default| {
            let rope = config.section("rope_parameters")?.section(kind)?;
            rope.require("rope_type", "default")?;
            rope.positive_or("rope_theta", config.positive_or(older_key, default)?)
        };
        Ok(Self {
            vocab_size: config.size("vocab_size")?,
            hidden_size,
            intermediate_size: config.size("intermediate_size")?,
            layers: layers(config)?,
            heads,
            eps: config.eps("norm_eps")?,
            global_theta: theta("full_attention", "global_rope_theta", 160_000.0)?,
            local_theta: theta("sliding_attention", "local_rope_theta", 10_000.0)?,
            window: config.size("local_attention")? / 2,
            max_tokens: config.size("max_position_embeddings")?,
            activation: config.activation("hidden_activation")?,
        })
    }
}

/// What each layer sees: listed, or global in every n-th from the first on.
fn layers(config: &CheckpointConfig) -> Result<Vec<Reach>, String> {
    let count = config.size("num_hidden_layers")?;
    let Some(listed) = config.get("layer_types") else {
        let every = config.size("global_attn_every_n_layers")?;
        let reach = |layer: u32| match layer.is_multiple_of(every) {
            true => Reach::Global,
            false => Reach::Local,
        };
        return Ok((0..count).map(reach).collect());
    };
    let kinds = listed.as_array().into_iter().flatten();
    let layers: Option<Vec<_>> = kinds
        .map(|kind| match kind.as_str() {
            Some("full_attention") => Some(Reach::Global),
            Some("sliding_attention") => Some(Reach::Local),
            _ => None,
        })
        .collect();
    layers
        .filter(|layers| layers.len() == count as usize)
        .ok_or_else(|| {
            format!(
                "config.json: layer_types is {listed}, wanted \"full_attention\" or \
                 \"sliding_attention\" for each of num_hidden_layers {count}"
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLDER: &str = r#"{"model_type": "modernbert", "attention_bias": false,
        "global_attn_every_n_layers": 3, "global_rope_theta": 80000.0,
        "hidden_activation": "gelu", "hidden_size": 768, "intermediate_size": 1152,
        "local_attention": 128, "local_rope_theta": 5000.0, "max_position_embeddings": 8192,
        "mlp_bias": false, "norm_bias": false, "norm_eps": 1e-05, "num_attention_heads": 12,
        "num_hidden_layers": 4, "vocab_size": 50368}"#;

    /// [`OLDER`] as transformers 5 writes it.
    fn newer() -> String {
        OLDER
            .replace(
                r#""global_attn_every_n_layers": 3, "global_rope_theta": 80000.0"#,
                r#""layer_types": ["full_attention", "sliding_attention", "sliding_attention",
                "full_attention"]"#,
            )
            .replace(
                r#""local_rope_theta": 5000.0"#,
                r#""rope_parameters": {"full_attention": {"rope_theta": 80000.0,
                "rope_type": "default"}, "sliding_attention": {"rope_theta": 5000.0,
                "rope_type": "default"}}"#,
            )
    }

    fn read(text: &str) -> Result<ModernBertConfig, String> {
        ModernBertConfig::read(&CheckpointConfig::parse(text)?)
    }

    #[test]
    fn reads_both_spellings() -> Result<(), String> {
        for text in [OLDER, &newer()] {
            let config = read(text)?;
            assert_eq!(
                (config.global_theta, config.local_theta),
                (80_000.0, 5_000.0)
            );
            assert_eq!((config.window, config.max_tokens), (64, 8192));
            let (global, local) = (Reach::Global, Reach::Local);
            assert_eq!(config.layers, [global, local, local, global]);
            assert_eq!(config.activation, Activation::GeluErf);
        }
        Ok(())
    }

    #[test]
    fn names_what_it_cannot_compute() {
        let newer = newer();
        let check = |config: &str, from: &str, to: &str, message: &str| {
            let text = config.replacen(from, to, 1);
            assert_ne!(text, config, "{from} is not in the config");
            let message = format!("config.json: {message}");
            assert_eq!(read(&text).err(), Some(message));
        };
        check(
            OLDER,
            r#""norm_bias": false"#,
            r#""norm_bias": true"#,
            "norm_bias is true, only false is supported",
        );
        check(
            OLDER,
            r#""mlp_bias": false"#,
            r#""rope_scaling": {"factor": 2}"#,
            r#"rope_scaling is {"factor":2}, only null is supported"#,
        );
        check(
            OLDER,
            r#""global_attn_every_n_layers": 3,"#,
            "",
            "global_attn_every_n_layers is missing, wanted an integer of at least 1",
        );
        check(
            &newer,
            r#""default""#,
            r#""yarn""#,
            r#"rope_parameters.full_attention.rope_type is "yarn", only "default" is supported"#,
        );
        check(
            &newer,
            r#""num_hidden_layers": 4"#,
            r#""num_hidden_layers": 5"#,
            r#"layer_types is ["full_attention","sliding_attention","sliding_attention","full_attention"], wanted "full_attention" or "sliding_attention" for each of num_hidden_layers 5"#,
        );
    }
}
