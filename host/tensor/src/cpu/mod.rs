//! The processor backend: kernels over plain slices, one file a family of operations.

#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod attention_pack;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod buffer;
mod device;
mod distance_bias;
mod elementwise;
mod embedding;
mod gemm;
mod layout;
mod level;
mod linear;
mod math;
mod memory;
mod norm;
mod operand;
mod pack;
mod peak;
mod pixels;
mod pooling;
mod portable;
mod rotary;
mod simd;
mod team;
mod tile;

pub(crate) use attention::{Attention, attention};
pub(crate) use buffer::Buffer;
pub(crate) use device::CpuDevice;
pub(crate) use elementwise::{activate, add, gated, mul, scale};
pub(crate) use embedding::{TableRow, embedding};
pub(crate) use layout::copy_strided;
pub use level::Level;
pub(crate) use linear::{Linear, linear};
pub(crate) use norm::{LayerNorm, RmsNorm, l2_normalize, layer_norm, rms_norm};
pub(crate) use operand::{OnCpu, optional_rows, optional_slice, read, read_strided, rows};
pub(crate) use pack::{Format, PackedWeight};
pub(crate) use peak::flops;
pub(crate) use pixels::pixels;
pub(crate) use pooling::segment_pool;
pub(crate) use rotary::{HeadNorms, rotary, rotary_table};

/// Rows of equal width that lie `stride` elements apart in a slice.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    data: &'a [f32],
    rows: usize,
    width: usize,
    stride: usize,
}

impl<'a> Rows<'a> {
    /// Rows from the beginning of `data`, which reaches at least to the end of the last.
    pub fn new(data: &'a [f32], rows: usize, width: usize, stride: usize) -> Self {
        assert!(rows > 0 && width > 0 && (rows == 1 || stride >= width));
        assert!(data.len() >= (rows - 1) * stride + width);
        Self {
            data,
            rows,
            width,
            stride,
        }
    }

    /// Row `index`.
    pub fn row(&self, index: usize) -> &'a [f32] {
        &self.data[index * self.stride..][..self.width]
    }
}
