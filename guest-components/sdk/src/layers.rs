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
        Ok(Self {
            bias: Some(concat(weights, names, "bias", &[outputs])?),
            ..Self::fused_without_bias(weights, names, inputs, outputs)?
        })
    }

    /// As [`Self::fused_with_bias`], of layers that have none.
    ///
    /// # Errors
    /// Where one is absent or of another shape.
    pub fn fused_without_bias(
        weights: &Weights,
        names: &[&str],
        inputs: u32,
        outputs: u32,
    ) -> Result<Self, String> {
        let weight = concat(weights, names, "weight", &[outputs, inputs])?;
        Ok(Self { weight, bias: None })
    }

    /// activation(x weight^T + bias)
    ///
    /// # Errors
    /// The error of the operation.
    pub fn apply(&self, x: &Tensor, activation: Activation) -> Result<Tensor, Error> {
        tensor::linear(x, &self.weight, self.bias.as_ref(), activation, None)
    }

    /// residual + x weight^T + bias
    ///
    /// # Errors
    /// The error of the operation.
    pub fn apply_onto(&self, residual: &Tensor, x: &Tensor) -> Result<Tensor, Error> {
        let bias = self.bias.as_ref();
        tensor::linear(x, &self.weight, bias, Activation::Identity, Some(residual))
    }
}

/// `NAME.KIND` of every name, one after the other.
fn concat(weights: &Weights, names: &[&str], kind: &str, shape: &[u32]) -> Result<Tensor, String> {
    let names: Vec<_> = names.iter().map(|name| format!("{name}.{kind}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    weights.concat(&names, shape)
}

/// A layer norm.
pub struct LayerNorm {
    weight: Tensor,
    bias: Option<Tensor>,
    eps: f32,
}

impl LayerNorm {
    /// Takes `NAME.weight` and `NAME.bias`, or `NAME.gamma` and `NAME.beta` as checkpoints of
    /// TensorFlow's time have them.
    ///
    /// # Errors
    /// Where one is absent or of another shape.
    pub fn take(weights: &Weights, name: &str, size: u32, eps: f32) -> Result<Self, String> {
        let old = weights.has(&format!("{name}.gamma"));
        let (weight, bias) = if old {
            ("gamma", "beta")
        } else {
            ("weight", "bias")
        };
        Ok(Self {
            weight: weights.get(&format!("{name}.{weight}"), &[size])?,
            bias: Some(weights.get(&format!("{name}.{bias}"), &[size])?),
            eps,
        })
    }

    /// Takes `NAME.weight`.
    ///
    /// # Errors
    /// Where it is absent or of another shape.
    pub fn without_bias(
        weights: &Weights,
        name: &str,
        size: u32,
        eps: f32,
    ) -> Result<Self, String> {
        let (weight, bias) = (weights.get(&format!("{name}.weight"), &[size])?, None);
        Ok(Self { weight, bias, eps })
    }

    /// The norm of x + `residual`.
    ///
    /// # Errors
    /// The error of the operation.
    pub fn apply(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor, Error> {
        let bias = self.bias.as_ref();
        tensor::layer_norm(x, Some(&self.weight), bias, self.eps, residual)
    }
}

/// A root-mean-square norm.
pub struct RmsNorm {
    weight: Tensor,
    weight_offset: f32,
    eps: f32,
}

impl RmsNorm {
    /// Takes `NAME.weight`. `weight_offset` is 1 where the checkpoint stores weights around
    /// zero, else 0.
    ///
    /// # Errors
    /// Where it is absent or of another shape.
    pub fn take(
        weights: &Weights,
        name: &str,
        size: u32,
        eps: f32,
        weight_offset: f32,
    ) -> Result<Self, String> {
        let weight = weights.get(&format!("{name}.weight"), &[size])?;
        Ok(Self {
            weight,
            weight_offset,
            eps,
        })
    }

    /// The norm of every run of the weight's size in x.
    ///
    /// # Errors
    /// The error of the operation.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor, Error> {
        tensor::rms_norm(x, &self.weight, self.eps, self.weight_offset)
    }
}
