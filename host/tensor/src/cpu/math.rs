//! Vector forms of exp, erf and tanh, and the activations made of them.
#![allow(unsafe_code)]
// Constants as they were published.
#![allow(clippy::excessive_precision)]

use super::simd::Simd;
use crate::ops::Activation;

/// a[0] + a[1] x + a[2] x^2 ..
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
unsafe fn polynomial<S: Simd, const N: usize>(x: S::V, a: [f32; N]) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sum = S::splat(a[N - 1]);
        let mut index = N - 1;
        while index > 0 {
            index -= 1;
            sum = S::fma(sum, x, S::splat(a[index]));
        }
        sum
    }
}

/// Below this exp is 0: its true value is under 2^-125.
const EXP_MIN: f32 = -87.0;

/// exp(x) within 2 ulp; 0 below -87, and no more than exp(88).
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; the polynomial in r is that of `expf` in the Cephes
/// library (S. Moshier), which also splits ln 2 in two.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let low = S::splat(EXP_MIN);
        let clamped = S::max(low, S::min(S::splat(88.0), x));
        // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits.
        let round = S::splat(12_582_912.0);
        let rounded = S::fma(clamped, S::splat(std::f32::consts::LOG2_E), round);
        let n = S::sub(rounded, round);
        let r = S::fma(n, S::splat(-0.693_359_375), clamped);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        let p = polynomial::<S, 6>(
            r,
            [
                5.000_000_1e-1,
                1.666_666_5e-1,
                4.166_579_6e-2,
                8.333_452e-3,
                1.398_199_9e-3,
                1.987_569_1e-4,
            ],
        );
        let p = S::fma(S::mul(p, r), r, S::add(r, S::splat(1.0)));
        S::zero_below(S::mul(p, S::pow2_of_low_bits(rounded)), x, low)
    }
}

/// Below this a power of 2 is 0: beside a sum of at least 1 it is nothing, and its products with
/// what is small would be denormal, which some processors multiply a hundred times slower.
const EXP2_MIN: f32 = -100.0;

/// 2^x within 2e-7 for x <= 0, where rounding of x itself is left out of account; 0 below -100. A
/// third cheaper than [`exp`].
///
/// The polynomial is the minimax one of degree 5 on [-1/2, 1/2], of relative error 7.5e-8,
/// made with the Remez algorithm.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn exp2_of_negative<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let low = S::splat(EXP2_MIN);
        let clamped = S::max(low, x);
        let round = S::splat(12_582_912.0);
        let rounded = S::add(clamped, round);
        let r = S::sub(clamped, S::sub(rounded, round));
        let p = polynomial::<S, 6>(
            r,
            [
                1.000_000_071_654_714,
                0.693_146_967_065_035,
                0.240_221_197_237_107,
                0.055_507_132_718_556,
                0.009_675_541_343_121,
                0.001_327_647_263_195,
            ],
        );
        S::zero_below(S::mul(p, S::pow2_of_low_bits(rounded)), x, low)
    }
}

/// erf(x) within 3e-7: the rational minimax approximation on [-4, 4] that Eigen
/// (`generic_fast_erf_float`) and XLA use.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn erf<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let x = S::max(S::splat(-4.0), S::min(S::splat(4.0), x));
        let square = S::mul(x, x);
        let p = polynomial::<S, 7>(
            square,
            [
                -1.609_603_3e-2,
                -2.954_599_8e-3,
                -7.349_906e-4,
                -5.692_506_5e-5,
                -2.101_024e-6,
                2.770_681_4e-8,
                -2.726_142_3e-10,
            ],
        );
        let q = polynomial::<S, 5>(
            square,
            [
                -1.426_473_9e-2,
                -7.373_329e-3,
                -1.682_827e-3,
                -2.133_740_6e-4,
                -1.456_607_2e-5,
            ],
        );
        S::div(S::mul(x, p), q)
    }
}

/// tanh(x) within 3e-7: the rational approximation of Eigen (`generic_fast_tanh_float`).
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn tanh<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        // From here on tanh is 1 in f32.
        let bound = 7.905_311;
        let x = S::max(S::splat(-bound), S::min(S::splat(bound), x));
        let square = S::mul(x, x);
        let p = polynomial::<S, 7>(
            square,
            [
                4.893_524_6e-3,
                6.372_619_3e-4,
                1.485_722_4e-5,
                5.122_297_1e-8,
                -8.604_672e-11,
                2.000_187_9e-13,
                -2.760_768_5e-16,
            ],
        );
        let q = polynomial::<S, 4>(
            square,
            [
                4.893_525_2e-3,
                2.268_434_6e-3,
                1.185_347_1e-4,
                1.198_258_4e-6,
            ],
        );
        S::div(S::mul(x, p), q)
    }
}

/// 1 / (1 + exp(-x))
#[inline(always)]
unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let one = S::splat(1.0);
        S::div(one, S::add(one, exp::<S>(S::sub(S::splat(0.0), x))))
    }
}

/// The activation of a vector.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn activate<S: Simd>(activation: Activation, x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        match activation {
            Activation::Identity => x,
            Activation::Relu => S::max(S::splat(0.0), x),
            Activation::GeluErf => {
                let half = S::mul(x, S::splat(0.5));
                S::fma(
                    half,
                    erf::<S>(S::mul(x, S::splat(std::f32::consts::FRAC_1_SQRT_2))),
                    half,
                )
            }
            Activation::GeluTanh => {
                let half = S::mul(x, S::splat(0.5));
                let cube = S::mul(S::mul(x, x), x);
                let inner = S::fma(cube, S::splat(0.044_715), x);
                // sqrt(2 / pi)
                let inner = S::mul(inner, S::splat(0.797_884_6));
                S::fma(half, tanh::<S>(inner), half)
            }
            Activation::GeluQuick => S::mul(x, sigmoid::<S>(S::mul(x, S::splat(1.702)))),
            Activation::Silu => S::mul(x, sigmoid::<S>(x)),
            Activation::Tanh => tanh::<S>(x),
        }
    }
}
