//! The ModernBERT encoder's forward graph: norms before each part, rotary positions, a gated
//! feed-forward part, attention that is local in most layers, and no biases.

mod config;

use tenon_sdk::batches::Batch;
use tenon_sdk::checkpoint::{CheckpointConfig, Weights};
use tenon_sdk::layers::{LayerNorm, Linear};
use tenon_sdk::rotary::inverse_frequencies;
use tenon_sdk::rotary_encoder::{GatedMlp, RotaryAttention};
use tenon_sdk::tensor::{self, Error, Layout, Tensor};
use tenon_sdk::{Model, ModelInfo};

use config::{ModernBertConfig, Reach};

/// A loaded ModernBERT encoder, without a head.
pub struct ModernBert {
    tokens: Tensor,
    embedding_norm: LayerNorm,
    global_frequencies: Vec<f32>,
    local_frequencies: Vec<f32>,
    layers: Vec<EncoderLayer>,
    final_norm: LayerNorm,
}

struct EncoderLayer {
    reach: Reach,
    /// None in the first layer: the embedding's norm has just been applied.
    attention_norm: Option<LayerNorm>,
    attention: RotaryAttention,
    mlp_norm: LayerNorm,
    mlp: GatedMlp,
}

impl Model for ModernBert {
    fn load() -> Result<(Self, ModelInfo), String> {
        let config = ModernBertConfig::read(&CheckpointConfig::read()?)?;
        let tokens = "embeddings.tok_embeddings.weight";
        let weights = Weights::find(&["", "model."], tokens)?;
        let hidden = config.hidden_size;

        let norm = |name| LayerNorm::without_bias(&weights, name, hidden, config.eps);
        let frequencies = |theta| inverse_frequencies(hidden / config.heads, theta);
        let model = Self {
            tokens: weights.get(tokens, &[config.vocab_size, hidden])?,
            embedding_norm: norm("embeddings.norm")?,
            global_frequencies: frequencies(config.global_theta),
            local_frequencies: frequencies(config.local_theta),
            layers: (0..)
                .zip(&config.layers)
                .map(|(index, &reach)| EncoderLayer::load(&weights, index, reach, &config))
                .collect::<Result<_, _>>()?,
            final_norm: norm("final_norm")?,
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
        let positions = input.position_ids(0);
        let global = tensor::rotary_table(&positions, &self.global_frequencies, 1.0)?;
        let local = tensor::rotary_table(&positions, &self.local_frequencies, 1.0)?;

        let tokens = tensor::embedding(&self.tokens, &input.token_ids(), None)?;
        let mut hidden = self.embedding_norm.apply(&tokens, None)?;
        for layer in &self.layers {
            let angles = match layer.reach {
                Reach::Global => &global,
                Reach::Local => &local,
            };
            hidden = layer.forward(&hidden, angles, &layout)?;
        }
        self.final_norm.apply(&hidden, None)
    }
}

impl EncoderLayer {
    fn load(
        weights: &Weights,
        index: u32,
        reach: Reach,
        config: &ModernBertConfig,
    ) -> Result<Self, String> {
        let weights = weights.under(&format!("layers.{index}."));
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let norm = |name| LayerNorm::without_bias(&weights, name, hidden, config.eps);
        let linear = |name, inputs, outputs| Linear::without_bias(&weights, name, inputs, outputs);
        let window = match reach {
            Reach::Global => None,
            Reach::Local => Some(config.window),
        };
        Ok(Self {
            reach,
            attention_norm: (index > 0).then(|| norm("attn_norm")).transpose()?,
            attention: RotaryAttention::new(
                linear("attn.Wqkv", hidden, 3 * hidden)?,
                linear("attn.Wo", hidden, hidden)?,
                config.heads,
                hidden / config.heads,
                window,
            ),
            mlp_norm: norm("mlp_norm")?,
            mlp: GatedMlp::new(
                linear("mlp.Wi", hidden, inner.saturating_mul(2))?,
                linear("mlp.Wo", inner, hidden)?,
                config.activation,
            ),
        })
    }

    fn forward(&self, x: &Tensor, angles: &Tensor, layout: &Layout) -> Result<Tensor, Error> {
        let normed = match &self.attention_norm {
            Some(norm) => Some(norm.apply(x, None)?),
            None => None,
        };
        let normed = normed.as_ref().unwrap_or(x);
        let attended = self.attention.apply_onto(x, normed, angles, layout)?;
        let normed = self.mlp_norm.apply(&attended, None)?;
        self.mlp.apply_onto(&attended, &normed)
    }
}

tenon_sdk::export_model!(ModernBert);
