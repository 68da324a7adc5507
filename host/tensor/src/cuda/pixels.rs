//! From pixels to numbers.

use super::launch::{Argument, arguments};
use super::operand::{CHUNK, OnCuda, THREADS, on_device};
use crate::Patches;
use crate::error::Result;
use crate::image::PatchRow;
use crate::ops::PixelOptions;
use crate::shape::Shape;
use crate::tensor::Tensor;

const OP: &str = "pixels";

/// The kernel's `Normalisation`: mean and deviation of red, green and blue.
fn normalisation(options: &PixelOptions) -> Argument {
    let numbers = [options.mean, options.deviation].concat();
    let pairs = numbers.as_chunks().0.iter();
    let word = |&[low, high]: &[f32; 2]| u64::from(low.to_bits()) | u64::from(high.to_bits()) << 32;
    Argument::Words(pairs.map(word).collect())
}

impl OnCuda<'_> {
    pub fn pixels(
        &self,
        patches: &Patches,
        options: &PixelOptions,
        shape: Shape,
    ) -> Result<Tensor> {
        let mut bytes = Vec::new();
        let mut starts = Vec::new();
        for image in patches.images() {
            starts.push(bytes.len());
            bytes.extend_from_slice(image.bytes());
        }
        // The kernel's `PatchSource`: where a patch begins, and the bytes of a line.
        let mut sources = Vec::with_capacity(patches.rows() * 16);
        for row in 0..patches.rows() {
            let (offset, line) = match patches.row(row) {
                PatchRow::Leading => (-1, 0),
                PatchRow::Patch { index, image, x, y } => {
                    let line = image.width() * 3;
                    ((starts[index] + y * line + x * 3) as i64, line as i64)
                }
            };
            sources.extend_from_slice(&offset.to_ne_bytes());
            sources.extend_from_slice(&line.to_ne_bytes());
        }
        let (bytes, sources) = (
            self.upload_bytes(OP, &bytes)?,
            self.upload_bytes(OP, &sources)?,
        );
        let out = self.allocate(OP, self.dtype, &shape)?;
        let mut arguments = arguments![
            bytes.address(),
            sources.address(),
            normalisation(options),
            out.address(),
            patches.rows() as i32,
            options.frames as i32,
            patches.size() as i32,
        ];
        let threads = shape.rows() * shape.width().div_ceil(CHUNK);
        let name = format!("pixels_{}", self.dtype);
        self.launch_threads(OP, &name, threads, THREADS, &mut arguments)?;
        Ok(on_device(out, shape))
    }
}
