//! Conversions between stored bytes and f32.

use half::{bf16, f16};

use crate::dtype::DType;

/// The bits of the nearest bfloat16; ties to even, NaN stays NaN.
#[inline(always)]
pub(crate) fn bf16_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x40;
    if x.is_nan() { quiet } else { rounded }
}

/// Little-endian elements of `dtype` as f32; `out` has as many elements as `bytes`.
pub(crate) fn read_f32(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        DType::F32 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        DType::F16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f16::from_le_bytes(*bytes).to_f32();
            }
        }
        DType::BF16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_bits(u32::from(bf16::from_le_bytes(*bytes).to_bits()) << 16);
            }
        }
        // No tensor of a checkpoint, and none of a device, is of it.
        DType::FP8 => {}
        DType::U8 => {
            for (out, &byte) in out.iter_mut().zip(bytes) {
                *out = f32::from(byte);
            }
        }
    }
}

/// f32 elements as little-endian bytes of a floating-point `dtype`, rounded to nearest; `out` has
/// as many bytes as they take.
pub(crate) fn write_f32(dtype: DType, from: &[f32], out: &mut [u8]) {
    match dtype {
        DType::F32 => {
            for (x, out) in from.iter().zip(out.as_chunks_mut().0) {
                *out = x.to_le_bytes();
            }
        }
        DType::F16 => {
            for (&x, out) in from.iter().zip(out.as_chunks_mut().0) {
                *out = f16::from_f32(x).to_le_bytes();
            }
        }
        DType::BF16 => {
            for (&x, out) in from.iter().zip(out.as_chunks_mut().0) {
                *out = (bf16_bits(x) as u16).to_le_bytes();
            }
        }
        DType::FP8 | DType::U8 => {}
    }
}
