//! Layers that most architectures are made of.

use crate::checkpoint::Weights;
use crate::tensor::{self, Activation, Error, Tensor};

/// A linear layer.
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Takes `NAME.weight` and `NAME.bias`.
    ///
    /// # Errors
    /// Where one is absent or of another shape.
    pub fn with_bias(
        weights: &Weights,
        name: &str,
        inputs: u32,
        outputs: u32,
    ) -> Result<Self, String> {
        let bias = weights.get(&format!("{name}.bias"), &[outputs])?;
        Ok(Self {
            bias: Some(bias),
            ..Self::without_bias(weights, name, inputs, outputs)?
        })
    }

    /// Takes `NAME.weight`.
    ///
    /// # Errors
    /// Where it is absent or of another shape.
    pub fn without_bias(
        weights: &Weights,
        name: &str,
        inputs: u32,
        outputs: u32,
    ) -> Result<Self, String> {
        let weight = weights.get(&format!("{name}.weight"), &[outputs, inputs])?;
        Ok(Self { weight, bias: None })
    }

    /// Takes several layers with a bias as one, whose outputs stand one after the other.
    /// `outputs` counts them all.
    ///
    /// # Errors
    /// Where one is absent or of another shape.
    pub fn fused_with_bias(
        weights: &Weights,
        names: &[&str],
        inputs: u32,
        outputs: u32,
    ) -> Result<Self, String> {
        let concat = |kind: &str, shape: &[u32]| {
            let names: Vec<_> = names.iter().map(|name| format!("{name}.{kind}")).collect();
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            weights.concat(&names, shape)
        };
        Ok(Self {
            weight: concat("weight", &[outputs, inputs])?,
            bias: Some(concat("bias", &[outputs])?),
        })
    }

    /// activation(x weight^T + bias)
    ///
    /// # Errors
    /// The error of the operation.
    pub fn apply(&self, x: &Tensor, activation: Activation) -> Result<Tensor, Error> {
        tensor::linear(x, &self.weight, self.bias.as_ref(), activation, None)
    }
}

/// A layer norm with weight and bias.
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl LayerNorm {
    /// Takes `NAME.weight` and `NAME.bias`.
    ///
    /// # Errors
    /// Where one is absent or of another shape.
    pub fn take(weights: &Weights, name: &str, size: u32, eps: f32) -> Result<Self, String> {
        Ok(Self {
            weight: weights.get(&format!("{name}.weight"), &[size])?,
            bias: weights.get(&format!("{name}.bias"), &[size])?,
            eps,
        })
    }

    /// The norm of x, plus `residual` where given.
    ///
    /// # Errors
    /// The error of the operation.
    pub fn apply(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor, Error> {
        tensor::layer_norm(x, Some(&self.weight), Some(&self.bias), self.eps, residual)
    }
}
