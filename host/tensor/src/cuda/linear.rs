//! Linear layers.

use super::cublas::{Matrix, Product};
use super::elementwise::number_of;
use super::launch::arguments;
use super::operand::{OnCuda, Rows, on_device};
use crate::error::Result;
use crate::ops::Activation;
use crate::shape::Shape;
use crate::tensor::Tensor;

const OP: &str = "linear";

fn matrix(rows: &Rows) -> Matrix {
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
        let weight = self.rows(OP, weight)?;
        let dtype = self.rows(OP, x)?.dtype;
        let x = self.rows_as(OP, x, weight.dtype)?;
        let residual = residual
            .map(|residual| self.rows_as(OP, residual, dtype))
            .transpose()?;
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
                bias: added.as_ref().map(|rows| rows.address),
                residual: residual.as_ref().filter(|_| plain).map(matrix),
                out: matrix(&out_rows),
            },
        )?;
        if plain {
            return Ok(out);
        }
        let bias = self.optional_f32(OP, bias)?;
        let mut arguments = arguments![
            out_rows.address,
            out_rows.stride,
            bias.address(),
            number_of(activation),
            residual.as_ref().map_or(0, |rows| rows.address),
            residual.as_ref().map_or(0, |rows| rows.stride),
            out_rows.address,
            out_rows.rows,
            out_rows.width,
        ];
        self.launch_chunks(OP, &format!("finish_{dtype}"), &out_rows, &mut arguments)?;
        Ok(out)
    }
}
