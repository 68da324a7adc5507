//! Rotary position embeddings.

use super::launch::arguments;
use super::operand::{OnCuda, THREADS, on_device};
use super::recording::Source;
use crate::Indices;
use crate::dtype::DType;
use crate::error::Result;
use crate::shape::Shape;
use crate::tensor::Tensor;

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
    ) -> Result<Tensor> {
        const OP: &str = "rotary";
        let shape = *x.checked_shape();
        let x = self.rows(OP, x)?;
        let table = self.rows_as(OP, table, DType::F32)?;
        let out = self.allocate(OP, x.dtype, &shape)?;
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
