//! The NomicBERT encoder's forward graph: BERT with rotary positions and a gated
//! feed-forward part, without biases of linear layers.

mod config;
mod names;

use tenon_sdk::batches::Batch;
use tenon_sdk::checkpoint::{CheckpointConfig, Weights};
use tenon_sdk::layers::{LayerNorm, Linear};
use tenon_sdk::rotary::inverse_frequencies;
use tenon_sdk::rotary_encoder::{GatedMlp, RotaryAttention};
use tenon_sdk::tensor::{self, Error, Layout, Tensor};
use tenon_sdk::{Model, ModelInfo};

use config::NomicConfig;
use names::Names;

/// A loaded NomicBERT encoder, without its pooler.
pub struct NomicBert {
    words: Tensor,
    token_types: Tensor,
    embedding_norm: LayerNorm,
    inverse_frequencies: Vec<f32>,
    layers: Vec<EncoderLayer>,
}

struct EncoderLayer {
    attention: RotaryAttention,
    attention_norm: LayerNorm,
    mlp: GatedMlp,
    mlp_norm: LayerNorm,
}

impl Model for NomicBert {
    fn load() -> Result<(Self, ModelInfo), String> {
        let config = NomicConfig::read(&CheckpointConfig::read()?)?;
        let weights = Weights::find(&["", "nomic_bert."], "embeddings.word_embeddings.weight")?;
        let names = Names::of(&weights);
        let hidden = config.hidden_size;

        let table = |name: &str, rows| {
            weights.get(
                &format!("embeddings.{name}_embeddings.weight"),
                &[rows, hidden],
            )
        };
        let model = Self {
            words: table("word", config.vocab_size)?,
            token_types: table("token_type", config.type_vocab_size)?,
            embedding_norm: LayerNorm::take(&weights, names.embedding_norm, hidden, config.eps)?,
            inverse_frequencies: inverse_frequencies(hidden / config.heads, config.theta),
            layers: (0..config.layers)
                .map(|index| {
                    let layer = format!("{}.{index}.", names.layers);
                    EncoderLayer::load(&weights.under(&layer), names, &config)
                })
                .collect::<Result<_, _>>()?,
        };
        let info = ModelInfo {
            hidden_size: hidden,
            max_tokens: Some(config.max_tokens),
            vocab_size: config.vocab_size,
            images: false,
            pooled: false,
        };
        Ok((model, info))
    }

    fn forward(&self, input: &Batch) -> Result<Tensor, Error> {
        let layout = input.layout();
        let words = tensor::embedding(&self.words, &input.token_ids(), None)?;
        let typed = tensor::embedding(&self.token_types, &input.token_type_ids(), Some(&words))?;
        let mut hidden = self.embedding_norm.apply(&typed, None)?;
        let angles = tensor::rotary_table(&input.position_ids(0), &self.inverse_frequencies, 1.0)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, &angles, &layout)?;
        }
        Ok(hidden)
    }
}

impl EncoderLayer {
    fn load(weights: &Weights, names: &Names, config: &NomicConfig) -> Result<Self, String> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let norm = |name| LayerNorm::take(weights, name, hidden, config.eps);
        let fused = |names: &[&str], outputs| match names {
            [name] => Linear::without_bias(weights, name, hidden, outputs),
            names => Linear::fused_without_bias(weights, names, hidden, outputs),
        };
        Ok(Self {
            attention: RotaryAttention::new(
                fused(names.qkv, 3 * hidden)?,
                Linear::without_bias(weights, names.attention_output, hidden, hidden)?,
                config.heads,
                hidden / config.heads,
                None,
            ),
            attention_norm: norm(names.attention_norm)?,
            mlp: GatedMlp::new(
                fused(&names.gate_up, inner.saturating_mul(2))?,
                Linear::without_bias(weights, names.down, inner, hidden)?,
                config.activation,
            ),
            mlp_norm: norm(names.mlp_norm)?,
        })
    }

    fn forward(&self, x: &Tensor, angles: &Tensor, layout: &Layout) -> Result<Tensor, Error> {
        let attended = self.attention.apply_onto(x, x, angles, layout)?;
        let attended = self.attention_norm.apply(&attended, None)?;
        let outer = self.mlp.apply_onto(&attended, &attended)?;
        self.mlp_norm.apply(&outer, None)
    }
}

tenon_sdk::export_model!(NomicBert);
