//! Layer norm, RMS norm and L2 normalisation over the last dimension.

use super::launch::arguments;
use super::operand::{CHUNK, OnCuda, on_device};
use crate::error::Result;
use crate::tensor::Tensor;

/// Threads of a block.
const THREADS: usize = 128;

/// Threads that share a run: as many as have a chunk of it each, up to a warp.
fn lanes_of(width: usize) -> usize {
    width.div_ceil(CHUNK).next_power_of_two().min(32)
}

impl OnCuda<'_> {
    pub fn layer_norm(
        &self,
        x: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f32,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        const OP: &str = "layer-norm";
        let shape = *x.checked_shape();
        let x = self.rows(OP, x)?;
        let residual = self.optional_rows(OP, residual, x.dtype)?;
        let (weight, bias) = (self.optional_f32(OP, weight)?, self.optional_f32(OP, bias)?);
        let out = self.allocate(OP, x.dtype, &shape)?;
        let mut arguments = arguments![
            x.address,
            x.stride,
            residual.address(),
            residual.stride(),
            weight.address(),
            bias.address(),
            out.address(),
            x.rows,
            x.width,
            eps,
        ];
        let threads = shape.rows() * lanes_of(shape.width());
        let name = format!("layer_norm_{}", x.dtype);
        self.launch_threads(OP, &name, threads, THREADS, &mut arguments)?;
        Ok(on_device(out, shape))
    }

    pub fn rms_norm(
        &self,
        x: &Tensor,
        weight: &Tensor,
        run: usize,
        eps: f32,
        weight_offset: f32,
    ) -> Result<Tensor> {
        const OP: &str = "rms-norm";
        let shape = *x.checked_shape();
        let x = self.rows(OP, x)?;
        let weight = self.optional_f32(OP, Some(weight))?;
        let out = self.allocate(OP, x.dtype, &shape)?;
        let runs = shape.width() / run;
        let mut arguments = arguments![
            x.address,
            x.stride,
            weight.address(),
            weight_offset,
            out.address(),
            x.rows,
            runs as i32,
            run as i32,
            eps,
        ];
        let threads = shape.rows() * runs * lanes_of(run);
        let name = format!("rms_norm_{}", x.dtype);
        self.launch_threads(OP, &name, threads, THREADS, &mut arguments)?;
        Ok(on_device(out, shape))
    }

    pub fn l2_normalize(&self, x: &Tensor, eps: f32) -> Result<Tensor> {
        const OP: &str = "l2-normalize";
        let shape = *x.checked_shape();
        let x = self.rows(OP, x)?;
        let out = self.allocate(OP, x.dtype, &shape)?;
        let mut arguments = arguments![x.address, x.stride, out.address(), x.rows, x.width, eps];
        let threads = shape.rows() * lanes_of(shape.width());
        let name = format!("l2_normalize_{}", x.dtype);
        self.launch_threads(OP, &name, threads, THREADS, &mut arguments)?;
        Ok(on_device(out, shape))
    }
}
