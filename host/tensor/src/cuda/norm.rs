//! Layer norm, RMS norm and L2 normalisation over the last dimension.

use super::launch::{Argument, Grid, arguments};
use super::operand::{CHUNK, OnCuda, on_device};
use crate::error::Result;
use crate::tensor::Tensor;

/// Threads of a block, and its shared memory.
const THREADS: usize = 128;
const SHARED_BYTES: u32 = 32;

/// Threads that share a run, as the kernels count them.
fn lanes_of(width: usize) -> usize {
    const WARP: usize = 32;
    let chunks = width.div_ceil(CHUNK).next_power_of_two();
    (chunks / 2).clamp(1, WARP).max((chunks / 4).min(THREADS))
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
        self.launch_norm(OP, &name, threads, &mut arguments)?;
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
        self.launch_norm(OP, &name, threads, &mut arguments)?;
        Ok(on_device(out, shape))
    }

    fn launch_norm(
        &self,
        op: &str,
        name: &str,
        threads: usize,
        arguments: &mut [Argument],
    ) -> Result<()> {
        let blocks = self.blocks_of(op, threads, THREADS)?;
        let grid = Grid {
            blocks: [blocks, 1, 1],
            threads: THREADS as u32,
            shared_bytes: SHARED_BYTES,
        };
        self.launch(op, name, grid, arguments)
    }

    pub fn l2_normalize(&self, x: &Tensor, eps: f32) -> Result<Tensor> {
        const OP: &str = "l2-normalize";
        let shape = *x.checked_shape();
        let x = self.rows(OP, x)?;
        let out = self.allocate(OP, x.dtype, &shape)?;
        let mut arguments = arguments![x.address, x.stride, out.address(), x.rows, x.width, eps];
        let threads = shape.rows() * lanes_of(shape.width());
        let name = format!("l2_normalize_{}", x.dtype);
        self.launch_norm(OP, &name, threads, &mut arguments)?;
        Ok(on_device(out, shape))
    }
}
