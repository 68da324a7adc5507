//! Rotary position embeddings.

use super::launch::arguments;
use super::operand::{CHUNK, OnCuda, THREADS, on_device};
use super::recording::Source;
use crate::Indices;
use crate::dtype::DType;
use crate::error::Result;
use crate::ops::HeadNorms;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// The most threads that share a head.
const WARP: usize = 32;

impl OnCuda<'_> {
    /// The table is f32, whatever activations are.
    pub fn rotary_table(
        &self,
        positions: &Indices,
        inverse_frequencies: &[f32],
        factor: f32,
        shape: Shape,
    ) -> Result<Tensor> {
        const OP: &str = "rotary-table";
        let n = inverse_frequencies.len();
        let positions = self.upload_list(OP, positions, None)?;
        let frequencies = inverse_frequencies
            .iter()
            .map(|frequency| frequency.to_bits());
        let frequencies = self.upload_words(OP, Source::Constant, frequencies)?;
        let out = self.allocate(OP, DType::F32, &shape)?;
        let mut arguments = arguments![
            positions.address(),
            frequencies.address(),
            factor,
            out.address(),
            shape.rows() as i32,
            n as i32,
        ];
        self.launch_threads(
            OP,
            "rotary_table",
            shape.rows() * n,
            THREADS,
            &mut arguments,
        )?;
        Ok(on_device(out, shape))
    }

    pub fn rotary(
        &self,
        x: &Tensor,
        table: &Tensor,
        heads: usize,
        head_dim: usize,
        norms: Option<&HeadNorms<'_>>,
    ) -> Result<Tensor> {
        const OP: &str = "rotary";
        let shape = *x.checked_shape();
        let x = self.rows(OP, x)?;
        let table = self.rows_as(OP, table, DType::F32)?;
        let out = self.allocate(OP, x.dtype, &shape)?;
        if let Some(norms) = norms {
            let query = self.optional_f32(OP, Some(norms.query))?;
            let key = self.optional_f32(OP, Some(norms.key))?;
            let lanes = head_dim.div_ceil(CHUNK).next_power_of_two().min(WARP);
            let mut arguments = arguments![
                x.address,
                x.stride,
                table.address,
                table.stride,
                query.address(),
                key.address(),
                out.address(),
                x.rows,
                x.width,
                table.width / 2,
                heads as i32,
                norms.query_heads as i32,
                head_dim as i32,
                lanes as i32,
                norms.eps,
                norms.weight_offset,
            ];
            let threads = shape.rows() * shape.width().div_ceil(head_dim) * lanes;
            let name = format!("normed_rotary_{}", x.dtype);
            self.launch_threads(OP, &name, threads, THREADS, &mut arguments)?;
            return Ok(on_device(out, shape));
        }
        let mut arguments = arguments![
            x.address,
            x.stride,
            table.address,
            table.stride,
            out.address(),
            x.rows,
            x.width,
            table.width / 2,
            heads as i32,
            head_dim as i32,
        ];
        self.launch_chunks(OP, &format!("rotary_{}", x.dtype), &x, &mut arguments)?;
        Ok(on_device(out, shape))
    }
}
