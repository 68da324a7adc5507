//! Self-attention with rotary positions and shared key and value heads.

use crate::checkpoint::Weights;
use crate::layers::{Linear, RmsNorm};
use crate::tensor::{self, Activation, AttentionInput, AttentionOptions, Error, Layout, Tensor};

use super::config::DecoderConfig;

/// The attention of a layer.
pub struct Attention {
    qkv: Linear,
    head_norms: Option<HeadNorms>,
    output: Linear,
    head_dim: u32,
    options: AttentionOptions,
}

/// The norms of queries and keys, each head by itself.
struct HeadNorms {
    query: RmsNorm,
    key: RmsNorm,
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
        let head_norm = |name: &str| config.norm(weights, name, head_dim);
        let head_norms = match config.norms_heads {
            true => Some(HeadNorms {
                query: head_norm("q_norm")?,
                key: head_norm("k_norm")?,
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
        let rotate = |x: &Tensor, heads| tensor::rotary(x, table, heads, self.head_dim);
        let Some(norms) = &self.head_norms else {
            let rotated = rotate(&qkv, heads + kv_heads)?;
            return tensor::attention(&AttentionInput::Fused(&rotated), layout, None, self.options);
        };
        let part = |first: u32, heads: u32| {
            tensor::slice(&qkv, 1, first * self.head_dim, heads * self.head_dim)
        };
        let query = norms.query.apply(&part(0, heads)?)?;
        let key = norms.key.apply(&part(heads, kv_heads)?)?;
        let value = part(heads + kv_heads, kv_heads)?;
        let (query, key) = (rotate(&query, heads)?, rotate(&key, kv_heads)?);
        let separate = AttentionInput::Separate((&query, &key, &value));
        tensor::attention(&separate, layout, None, self.options)
    }
}
