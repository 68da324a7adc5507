//! An encoder layer with a norm before each of its parts, as vision towers have it.

use crate::layers::{LayerNorm, Linear};
use crate::tensor::{self, Activation, AttentionInput, AttentionOptions, Error, Layout, Tensor};

/// x + attention(norm(x)), then x + mlp(norm(x)).
pub struct PreNormLayer {
    /// The norm before attention.
    pub attention_norm: LayerNorm,
    /// Projects to queries, keys and values of the heads.
    pub qkv: Linear,
    /// Projects what attention gives back.
    pub output: Linear,
    /// How attention is computed.
    pub attention: AttentionOptions,
    /// The norm before the feed-forward part.
    pub mlp_norm: LayerNorm,
    /// The feed-forward part's first projection.
    pub up: Linear,
    /// The function between its projections.
    pub activation: Activation,
    /// Its second projection.
    pub down: Linear,
}

impl PreNormLayer {
    /// The hidden states after this layer, of those before it. Queries and keys are rotated
    /// by the angles of a rotary `table`, where there is one, of heads `head_dim` wide.
    ///
    /// # Errors
    /// The error of an operation.
    pub fn forward(
        &self,
        x: &Tensor,
        rotary: Option<(&Tensor, u32)>,
        layout: &Layout,
    ) -> Result<Tensor, Error> {
        let normed = self.attention_norm.apply(x, None)?;
        let mut qkv = self.qkv.apply(&normed, Activation::Identity)?;
        if let Some((table, head_dim)) = rotary {
            // Queries and keys are the first two thirds of the heads.
            qkv = tensor::rotary(&qkv, table, 2 * self.attention.heads, head_dim, None)?;
        }
        let context =
            tensor::attention(&AttentionInput::Fused(&qkv), layout, None, self.attention)?;
        let attended = self.output.apply_onto(x, &context)?;
        let normed = self.mlp_norm.apply(&attended, None)?;
        let inner = self.up.apply(&normed, self.activation)?;
        self.down.apply_onto(&attended, &inner)
    }
}
