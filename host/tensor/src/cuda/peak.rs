//! The limit of matrix products, as the library computes them.

use std::sync::Arc;
use std::time::Instant;

use super::cublas::{Matrix, Product};
use super::{CudaDevice, DeviceBuffer};
use crate::convert::write_f32;
use crate::dtype::DType;
use crate::error::Result;

const OP: &str = "peak";

/// Rows and columns of the matrices: large enough that nothing but the products counts.
const SIDE: usize = 8192;

/// Different numbers in a matrix, which repeats them: making as many as it has takes longer than
/// all that is measured.
const RANDOM: usize = 1 << 20;

/// Products that are timed together.
const PRODUCTS: u32 = 20;

/// Floating-point operations a second of products in `dtype`, after some to warm up. On zeros a
/// device draws less power and is faster than it can be on numbers, so these are random.
pub(crate) fn product_flops(device: &Arc<CudaDevice>, dtype: DType) -> Result<f64> {
    let matrix = || -> Result<DeviceBuffer> {
        let mut bytes = vec![0; RANDOM * dtype.size()];
        write_f32(dtype, &random(RANDOM), &mut bytes);
        let bytes = bytes.repeat(SIDE * SIDE / RANDOM);
        let buffer = DeviceBuffer::new(OP, device, None, dtype, SIDE * SIDE)?;
        buffer.write(OP, 0, &bytes)?;
        Ok(buffer)
    };
    let (x, weight, out) = (matrix()?, matrix()?, matrix()?);
    let of = |buffer: &DeviceBuffer| Matrix {
        address: buffer.address(),
        stride: SIDE as u64,
        dtype,
    };
    let side = SIDE as u64;
    let product = Product {
        m: side,
        n: side,
        k: side,
        x: of(&x),
        weight: of(&weight),
        scales: None,
        bias: None,
        residual: None,
        out: of(&out),
    };
    let run = || {
        for _ in 0..PRODUCTS {
            device.matmul().multiply_as_guessed(OP, &product)?;
        }
        device.stream().synchronize(OP)
    };
    run()?;
    let started = Instant::now();
    run()?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(2.0 * (SIDE as f64).powi(3) * f64::from(PRODUCTS) / seconds)
}

/// Numbers between -1 and 1 (xorshift).
fn random(count: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}
