//! Layer norm, RMS norm and L2 normalisation of rows.
#![allow(unsafe_code)]

use super::device::ELEMENT_COST;
use super::level::Kernel;
use super::simd::Simd;
use super::{CpuDevice, Rows};

/// The operands of a layer norm.
#[derive(Clone, Copy)]
pub(crate) struct LayerNorm<'a> {
    pub x: Rows<'a>,
    pub residual: Option<Rows<'a>>,
    pub weight: Option<&'a [f32]>,
    pub bias: Option<&'a [f32]>,
    pub eps: f32,
}

/// The operands of an RMS norm.
#[derive(Clone, Copy)]
pub(crate) struct RmsNorm<'a> {
    pub x: Rows<'a>,
    pub weight: &'a [f32],
    pub weight_offset: f32,
    pub eps: f32,
}

/// (v - mean v) / sqrt(var v + eps) * weight + bias, v = x + residual, into `out`.
pub(crate) fn layer_norm(device: &CpuDevice, op: LayerNorm, out: &mut [f32]) {
    let width = op.x.width;
    assert!(out.len() == op.x.rows * width);
    assert!(
        op.residual
            .is_none_or(|rows| rows.rows == op.x.rows && rows.width == width)
    );
    assert!(op.weight.is_none_or(|w| w.len() == width) && op.bias.is_none_or(|b| b.len() == width));
    device.parallel_rows(out, width, width * ELEMENT_COST, |first, out| {
        // SAFETY: the device's level is available; the kernel asks for nothing else.
        unsafe { device.level().run(LayerNormRows { op, first, out }) };
    });
}

/// x / sqrt(mean x^2 + eps) * (weight + weight_offset) of each run of `weight`'s length, into
/// `out`.
pub(crate) fn rms_norm(device: &CpuDevice, op: RmsNorm, out: &mut [f32]) {
    let width = op.x.width;
    assert!(out.len() == op.x.rows * width && width.is_multiple_of(op.weight.len()));
    device.parallel_rows(out, width, width * ELEMENT_COST, |first, out| {
        rms_norm_rows(device, op, first, out);
    });
}

/// The part of [`rms_norm`] that is as many rows as `out`, from `first` on, on this thread.
pub(super) fn rms_norm_rows(device: &CpuDevice, op: RmsNorm, first: usize, out: &mut [f32]) {
    // SAFETY: as in `layer_norm`.
    unsafe { device.level().run(RmsNormRows { op, first, out }) };
}

/// x / max(||x||, eps), into `out`.
pub(crate) fn l2_normalize(device: &CpuDevice, x: Rows, eps: f32, out: &mut [f32]) {
    let width = x.width;
    assert!(out.len() == x.rows * width);
    device.parallel_rows(out, width, width * ELEMENT_COST, |first, out| {
        // SAFETY: as in `layer_norm`.
        unsafe { device.level().run(UnitRows { x, eps, first, out }) };
    });
}

/// The sum of (v - centre)^2 over `v`, or of v where `square` is none. Four vectors of
/// partial sums, then the tail in order: the same for a row of this width always.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
unsafe fn sum<S: Simd>(row: &[f32], centre: Option<f32>) -> f32 {
    const SUMS: usize = 4;
    // SAFETY: whole vectors of `row` are loaded.
    unsafe {
        let shift = S::splat(centre.unwrap_or(0.0));
        let mut sums = [S::splat(0.0); SUMS];
        let vectors = row.len() / S::LANES;
        // In turns, so that none of the sums waits for itself; all of them stay in registers.
        for first in (0..vectors).step_by(SUMS) {
            for (index, sum) in sums.iter_mut().enumerate() {
                if first + index == vectors {
                    break;
                }
                let v = S::load(row.as_ptr().add((first + index) * S::LANES));
                if centre.is_some() {
                    let v = S::sub(v, shift);
                    *sum = S::fma(v, v, *sum);
                } else {
                    *sum = S::add(*sum, v);
                }
            }
        }
        let mut total = S::sum(S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3])));
        for &x in &row[vectors * S::LANES..] {
            total += match centre {
                Some(centre) => (x - centre) * (x - centre),
                None => x,
            };
        }
        total
    }
}

struct LayerNormRows<'a> {
    op: LayerNorm<'a>,
    first: usize,
    out: &'a mut [f32],
}

impl Kernel for LayerNormRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let LayerNorm {
            x,
            residual,
            weight,
            bias,
            eps,
        } = self.op;
        let width = x.width;
        for (index, out) in self.out.chunks_exact_mut(width).enumerate() {
            let row = self.first + index;
            match residual {
                Some(residual) => {
                    for ((out, x), r) in out.iter_mut().zip(x.row(row)).zip(residual.row(row)) {
                        *out = x + r;
                    }
                }
                None => out.copy_from_slice(x.row(row)),
            }
            // SAFETY: the caller's promise.
            let (mean, variance) = unsafe {
                let mean = sum::<S>(out, None) / width as f32;
                (mean, sum::<S>(out, Some(mean)) / width as f32)
            };
            let scale = 1.0 / (variance + eps).sqrt();
            match (weight, bias) {
                (Some(weight), Some(bias)) => {
                    for ((out, w), b) in out.iter_mut().zip(weight).zip(bias) {
                        *out = (*out - mean) * scale * w + b;
                    }
                }
                (Some(weight), None) => {
                    for (out, w) in out.iter_mut().zip(weight) {
                        *out = (*out - mean) * scale * w;
                    }
                }
                (None, bias) => {
                    for (column, out) in out.iter_mut().enumerate() {
                        *out = (*out - mean) * scale + bias.map_or(0.0, |b| b[column]);
                    }
                }
            }
        }
    }
}

struct RmsNormRows<'a> {
    op: RmsNorm<'a>,
    first: usize,
    out: &'a mut [f32],
}

impl Kernel for RmsNormRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let RmsNorm {
            x,
            weight,
            weight_offset,
            eps,
        } = self.op;
        for (index, out) in self.out.chunks_exact_mut(x.width).enumerate() {
            let row = x.row(self.first + index).chunks_exact(weight.len());
            for (out, run) in out.chunks_exact_mut(weight.len()).zip(row) {
                // SAFETY: the caller's promise.
                let mean_square = unsafe { sum::<S>(run, Some(0.0)) } / weight.len() as f32;
                let scale = 1.0 / (mean_square + eps).sqrt();
                for ((out, x), w) in out.iter_mut().zip(run).zip(weight) {
                    *out = x * scale * (w + weight_offset);
                }
            }
        }
    }
}

struct UnitRows<'a> {
    x: Rows<'a>,
    eps: f32,
    first: usize,
    out: &'a mut [f32],
}

impl Kernel for UnitRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for (index, out) in self.out.chunks_exact_mut(self.x.width).enumerate() {
            let row = self.x.row(self.first + index);
            // SAFETY: the caller's promise.
            let norm = unsafe { sum::<S>(row, Some(0.0)) }.sqrt();
            // Not f32::max, which would turn a NaN into eps.
            let divisor = if norm < self.eps { self.eps } else { norm };
            for (out, x) in out.iter_mut().zip(row) {
                *out = x / divisor;
            }
        }
    }
}
