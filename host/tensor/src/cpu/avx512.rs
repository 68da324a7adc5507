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
            unsafe fn transpose(from: *const f32, to: *mut f32, stride: usize, columns: usize) {
                // Pairs of rows, then fours; then the quarters of vectors change places.
                let mut rows = [unsafe { _mm512_setzero_ps() }; 16];
                for (index, row) in rows.iter_mut().enumerate() {
                    *row = unsafe { _mm512_loadu_ps(from.add(index * 16)) };
                }
                let mut twos = rows;
                for index in (0..16).step_by(2) {
                    let (a, b) = (rows[index], rows[index + 1]);
                    twos[index] = unsafe { _mm512_unpacklo_ps(a, b) };
                    twos[index + 1] = unsafe { _mm512_unpackhi_ps(a, b) };
                }
                // fours[4 g + c]: of rows 4 g to 4 g + 3, columns c, c + 4, c + 8 and c + 12.
                let mut fours = rows;
                for group in (0..16).step_by(4) {
                    for half in 0..2 {
                        let pair = [twos[group + half], twos[group + half + 2]];
                        let [a, b] = pair.map(|v| unsafe { _mm512_castps_pd(v) });
                        let (low, high) =
                            unsafe { (_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b)) };
                        fours[group + 2 * half] = unsafe { _mm512_castpd_ps(low) };
                        fours[group + 2 * half + 1] = unsafe { _mm512_castpd_ps(high) };
                    }
                }
                for column in 0..4 {
                    let (a, b) = (fours[column], fours[column + 4]);
                    let (c, d) = (fours[column + 8], fours[column + 12]);
                    // Quarters 0 and 2, and 1 and 3, of the upper and the lower rows.
                    let (even, odd) = unsafe {
                        (
                            [
                                _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b),
                                _mm512_shuffle_f32x4::<0b10_00_10_00>(c, d),
                            ],
                            [
                                _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b),
                                _mm512_shuffle_f32x4::<0b11_01_11_01>(c, d),
                            ],
                        )
                    };
                    rows[column] =
                        unsafe { _mm512_shuffle_f32x4::<0b10_00_10_00>(even[0], even[1]) };
                    rows[column + 4] =
                        unsafe { _mm512_shuffle_f32x4::<0b10_00_10_00>(odd[0], odd[1]) };
                    rows[column + 8] =
                        unsafe { _mm512_shuffle_f32x4::<0b11_01_11_01>(even[0], even[1]) };
                    rows[column + 12] =
                        unsafe { _mm512_shuffle_f32x4::<0b11_01_11_01>(odd[0], odd[1]) };
                }
                for (index, row) in rows.iter().take(columns).enumerate() {
                    unsafe { _mm512_storeu_ps(to.add(index * stride), *row) };
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
