//! The vector primitives that every kernel is written in.
#![allow(unsafe_code)]

/// The most rows of a register tile, of all levels.
pub(super) const MAX_TILE_ROWS: usize = 12;

/// The most columns of a register tile, of all levels.
pub(super) const MAX_TILE_COLUMNS: usize = 32;

/// Vectors of `f32` of one instruction level.
///
/// # Safety
/// All functions ask that the processor has the level's instructions. `load` and `store`
/// ask for [`Simd::LANES`] elements at the pointer, at any alignment. Nothing else is asked
/// for.
#[allow(clippy::missing_safety_doc)]
pub(super) trait Simd: Copy + 'static {
    /// One vector.
    type V: Copy;
    /// Elements of a vector.
    const LANES: usize;
    /// Rows of a register tile; its columns are two vectors.
    const TILE_ROWS: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// The greater; `b` where one is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The less; `b` where one is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `v` where `x >= bound` or x is NaN, else 0.
    unsafe fn zero_below(v: Self::V, x: Self::V, bound: Self::V) -> Self::V;
    /// 2^n where the low bits of `v` are those of n in -126..=127, as they are after
    /// 1.5 * 2^23 was added to n.
    unsafe fn pow2_of_low_bits(v: Self::V) -> Self::V;
    /// Of each lane's two bfloat16, the one in the low bits.
    unsafe fn low_bf16(v: Self::V) -> Self::V;
    /// Of each lane's two bfloat16, the one in the high bits.
    unsafe fn high_bf16(v: Self::V) -> Self::V;

    /// Brings the cache line of an address into the first cache level; any address will do.
    #[inline(always)]
    unsafe fn prefetch(address: *const f32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch does not fault, and every processor of the target has it.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(address.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = address;
    }

    /// As [`Simd::prefetch`], into the second level.
    #[inline(always)]
    unsafe fn prefetch_far(address: *const f32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T1>(address.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = address;
    }

    /// c + the sum of the products of each lane's two bfloat16.
    #[inline(always)]
    unsafe fn dot_bf16(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe {
            let c = Self::fma(Self::low_bf16(a), Self::low_bf16(b), c);
            Self::fma(Self::high_bf16(a), Self::high_bf16(b), c)
        }
    }

    /// The sum of the lanes: the halves' lanes are added, then those of the half, and so on.
    unsafe fn sum(v: Self::V) -> f32;
    /// The greatest lane.
    unsafe fn max_lane(v: Self::V) -> f32;
}
