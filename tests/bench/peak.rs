//! The machine's limit of matrix products, read beside what is compared with it.

use anyhow::Result;
use tenon_tensor::{DType, Device};

/// Readings at a time.
const READINGS: u32 = 20;

/// Floating-point operations a second of products in `dtype`: the mean of some readings, as that
/// of the load that it is compared with, since a shared machine gives now more and now less to
/// both.
pub fn flops(device: &Device, dtype: DType) -> Result<f64> {
    let readings = (0..READINGS).map(|_| device.measure_flops(dtype));
    Ok(readings.sum::<tenon_tensor::Result<f64>>()? / f64::from(READINGS))
}
