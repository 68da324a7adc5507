//! The BERT encoder's forward graph.

mod config;

use tenon_sdk::batches::Batch;
use tenon_sdk::checkpoint::{CheckpointConfig, Weights};
use tenon_sdk::layers::{LayerNorm, Linear};
use tenon_sdk::tensor::{
    self, Activation, AttentionInput, AttentionOptions, Error, Layout, Tensor,
};
use tenon_sdk::{Model, ModelInfo};

use config::BertConfig;

/// A loaded BERT encoder, without its pooler.
pub struct Bert {
    words: Tensor,
    positions: Tensor,
    token_types: Tensor,
    embedding_norm: LayerNorm,
    layers: Vec<EncoderLayer>,
}

struct EncoderLayer {
    qkv: Linear,
    attention: AttentionOptions,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    activation: Activation,
    output: Linear,
    output_norm: LayerNorm,
}

impl Model for Bert {
    fn load() -> Result<(Self, ModelInfo), String> {
        let config = BertConfig::read(&CheckpointConfig::read()?)?;
        let weights = Weights::find(&["", "bert."], "embeddings.word_embeddings.weight")?;
        let hidden = config.hidden_size;

        let embeddings = weights.under("embeddings.");
        let table = |name: &str, rows| embeddings.get(&format!("{name}.weight"), &[rows, hidden]);
        let bert = Self {
            words: table("word_embeddings", config.vocab_size)?,
            positions: table("position_embeddings", config.max_position_embeddings)?,
            token_types: table("token_type_embeddings", config.type_vocab_size)?,
            embedding_norm: LayerNorm::take(&embeddings, "LayerNorm", hidden, config.eps)?,
            layers: (0..config.layers)
                .map(|index| {
                    EncoderLayer::load(&weights.under(&format!("encoder.layer.{index}.")), &config)
                })
                .collect::<Result<_, _>>()?,
        };
        let info = ModelInfo {
            hidden_size: hidden,
            max_tokens: Some(config.max_position_embeddings),
            vocab_size: config.vocab_size,
        };
        Ok((bert, info))
    }

    fn forward(&self, input: &Batch) -> Result<Tensor, Error> {
        let layout = input.layout();
        let words = tensor::embedding(&self.words, &input.token_ids(), None)?;
        let typed = tensor::embedding(&self.token_types, &input.token_type_ids(), Some(&words))?;
        let placed = tensor::embedding(&self.positions, &input.position_ids(0), Some(&typed))?;
        let mut hidden = self.embedding_norm.apply(&placed, None)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, &layout)?;
        }
        Ok(hidden)
    }
}

impl EncoderLayer {
    fn load(weights: &Weights, config: &BertConfig) -> Result<Self, String> {
        let hidden = config.hidden_size;
        let norm = |name: &str| LayerNorm::take(weights, name, hidden, config.eps);
        let qkv = ["query", "key", "value"].map(|name| format!("attention.self.{name}"));
        let qkv = qkv.each_ref().map(String::as_str);
        Ok(Self {
            qkv: Linear::fused_with_bias(weights, &qkv, hidden, 3 * hidden)?,
            attention: AttentionOptions {
                heads: config.heads,
                kv_heads: config.heads,
                scale: 1.0 / ((hidden / config.heads) as f32).sqrt(),
                causal: false,
                window: None,
            },
            attention_output: Linear::with_bias(weights, "attention.output.dense", hidden, hidden)?,
            attention_norm: norm("attention.output.LayerNorm")?,
            intermediate: Linear::with_bias(
                weights,
                "intermediate.dense",
                hidden,
                config.intermediate_size,
            )?,
            activation: config.activation,
            output: Linear::with_bias(weights, "output.dense", config.intermediate_size, hidden)?,
            output_norm: norm("output.LayerNorm")?,
        })
    }

    fn forward(&self, x: &Tensor, layout: &Layout) -> Result<Tensor, Error> {
        let qkv = self.qkv.apply(x, Activation::Identity)?;
        let context = tensor::attention(&AttentionInput::Fused(&qkv), layout, self.attention)?;
        let attended = self
            .attention_output
            .apply(&context, Activation::Identity)?;
        let attended = self.attention_norm.apply(&attended, Some(x))?;

        let inner = self.intermediate.apply(&attended, self.activation)?;
        let outer = self.output.apply(&inner, Activation::Identity)?;
        self.output_norm.apply(&outer, Some(&attended))
    }
}

tenon_sdk::export_model!(Bert);
