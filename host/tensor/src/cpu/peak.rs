//! The limit of products: multiply-adds in registers, with nothing to load or store.
#![allow(unsafe_code)]

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use super::CpuDevice;
use super::level::Kernel;
use super::simd::Simd;

/// Sums that do not wait for each other: more than a multiply-add takes cycles, for each of two
/// units.
const CHAINS: usize = 12;
/// Steps of one item, some 50 us.
const STEPS: usize = 20_000;
/// Items of each thread.
const ITEMS: usize = 200;

struct MultiplyAdds;

impl Kernel for MultiplyAdds {
    /// How many floating-point operations were done.
    type Output = usize;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> usize {
        // SAFETY: the caller's promise; the primitives that are used ask for no memory.
        unsafe {
            let (a, b) = (black_box(S::splat(0.5)), black_box(S::splat(0.25)));
            let mut sums = [S::splat(1.0); CHAINS];
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = S::fma(*sum, a, b);
                }
            }
            black_box(sums);
        }
        2 * STEPS * CHAINS * S::LANES
    }
}

/// Floating-point operations a second of f32 multiply-adds on all threads, measured for some 10
/// ms.
pub(crate) fn f32_flops(device: &CpuDevice) -> f64 {
    let items = ITEMS * device.threads();
    let done = AtomicUsize::new(0);
    let started = Instant::now();
    device.parallel(items, usize::MAX, |_, _| {
        // SAFETY: the device's level is available; the kernel has no fields.
        let flops = unsafe { device.level().run(MultiplyAdds) };
        done.fetch_add(flops, Relaxed);
    });
    done.into_inner() as f64 / started.elapsed().as_secs_f64()
}
