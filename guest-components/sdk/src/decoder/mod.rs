//! The graph of decoders: Qwen2, Qwen3, Mistral, Llama and the text models of Gemma 3 and
//! Qwen2-VL.

mod attention;
mod config;
mod family;
mod layer;
mod layer_types;
mod rope;

use half::{bf16, f16};

use crate::checkpoint::{CheckpointConfig, Weights};
use crate::layers::RmsNorm;
use crate::tensor::{self, Dtype, Error, Indices, Layout, Tensor};

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
    config: DecoderConfig,
}

/// A layer, and which rotary embedding it uses.
struct PlacedLayer {
    layer: DecoderLayer,
    rope: usize,
}

impl Decoder {
    /// Takes the weights of the decoder that `config` describes.
    ///
    /// # Errors
    /// What the graph does not compute; a weight that is absent or of another shape.
    pub fn load(config: &CheckpointConfig, weights: &Weights) -> Result<Self, String> {
        let config = DecoderConfig::read(config)?;
        let hidden = config.hidden_size;
        let words = weights.get("embed_tokens.weight", &[config.vocab_size, hidden])?;
        let embedding_scale = config
            .scales_embeddings
            .then(|| rounded((hidden as f32).sqrt(), words.dtype()));

        let mut ropes: Vec<&Rope> = Vec::new();
        let mut layers = Vec::new();
        for (index, placed) in config.layers.iter().enumerate() {
            let known = ropes.iter().position(|rope| **rope == placed.rope);
            let rope = known.unwrap_or(ropes.len());
            if known.is_none() {
                ropes.push(&placed.rope);
            }
            let weights = weights.under(&format!("layers.{index}."));
            let layer = DecoderLayer::load(&weights, &config, placed.window)?;
            layers.push(PlacedLayer { layer, rope });
        }
        let frequencies = ropes
            .iter()
            .map(|rope| rope.inverse_frequencies(config.head_dim));
        Ok(Self {
            words,
            embedding_scale,
            frequencies: frequencies.collect(),
            layers,
            norm: config.norm(weights, "norm", hidden)?,
            config,
        })
    }

    /// Width of the hidden states.
    pub fn hidden_size(&self) -> u32 {
        self.config.hidden_size
    }

    /// Rows of the token embedding.
    pub fn vocab_size(&self) -> u32 {
        self.config.vocab_size
    }

    /// The longest sequence that it was trained for.
    pub fn max_tokens(&self) -> u32 {
        self.config.max_position_embeddings
    }

    /// How many of a head's frequencies turn with each axis of an image (M-RoPE); none where
    /// positions have one axis.
    pub fn mrope_section(&self) -> Option<[u32; 3]> {
        self.config.mrope_section
    }

    /// The embeddings of tokens.
    ///
    /// # Errors
    /// The error of an operation.
    pub fn embed(&self, token_ids: &Indices) -> Result<Tensor, Error> {
        let embedded = tensor::embedding(&self.words, token_ids, None)?;
        match self.embedding_scale {
            Some(scale) => tensor::scale(&embedded, scale),
            None => Ok(embedded),
        }
    }

    /// The hidden states of embeddings. `rotary_table` gives the angles of every row for the
    /// inverse frequencies of a rotary embedding.
    ///
    /// # Errors
    /// The error of an operation.
    pub fn forward(
        &self,
        embedded: Tensor,
        rotary_table: impl Fn(&[f32]) -> Result<Tensor, Error>,
        layout: &Layout,
    ) -> Result<Tensor, Error> {
        let tables = self.frequencies.iter().map(|it| rotary_table(it));
        let tables = tables.collect::<Result<Vec<_>, _>>()?;
        let mut hidden = embedded;
        for PlacedLayer { layer, rope } in &self.layers {
            hidden = layer.forward(&hidden, &tables[*rope], layout)?;
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
