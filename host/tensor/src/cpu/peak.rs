//! The limit of products: multiply-adds in registers, with nothing to load or store.
#![allow(unsafe_code)]

use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use super::CpuDevice;
#[cfg(target_arch = "x86_64")]
use super::amx;
use super::level::Kernel;
use super::pack::Format;
use super::simd::Simd;
use super::tile::{DotBf16Product, F32Product, VectorProduct};
use crate::dtype::DType;

/// Sums that do not wait for each other: more than a multiply-add takes cycles, for each of two
/// units.
const CHAINS: usize = 12;
/// Steps of one item, some 50 us.
const STEPS: usize = 20_000;
/// Runs of products on the matrix unit of one item, some 50 us.
const RUNS: usize = 1_500;
/// Items of each thread.
const ITEMS: usize = 200;

/// Multiply-adds of `P`, of which a lane does `PAIRS` at a time.
struct MultiplyAdds<P, const PAIRS: usize>(PhantomData<P>);

impl<P: VectorProduct, const PAIRS: usize> Kernel for MultiplyAdds<P, PAIRS> {
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
                    *sum = P::multiply_add::<S>(a, b, *sum);
                }
            }
            black_box(sums);
        }
        2 * PAIRS * STEPS * CHAINS * S::LANES
    }
}

/// Floating-point operations a second of multiply-adds on all threads, measured for some 10 ms:
/// of pairs of bfloat16 where that is asked for and the processor has them, else of f32, which is
/// then what bfloat16 is multiplied in.
pub(crate) fn flops(device: &CpuDevice, dtype: DType) -> f64 {
    let items = ITEMS * device.threads();
    let done = AtomicUsize::new(0);
    let level = device.level();
    let started = Instant::now();
    device.parallel(items, usize::MAX, |_, _| {
        // SAFETY: the device's level is available; the kernels have no fields.
        let flops = unsafe {
            match Format::of(dtype, level) {
                Format::F32 | Format::WideBf16 => {
                    level.run(MultiplyAdds::<F32Product, 1>(PhantomData))
                }
                Format::DotBf16 => level.run(MultiplyAdds::<DotBf16Product, 2>(PhantomData)),
                #[cfg(target_arch = "x86_64")]
                Format::AmxBf16 => amx::products(RUNS),
                #[cfg(not(target_arch = "x86_64"))]
                Format::AmxBf16 => 0,
            }
        };
        done.fetch_add(flops, Relaxed);
    });
    done.into_inner() as f64 / started.elapsed().as_secs_f64()
}
