//! The forward graph of decoders: Qwen2, Qwen3, Mistral, Llama and the text model of Gemma 3.

mod attention;
mod config;
mod family;
mod layer;
mod layer_types;
mod rope;

use half::{bf16, f16};
use tenon_sdk::batches::Batch;
use tenon_sdk::checkpoint::{CheckpointConfig, Weights};
use tenon_sdk::layers::RmsNorm;
use tenon_sdk::tensor::{self, Dtype, Error, Tensor};
use tenon_sdk::{Model, ModelInfo};

use config::DecoderConfig;
use layer::DecoderLayer;
use rope::Rope;

/// A loaded decoder, without its language modelling head.
pub struct Decoder {
    words: Tensor,
    /// What embeddings are multiplied with.
    embedding_scale: Option<f32>,
    /// The inverse frequencies of each rotary embedding that a layer uses.
    frequencies: Vec<Vec<f32>>,
    layers: Vec<PlacedLayer>,
    norm: RmsNorm,
}

/// A layer, and which rotary embedding it uses.
struct PlacedLayer {
    layer: DecoderLayer,
    rope: usize,
}

impl Model for Decoder {
    fn load() -> Result<(Self, ModelInfo), String> {
        let config = DecoderConfig::read(&CheckpointConfig::read()?)?;
        let weights = Weights::find(&["", "model."], "embed_tokens.weight")?;
        let hidden = config.hidden_size;
        let words = weights.get("embed_tokens.weight", &[config.vocab_size, hidden])?;
        let embedding_scale = config
            .scales_embeddings
            .then(|| rounded((hidden as f32).sqrt(), words.dtype()));

        let mut ropes: Vec<Rope> = Vec::new();
        let mut layers = Vec::new();
        for (index, placed) in config.layers.iter().enumerate() {
            let known = ropes.iter().position(|rope| *rope == placed.rope);
            let rope = known.unwrap_or(ropes.len());
            if known.is_none() {
                ropes.push(placed.rope);
            }
            let weights = weights.under(&format!("layers.{index}."));
            let layer = DecoderLayer::load(&weights, &config, placed.window)?;
            layers.push(PlacedLayer { layer, rope });
        }
        let decoder = Self {
            words,
            embedding_scale,
            frequencies: ropes
                .iter()
                .map(|rope| rope.inverse_frequencies(config.head_dim))
                .collect(),
            layers,
            norm: config.norm(&weights, "norm", hidden)?,
        };
        let info = ModelInfo {
            hidden_size: hidden,
            max_tokens: Some(config.max_position_embeddings),
            vocab_size: config.vocab_size,
        };
        Ok((decoder, info))
    }

    fn forward(&self, input: &Batch) -> Result<Tensor, Error> {
        let layout = input.layout();
        let positions = input.position_ids(0);
        let tables = self
            .frequencies
            .iter()
            .map(|frequencies| tensor::rotary_table(&positions, frequencies, 1.0))
            .collect::<Result<Vec<_>, _>>()?;
        let mut hidden = tensor::embedding(&self.words, &input.token_ids(), None)?;
        if let Some(scale) = self.embedding_scale {
            hidden = tensor::scale(&hidden, scale)?;
        }
        for PlacedLayer { layer, rope } in &self.layers {
            hidden = layer.forward(&hidden, &tables[*rope], &layout)?;
        }
        self.norm.apply(&hidden)
    }
}

/// The nearest value that `dtype` has: Gemma was trained with a scale of the weights' dtype.
fn rounded(value: f32, dtype: Dtype) -> f32 {
    match dtype {
        Dtype::Bf16 => bf16::from_f32(value).to_f32(),
        Dtype::F16 => f16::from_f32(value).to_f32(),
        Dtype::F32 | Dtype::U8 => value,
    }
}

tenon_sdk::export_model!(Decoder);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedding_scale_is_one_of_the_dtype() {
        let root = 3072f32.sqrt();
        assert_eq!(rounded(root, Dtype::F32), root);
        assert_eq!(rounded(root, Dtype::Bf16), 55.5);
        assert_eq!(rounded(root, Dtype::F16), 55.4375);
    }
}
