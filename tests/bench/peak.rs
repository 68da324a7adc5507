//! The machine's limit of matrix products, read beside what is compared with it.

use tenon_tensor::Device;

/// Readings, of which the best counts: on a shared machine others only slow down.
const READINGS: usize = 20;

/// Floating-point operations a second of f32 multiply-adds in registers, all threads together.
pub fn f32_flops(device: &Device) -> f64 {
    let readings = (0..READINGS).map(|_| device.measure_f32_flops());
    readings.fold(0.0, f64::max)
}
