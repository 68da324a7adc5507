//! Linear layers.

use super::cublas::{Matrix, Product};
use super::elementwise::number_of;
use super::fp8::Operands;
use super::launch::arguments;
use super::operand::{OnCuda, Rows, on_device};
use crate::dtype::DType;
use crate::error::Result;
use crate::ops::Activation;
use crate::shape::Shape;
use crate::tensor::Tensor;

const OP: &str = "linear";

/// Rows as the library reads them.
pub(super) fn matrix(rows: &Rows) -> Matrix {
    Matrix {
        address: rows.address,
        stride: rows.stride as u64,
        dtype: rows.dtype,
    }
}

impl OnCuda<'_> {
    /// The product is in the weight's type, its result in x's.
    pub fn linear(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        activation: Activation,
        residual: Option<&Tensor>,
        shape: Shape,
    ) -> Result<Tensor> {
        let dtype = self.rows(OP, x)?.dtype;
        let residual = residual
            .map(|residual| self.rows_as(OP, residual, dtype))
            .transpose()?;
        if let Some(weight) = weight.weight().filter(|_| dtype == DType::BF16)
            && let Some(quantized) = weight.quantized(self.device)?
        {
            let operands = Operands {
                x: &self.rows(OP, x)?,
                bias,
                activation,
                residual: residual.as_ref(),
            };
            if let Some(out) = self.linear_fp8(&operands, quantized, shape)? {
                return Ok(out);
            }
        }
        let weight = self.rows(OP, weight)?;
        let x = self.rows_as(OP, x, weight.dtype)?;
        let out = on_device(self.allocate(OP, dtype, &shape)?, shape);
        let out_rows = self.rows(OP, &out)?;
        // A bias and a residual that no activation comes between are added by the product.
        let plain = activation == Activation::Identity;
        let added = bias.filter(|_| plain);
        let added = added.map(|bias| self.vector(OP, bias, dtype)).transpose()?;
        self.device.multiply(
            self.queue(),
            OP,
            &Product {
                m: x.rows as u64,
                n: weight.rows as u64,
                k: x.width as u64,
                x: matrix(&x),
                weight: matrix(&weight),
                scales: None,
                bias: added.as_ref().map(|rows| rows.address),
                residual: residual.as_ref().filter(|_| plain).map(matrix),
                out: matrix(&out_rows),
            },
        )?;
        if !plain {
            self.finish(bias, activation, residual.as_ref(), &out_rows)?;
        }
        Ok(out)
    }

    /// What follows a product, in its place.
    pub(super) fn finish(
        &self,
        bias: Option<&Tensor>,
        activation: Activation,
        residual: Option<&Rows>,
        out: &Rows,
    ) -> Result<()> {
        let bias = self.optional_f32(OP, bias)?;
        let mut arguments = arguments![
            out.address,
            out.stride,
            bias.address(),
            number_of(activation),
            residual.map_or(0, |rows| rows.address),
            residual.map_or(0, |rows| rows.stride),
            out.address,
            out.rows,
            out.width,
        ];
        self.launch_chunks(OP, &format!("finish_{}", out.dtype), out, &mut arguments)
    }
}
