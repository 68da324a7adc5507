//! One row a sequence.

use super::launch::{Grid, arguments};
use super::operand::{CHUNK, OnCuda, on_device};
use crate::SequenceLayout;
use crate::dtype::DType;
use crate::error::Result;
use crate::ops::PoolMode;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Chunks of a block, and threads that share one.
const COLUMNS: usize = 16;
const LANES: usize = 16;

/// The number that the kernel has for a mode.
fn number_of(mode: PoolMode) -> i32 {
    match mode {
        PoolMode::First => 0,
        PoolMode::Last => 1,
        PoolMode::Mean => 2,
        PoolMode::MeanSqrtLen => 3,
        PoolMode::WeightedMean => 4,
        PoolMode::Max => 5,
    }
}

impl OnCuda<'_> {
    /// The result is f32, whatever x is.
    pub fn segment_pool(
        &self,
        x: &Tensor,
        layout: &SequenceLayout,
        mode: PoolMode,
        shape: Shape,
    ) -> Result<Tensor> {
        const OP: &str = "segment-pool";
        let x = self.rows(OP, x)?;
        let spans = layout.on_device().spans(self, layout)?;
        let out = self.allocate(OP, DType::F32, &shape)?;
        let mut arguments = arguments![
            x.address,
            x.stride,
            spans.address(),
            number_of(mode),
            out.address(),
            x.width,
        ];
        let columns = shape.width().div_ceil(CHUNK).div_ceil(COLUMNS);
        let grid = Grid {
            blocks: [layout.sequences() as u32, columns as u32, 1],
            threads: (COLUMNS * LANES) as u32,
            shared_bytes: (COLUMNS * LANES * CHUNK * 4) as u32,
        };
        let name = format!("segment_pool_{}", x.dtype);
        self.launch(OP, &name, grid, &mut arguments)?;
        Ok(on_device(out, shape))
    }
}
