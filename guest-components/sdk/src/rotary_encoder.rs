//! The two parts of an encoder layer with rotary positions and a gated MLP.

use crate::layers::Linear;
use crate::tensor::{self, Activation, AttentionInput, AttentionOptions, Error, Layout, Tensor};

/// Self-attention in both directions, with rotated queries and keys.
pub struct RotaryAttention {
    qkv: Linear,
    output: Linear,
    head_dim: u32,
    options: AttentionOptions,
}

impl RotaryAttention {
    /// `qkv` projects to queries, keys and values of `heads` heads each, `output` back. With
    /// a `window`, tokens see each other up to this distance.
    pub fn new(
        qkv: Linear,
        output: Linear,
        heads: u32,
        head_dim: u32,
        window: Option<u32>,
    ) -> Self {
        let options = AttentionOptions {
            heads,
            kv_heads: heads,
            scale: 1.0 / (head_dim as f32).sqrt(),
            causal: false,
            window,
        };
        Self {
            qkv,
            output,
            head_dim,
            options,
        }
    }

    /// residual + attention(x), with the angles of a rotary `table`.
    ///
    /// # Errors
    /// The error of an operation.
    pub fn apply_onto(
        &self,
        residual: &Tensor,
        x: &Tensor,
        table: &Tensor,
        layout: &Layout,
    ) -> Result<Tensor, Error> {
        let qkv = self.qkv.apply(x, Activation::Identity)?;
        // Queries and keys are the first two thirds of the heads.
        let rotated = tensor::rotary(&qkv, table, 2 * self.options.heads, self.head_dim, None)?;
        let context =
            tensor::attention(&AttentionInput::Fused(&rotated), layout, None, self.options)?;
        self.output.apply_onto(residual, &context)
    }
}

/// A feed-forward part whose inner values are gated.
pub struct GatedMlp {
    gate_up: Linear,
    down: Linear,
    activation: Activation,
}

impl GatedMlp {
    /// `gate_up` gives two halves, of which the first goes through `activation`; `down`
    /// projects their product.
    pub fn new(gate_up: Linear, down: Linear, activation: Activation) -> Self {
        Self {
            gate_up,
            down,
            activation,
        }
    }

    /// down(activation(gate) * up)
    ///
    /// # Errors
    /// The error of an operation.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor, Error> {
        self.down.apply(&self.inner(x)?, Activation::Identity)
    }

    /// residual + down(activation(gate) * up)
    ///
    /// # Errors
    /// The error of an operation.
    pub fn apply_onto(&self, residual: &Tensor, x: &Tensor) -> Result<Tensor, Error> {
        self.down.apply_onto(residual, &self.inner(x)?)
    }

    fn inner(&self, x: &Tensor) -> Result<Tensor, Error> {
        let halves = self.gate_up.apply(x, Activation::Identity)?;
        tensor::gated(&halves, self.activation)
    }
}
