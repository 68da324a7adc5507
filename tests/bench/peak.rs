//! The machine's limit of matrix products, read beside what is compared with it.

use tenon_tensor::Device;

/// Readings at a time, of some 10 ms each.
const READINGS: u32 = 20;

/// Floating-point operations a second of f32 multiply-adds in registers, all threads together:
/// their mean, as that of the load that it is compared with, since a shared machine gives now more
/// and now less to both.
pub fn f32_flops(device: &Device) -> f64 {
    let readings = (0..READINGS).filter_map(|_| device.measure_f32_flops());
    readings.sum::<f64>() / f64::from(READINGS)
}
