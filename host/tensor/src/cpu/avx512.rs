//! The primitives in AVX-512, without and with products of bfloat16 pairs.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::avx2::Avx2;
use super::level::Kernel;
use super::simd::Simd;

/// Sixteen lanes; 12 x 32 leaves 8 of the 32 registers to the operands.
#[derive(Clone, Copy)]
pub(super) struct Avx512;

/// As [`Avx512`], with `vdpbf16ps`.
#[derive(Clone, Copy)]
pub(super) struct Avx512Bf16;

/// Runs a kernel compiled with AVX-512.
///
/// # Safety
/// The processor has AVX-512 F, BW, DQ and VL, and what the kernel's fields promise holds.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn enter<S: Simd, K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run::<S>() }
}

/// As [`enter`], compiled with `avx512bf16` too.
///
/// # Safety
/// As [`enter`], and the processor has `avx512bf16`.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) unsafe fn enter_bf16<S: Simd, K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run::<S>() }
}

// SAFETY of all functions: the caller promises the level's features, which is all that
// these instructions ask for; `load` and `store` are promised their sixteen elements and
// use the unaligned forms.
macro_rules! implement {
    ($level:ty, $($with_bf16:item)*) => {
        impl Simd for $level {
            type V = __m512;
            const LANES: usize = 16;
            const TILE_ROWS: usize = 12;

            #[inline(always)]
            unsafe fn splat(x: f32) -> __m512 {
                unsafe { _mm512_set1_ps(x) }
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> __m512 {
                unsafe { _mm512_loadu_ps(from) }
            }
            #[inline(always)]
            unsafe fn store(to: *mut f32, v: __m512) {
                unsafe { _mm512_storeu_ps(to, v) }
            }
            #[inline(always)]
            unsafe fn add(a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_add_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn sub(a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_sub_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn mul(a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_mul_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn div(a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_div_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn max(a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_max_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn min(a: __m512, b: __m512) -> __m512 {
                unsafe { _mm512_min_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
                unsafe { _mm512_fmadd_ps(a, b, c) }
            }
            #[inline(always)]
            unsafe fn zero_below(v: __m512, x: __m512, bound: __m512) -> __m512 {
                unsafe { _mm512_maskz_mov_ps(!_mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, bound), v) }
            }
            #[inline(always)]
            unsafe fn pow2_of_low_bits(v: __m512) -> __m512 {
                unsafe {
                    let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(v));
                    let one = _mm512_set1_epi32(0x3f80_0000);
                    _mm512_castsi512_ps(_mm512_add_epi32(exponent, one))
                }
            }
            #[inline(always)]
            unsafe fn low_bf16(v: __m512) -> __m512 {
                unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(v))) }
            }
            #[inline(always)]
            unsafe fn high_bf16(v: __m512) -> __m512 {
                unsafe {
                    let mask = _mm512_set1_epi32(0xffff_0000_u32 as i32);
                    _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(v), mask))
                }
            }
            #[inline(always)]
            unsafe fn sum(v: __m512) -> f32 {
                unsafe {
                    let halves = (_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
                    Avx2::sum(_mm256_add_ps(halves.0, halves.1))
                }
            }
            #[inline(always)]
            unsafe fn max_lane(v: __m512) -> f32 {
                unsafe {
                    let halves = (_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
                    Avx2::max_lane(_mm256_max_ps(halves.0, halves.1))
                }
            }
            $(#[inline(always)] $with_bf16)*
        }
    };
}

implement!(Avx512,);
implement! { Avx512Bf16,
    unsafe fn dot_bf16(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: a bfloat16 vector is the same 512 bits.
        unsafe {
            let (a, b) = (
                std::mem::transmute::<__m512, __m512bh>(a),
                std::mem::transmute::<__m512, __m512bh>(b),
            );
            _mm512_dpbf16_ps(c, a, b)
        }
    }
    unsafe fn bf16_in_order(first: __m512, second: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(second, first)) }
    }
    unsafe fn bf16_across(low: __m512, high: __m512) -> __m512 {
        // SAFETY: as above; the bytes of a word are those of an element of the lower half and
        // of one of the upper half.
        unsafe {
            let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            let low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(halves));
            let high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(halves));
            _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32::<16>(high)))
        }
    }
}
