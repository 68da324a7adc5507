//! Functions of one or two elements.
#![allow(unsafe_code)]

use super::device::ELEMENT_COST;
use super::level::Kernel;
use super::math;
use super::simd::Simd;
use super::{CpuDevice, Rows};
use crate::ops::Activation;

/// a + b into `out`.
pub(crate) fn add(device: &CpuDevice, a: Rows, b: Rows, out: &mut [f32]) {
    zip(device, a, b, out, |a, b| a + b);
}

/// a * b into `out`.
pub(crate) fn mul(device: &CpuDevice, a: Rows, b: Rows, out: &mut [f32]) {
    zip(device, a, b, out, |a, b| a * b);
}

/// x * factor into `out`.
pub(crate) fn scale(device: &CpuDevice, x: Rows, factor: f32, out: &mut [f32]) {
    zip(device, x, x, out, move |x, _| x * factor);
}

/// These functions are a few instructions and bound by memory: the compiler's own vectors
/// are wide enough.
fn zip(
    device: &CpuDevice,
    a: Rows,
    b: Rows,
    out: &mut [f32],
    f: impl Fn(f32, f32) -> f32 + Copy + Sync,
) {
    assert!(out.len() == a.rows * a.width && a.rows == b.rows && a.width == b.width);
    device.parallel_rows(out, a.width, a.width * ELEMENT_COST, |first, out| {
        for (index, out) in out.chunks_exact_mut(a.width).enumerate() {
            let (a, b) = (a.row(first + index), b.row(first + index));
            for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
                *out = f(a, b);
            }
        }
    });
}

/// The activation of every element, into `out`.
pub(crate) fn activate(device: &CpuDevice, x: Rows, activation: Activation, out: &mut [f32]) {
    assert!(out.len() == x.rows * x.width);
    device.parallel_rows(out, x.width, 2 * x.width * ELEMENT_COST, |first, out| {
        // SAFETY: the device's level is available; the kernel asks for nothing else.
        unsafe {
            device.level().run(ActivateRows {
                x,
                width: x.width,
                activation,
                first,
                out,
            })
        };
    });
}

/// activation(left) * right of rows with both side by side, each `half` wide, into `out`.
pub(crate) fn gated(
    device: &CpuDevice,
    x: Rows,
    half: usize,
    activation: Activation,
    out: &mut [f32],
) {
    assert!(x.width == 2 * half && out.len() == x.rows * half);
    device.parallel_rows(out, half, 3 * half * ELEMENT_COST, |first, out| {
        // SAFETY: the device's level is available; the kernel asks for nothing else.
        unsafe {
            device.level().run(ActivateRows {
                x,
                width: half,
                activation,
                first,
                out: &mut *out,
            })
        };
        for (index, out) in out.chunks_exact_mut(half).enumerate() {
            let right = &x.row(first + index)[half..];
            for (out, right) in out.iter_mut().zip(right) {
                *out *= right;
            }
        }
    });
}

/// The activation of the first elements of rows, as many as `width`.
struct ActivateRows<'a> {
    x: Rows<'a>,
    width: usize,
    activation: Activation,
    first: usize,
    out: &'a mut [f32],
}

impl Kernel for ActivateRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for (index, out) in self.out.chunks_exact_mut(self.width).enumerate() {
            out.copy_from_slice(&self.x.row(self.first + index)[..self.width]);
            let mut vectors = out.chunks_exact_mut(S::LANES);
            for vector in &mut vectors {
                // SAFETY: the chunk is one vector.
                unsafe {
                    let v = S::load(vector.as_ptr());
                    S::store(vector.as_mut_ptr(), math::activate::<S>(self.activation, v));
                }
            }
            let rest = vectors.into_remainder();
            let mut padded = [0.0f32; 16];
            padded[..rest.len()].copy_from_slice(rest);
            // SAFETY: no level has more than 16 lanes.
            unsafe {
                let v = math::activate::<S>(self.activation, S::load(padded.as_ptr()));
                S::store(padded.as_mut_ptr(), v);
            }
            rest.copy_from_slice(&padded[..rest.len()]);
        }
    }
}
