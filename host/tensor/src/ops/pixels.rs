//! From pixels to numbers.

use super::product;
use crate::context::On;
use crate::cpu;
use crate::error::{Result, bail};
use crate::shape::Shape;
use crate::{Context, Patches, Tensor};

/// The most frames of a patch.
const MAX_FRAMES: usize = 16;

/// How pixels become numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PixelOptions {
    /// How often a patch's pixels are repeated as frames of a video.
    pub frames: usize,
    /// Taken from red, green and blue, which are 0 to 1.
    pub mean: [f32; 3],
    /// What they are divided by after that.
    pub deviation: [f32; 3],
}

/// (value / 255 - mean) / deviation of each patch's pixels, by channel, frame, line and
/// pixel: `[rows, 3 * frames * size * size]`. Rows that are no patch are 0.
///
/// # Errors
/// As for all [operations](super).
pub fn pixels(ctx: &Context, patches: &Patches, options: &PixelOptions) -> Result<Tensor> {
    const OP: &str = "pixels";
    let PixelOptions {
        frames,
        mean,
        deviation,
    } = *options;
    if !(1..=MAX_FRAMES).contains(&frames) {
        bail!(
            InvalidArgument,
            "{OP}: {frames} frames, not in 1..={MAX_FRAMES}"
        );
    }
    let sound = mean.iter().all(|x| x.is_finite()) && deviation.iter().all(|x| x.is_normal());
    if !sound {
        bail!(
            InvalidArgument,
            "{OP}: mean {mean:?} and deviation {deviation:?} are not finite, or divide by 0"
        );
    }
    let size = patches.size();
    let shape = Shape::new(OP, &[patches.rows(), 3 * frames * size * size])?;
    ctx.charge(OP, product(&[shape.elements()]))?;
    match ctx.on() {
        On::Cpu(cpu) => {
            let mut out = cpu.allocate(OP, &shape)?;
            cpu::pixels(cpu.device, patches, options, out.as_mut_slice());
            Ok(Tensor::from_buffer(out, shape))
        }
        On::Cuda(cuda) => cuda.pixels(patches, options, shape),
    }
}
