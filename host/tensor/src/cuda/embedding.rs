//! Embedding gather.

use super::launch::arguments;
use super::operand::{CHUNK, OnCuda, THREADS, on_device};
use crate::Indices;
use crate::error::Result;
use crate::shape::Shape;
use crate::tensor::Tensor;

const OP: &str = "embedding";

impl OnCuda<'_> {
    pub fn embedding(
        &self,
        table: &Tensor,
        ids: &Indices,
        residual: Option<&Tensor>,
        shape: Shape,
    ) -> Result<Tensor> {
        let table = match table.is_contiguous() {
            true => self.rows(OP, table)?,
            false => self.rows(OP, &self.copied(OP, table)?)?,
        };
        let dtype = self.dtype;
        let residual = self.optional_rows(OP, residual, dtype)?;
        let ids = self.upload_list(OP, ids, Some(table.rows as u32))?;
        let out = self.allocate(OP, dtype, &shape)?;
        let mut arguments = arguments![
            table.address,
            table.rows,
            ids.address(),
            residual.address(),
            residual.stride(),
            out.address(),
            shape.rows() as i32,
            table.width,
            self.device.invalid(),
        ];
        let name = format!("embedding_{}_{dtype}", table.dtype);
        let threads = shape.rows() * shape.width().div_ceil(CHUNK);
        self.launch_threads(OP, &name, threads, THREADS, &mut arguments)?;
        Ok(on_device(out, shape))
    }
}
