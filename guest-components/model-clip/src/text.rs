//! The tower for texts.

use tenon_sdk::batches::Batch;
use tenon_sdk::checkpoint::{CheckpointConfig, Weights};
use tenon_sdk::layers::{LayerNorm, Linear};
use tenon_sdk::tensor::{self, Activation, Error, Tensor};

use crate::tower::{Defaults, Layers, TowerConfig};

const DEFAULTS: Defaults = Defaults {
    hidden_size: 512,
    intermediate_size: 2048,
    heads: 8,
};
const DEFAULT_VOCAB_SIZE: u32 = 49_408;
const DEFAULT_MAX_TOKENS: u32 = 77;
const DEFAULT_EOS: u32 = 49_407;

/// The `eos_token_id` of early checkpoints, which is not that of their tokenizer: they pool
/// the token with the largest id.
const LEGACY_EOS: u32 = 2;

/// A loaded tower.
pub struct TextTower {
    /// Rows of the token embedding.
    pub vocab_size: u32,
    /// Rows of the position embedding.
    pub max_tokens: u32,
    words: Tensor,
    positions: Tensor,
    layers: Layers,
    final_norm: LayerNorm,
    eos: u32,
    projection: Linear,
}

impl TextTower {
    /// Takes the weights of `text_model` and `text_projection`.
    pub fn load(
        config: &CheckpointConfig,
        weights: &Weights,
        projection_dim: u32,
    ) -> Result<Self, String> {
        let tower = TowerConfig::read(config, &DEFAULTS, true)?;
        let hidden = tower.hidden_size;
        let vocab_size = config.size_or("vocab_size", DEFAULT_VOCAB_SIZE)?;
        let max_tokens = config.size_or("max_position_embeddings", DEFAULT_MAX_TOKENS)?;
        let model = weights.under("text_model.");
        let table =
            |name: &str, rows| model.get(&format!("embeddings.{name}.weight"), &[rows, hidden]);
        Ok(Self {
            vocab_size,
            max_tokens,
            words: table("token_embedding", vocab_size)?,
            positions: table("position_embedding", max_tokens)?,
            layers: Layers::load(&model, &tower)?,
            final_norm: tower.norm(&model, "final_layer_norm")?,
            eos: match config.get("eos_token_id") {
                Some(_) => config.token_id("eos_token_id")?,
                None => DEFAULT_EOS,
            },
            projection: Linear::without_bias(weights, "text_projection", hidden, projection_dim)?,
        })
    }

    /// One row a sequence.
    pub fn forward(&self, input: &Batch) -> Result<Tensor, Error> {
        let words = tensor::embedding(&self.words, &input.token_ids(), None)?;
        let placed = tensor::embedding(&self.positions, &input.position_ids(0), Some(&words))?;
        let hidden = self.layers.forward(placed, &input.layout())?;
        let ends = match self.eos {
            LEGACY_EOS => input.first_rows_of_largest(),
            eos => input.first_rows_of(eos),
        };
        // A row's norm is its own: only the pooled ones are needed.
        let pooled = tensor::embedding(&hidden, &ends, None)?;
        let normed = self.final_norm.apply(&pooled, None)?;
        self.projection.apply(&normed, Activation::Identity)
    }
}
