//! Self-attention with rotary positions and shared key and value heads.

use crate::checkpoint::Weights;
use crate::layers::Linear;
use crate::tensor::{
    self, Activation, AttentionInput, AttentionOptions, Error, HeadNorms, Layout, Tensor,
};

use super::config::DecoderConfig;

/// The attention of a layer.
pub struct Attention {
    qkv: Linear,
    head_norms: Option<NormWeights>,
    output: Linear,
    head_dim: u32,
    options: AttentionOptions,
}

/// The norms of queries and keys, each head by itself.
struct NormWeights {
    query: Tensor,
    key: Tensor,
    eps: f32,
    offset: f32,
}

impl Attention {
    /// Takes the weights of `self_attn`.
    pub fn load(
        weights: &Weights,
        config: &DecoderConfig,
        window: Option<u32>,
    ) -> Result<Self, String> {
        let (hidden, head_dim) = (config.hidden_size, config.head_dim);
        let fused = match config.qkv_bias {
            true => Linear::fused_with_bias,
            false => Linear::fused_without_bias,
        };
        let single = match config.attention_output_bias {
            true => Linear::with_bias,
            false => Linear::without_bias,
        };
        let head_norms = match config.norms_heads {
            true => Some(NormWeights {
                query: weights.get("q_norm.weight", &[head_dim])?,
                key: weights.get("k_norm.weight", &[head_dim])?,
                eps: config.norm_eps,
                offset: config.norm_weight_offset,
            }),
            false => None,
        };
        let names = ["q_proj", "k_proj", "v_proj"];
        let width = config.query_width + 2 * config.kv_width;
        Ok(Self {
            qkv: fused(weights, &names, hidden, width)?,
            head_norms,
            output: single(weights, "o_proj", config.query_width, hidden)?,
            head_dim,
            options: AttentionOptions {
                heads: config.query_width / head_dim,
                kv_heads: config.kv_width / head_dim,
                scale: config.attention_scale,
                causal: config.causal,
                window,
            },
        })
    }

    /// attention(x), with the angles of a rotary `table`.
    pub fn apply(&self, x: &Tensor, table: &Tensor, layout: &Layout) -> Result<Tensor, Error> {
        let context = self.context(x, table, layout)?;
        self.output.apply(&context, Activation::Identity)
    }

    /// residual + attention(x), with the angles of a rotary `table`.
    pub fn apply_onto(
        &self,
        residual: &Tensor,
        x: &Tensor,
        table: &Tensor,
        layout: &Layout,
    ) -> Result<Tensor, Error> {
        let context = self.context(x, table, layout)?;
        self.output.apply_onto(residual, &context)
    }

    fn context(&self, x: &Tensor, table: &Tensor, layout: &Layout) -> Result<Tensor, Error> {
        let AttentionOptions {
            heads, kv_heads, ..
        } = self.options;
        let qkv = self.qkv.apply(x, Activation::Identity)?;
        let norms = self.head_norms.as_ref().map(|norms| HeadNorms {
            query: &norms.query,
            key: &norms.key,
            query_heads: heads,
            eps: norms.eps,
            weight_offset: norms.offset,
        });
        let all = heads + kv_heads;
        let qkv = tensor::rotary(&qkv, table, all, self.head_dim, norms.as_ref())?;
        tensor::attention(&AttentionInput::Fused(&qkv), layout, None, self.options)
    }
}
