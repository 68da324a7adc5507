//! The primitives in plain Rust, for processors without a level of their own.
#![allow(unsafe_code)]

use super::simd::Simd;

/// Four lanes: what every 64-bit target has registers for.
#[derive(Clone, Copy)]
pub(super) struct Portable;

type V = [f32; 4];

#[inline(always)]
fn map(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

#[inline(always)]
fn bits(v: V, f: impl Fn(u32) -> u32) -> V {
    v.map(|x| f32::from_bits(f(x.to_bits())))
}

// SAFETY of all functions: no instructions are needed beyond the target's; `load` and
// `store` are promised their four elements.
impl Simd for Portable {
    type V = V;
    const LANES: usize = 4;
    const TILE_ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> V {
        // SAFETY: four elements are promised; the cast asks for no alignment beyond f32's.
        unsafe { from.cast::<V>().read() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: V) {
        // SAFETY: as in `load`.
        unsafe { to.cast::<V>().write(v) }
    }
    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        map(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        map(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        map(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: V, b: V) -> V {
        map(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn max(a: V, b: V) -> V {
        map(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: V, b: V) -> V {
        map(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        // Two roundings: a fused one is a library call where the target has no instruction.
        map(map(a, b, |a, b| a * b), c, |ab, c| ab + c)
    }
    #[inline(always)]
    unsafe fn zero_below(v: V, x: V, bound: V) -> V {
        let keep = map(x, bound, |x, bound| if x < bound { 0.0 } else { 1.0 });
        map(v, keep, |v, keep| if keep == 0.0 { 0.0 } else { v })
    }
    #[inline(always)]
    unsafe fn pow2_of_low_bits(v: V) -> V {
        bits(v, |bits| (bits << 23).wrapping_add(0x3f80_0000))
    }
    #[inline(always)]
    unsafe fn low_bf16(v: V) -> V {
        bits(v, |bits| bits << 16)
    }
    #[inline(always)]
    unsafe fn high_bf16(v: V) -> V {
        bits(v, |bits| bits & 0xffff_0000)
    }
    #[inline(always)]
    unsafe fn sum(v: V) -> f32 {
        (v[0] + v[2]) + (v[1] + v[3])
    }
    #[inline(always)]
    unsafe fn max_lane(v: V) -> f32 {
        let max = |a, b| if a > b { a } else { b };
        max(max(v[0], v[2]), max(v[1], v[3]))
    }
}
