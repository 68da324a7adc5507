//! From pixels to numbers.

use super::CpuDevice;
use super::device::ELEMENT_COST;
use crate::image::{PatchRow, Patches};
use crate::ops::PixelOptions;

/// Normalised pixels of each patch, by channel, frame, line and pixel, into `out`.
pub(crate) fn pixels(
    device: &CpuDevice,
    patches: &Patches,
    options: &PixelOptions,
    out: &mut [f32],
) {
    let size = patches.size();
    let frame = size * size;
    let width = 3 * options.frames * frame;
    let values = [0, 1, 2].map(|channel| normalised(options, channel));
    device.parallel_rows(out, width, width * ELEMENT_COST, |first, out| {
        for (row, out) in (first..).zip(out.chunks_exact_mut(width)) {
            let PatchRow::Patch { image, x, y, .. } = patches.row(row) else {
                out.fill(0.0);
                continue;
            };
            let channels = out.chunks_exact_mut(options.frames * frame).enumerate();
            for (channel, frames) in channels {
                let (first, rest) = frames.split_at_mut(frame);
                for (line, out) in first.chunks_exact_mut(size).enumerate() {
                    let pixels = image.line(x, y + line, size).chunks_exact(3);
                    for (out, pixel) in out.iter_mut().zip(pixels) {
                        *out = values[channel][pixel[channel] as usize];
                    }
                }
                for frame in rest.chunks_exact_mut(frame) {
                    frame.copy_from_slice(first);
                }
            }
        }
    });
}

/// What each byte becomes. Rounded to f32 after each step, as in the reference.
fn normalised(options: &PixelOptions, channel: usize) -> [f32; 256] {
    let (mean, deviation) = (options.mean[channel], options.deviation[channel]);
    std::array::from_fn(|byte| ((byte as f64 / 255.0) as f32 - mean) / deviation)
}
