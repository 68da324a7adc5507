//! One decoder layer: attention and a gated feed-forward part, each with a norm before it.

use crate::checkpoint::Weights;
use crate::layers::{Linear, RmsNorm};
use crate::rotary_encoder::GatedMlp;
use crate::tensor::{self, Error, Layout, Tensor};

use super::attention::Attention;
use super::config::DecoderConfig;

/// A decoder layer.
pub struct DecoderLayer {
    attention_norm: RmsNorm,
    attention: Attention,
    mlp_norm: RmsNorm,
    mlp: GatedMlp,
    output_norms: Option<OutputNorms>,
}

/// Norms of what each part gives, before it is added to what went in.
struct OutputNorms {
    attention: RmsNorm,
    mlp: RmsNorm,
}

impl DecoderLayer {
    /// Takes the weights of a layer whose tokens see each other up to the distance `window`.
    pub fn load(
        weights: &Weights,
        config: &DecoderConfig,
        window: Option<u32>,
    ) -> Result<Self, String> {
        let norm = |name: &str| config.norm(weights, name, config.hidden_size);
        let (mlp_norm, output_norms) = match config.norms_outputs {
            true => {
                let output_norms = OutputNorms {
                    attention: norm("post_attention_layernorm")?,
                    mlp: norm("post_feedforward_layernorm")?,
                };
                (norm("pre_feedforward_layernorm")?, Some(output_norms))
            }
            false => (norm("post_attention_layernorm")?, None),
        };
        Ok(Self {
            attention_norm: norm("input_layernorm")?,
            attention: Attention::load(&weights.under("self_attn."), config, window)?,
            mlp_norm,
            mlp: mlp(&weights.under("mlp."), config)?,
            output_norms,
        })
    }

    /// The hidden states after this layer, of those before it.
    pub fn forward(&self, x: &Tensor, table: &Tensor, layout: &Layout) -> Result<Tensor, Error> {
        let normed = self.attention_norm.apply(x)?;
        let Some(norms) = &self.output_norms else {
            let attended = self.attention.apply_onto(x, &normed, table, layout)?;
            return self
                .mlp
                .apply_onto(&attended, &self.mlp_norm.apply(&attended)?);
        };
        let attended = self.attention.apply(&normed, table, layout)?;
        let attended = tensor::add(x, &norms.attention.apply(&attended)?)?;
        let fed = self.mlp.apply(&self.mlp_norm.apply(&attended)?)?;
        tensor::add(&attended, &norms.mlp.apply(&fed)?)
    }
}

fn mlp(weights: &Weights, config: &DecoderConfig) -> Result<GatedMlp, String> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let names = ["gate_proj", "up_proj"];
    let (gate_up, down) = match config.mlp_bias {
        true => (
            Linear::fused_with_bias(weights, &names, hidden, 2 * inner)?,
            Linear::with_bias(weights, "down_proj", inner, hidden)?,
        ),
        false => (
            Linear::fused_without_bias(weights, &names, hidden, 2 * inner)?,
            Linear::without_bias(weights, "down_proj", inner, hidden)?,
        ),
    };
    Ok(GatedMlp::new(gate_up, down, config.activation))
}
