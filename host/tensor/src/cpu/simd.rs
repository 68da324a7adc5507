//! The vector primitives that every kernel is written in.
#![allow(unsafe_code)]

use crate::convert::bf16_bits;

/// The most rows of a register tile, of all levels.
pub(super) const MAX_TILE_ROWS: usize = 32;

/// The most columns of a register tile, of all levels.
pub(super) const MAX_TILE_COLUMNS: usize = 32;

/// The most lanes of a vector, of all levels.
pub(super) const MAX_LANES: usize = MAX_TILE_COLUMNS / 2;

/// Vectors of `f32` of one instruction level.
///
/// # Safety
/// All functions ask that the processor has the level's instructions. `load` and `store`
/// ask for [`Simd::LANES`] elements at the pointer, at any alignment. Nothing else is asked
/// for, unless a function says so.
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

    /// The elements of one vector and then those of another, rounded to bfloat16: lane i has
    /// element 2 i in its low bits and element 2 i + 1 in its high bits. Where no instruction
    /// does it, no product is of such pairs either.
    #[inline(always)]
    unsafe fn bf16_in_order(first: Self::V, second: Self::V) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { bf16_words::<Self>(first, second, |lane| [2 * lane, 2 * lane + 1]) }
    }

    /// Two vectors rounded to bfloat16: lane i has that of `low` in its low bits and that of
    /// `high` in its high bits.
    #[inline(always)]
    unsafe fn bf16_across(low: Self::V, high: Self::V) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { bf16_words::<Self>(low, high, |lane| [lane, lane + Self::LANES]) }
    }

    /// Of a square, [`Simd::LANES`] rows of as many elements without gaps, the first `columns`
    /// columns as rows, `stride` apart.
    ///
    /// Asks for the square at `from` and for `columns` rows, at most [`Simd::LANES`], at `to`.
    #[inline(always)]
    unsafe fn transpose(from: *const f32, to: *mut f32, stride: usize, columns: usize) {
        for row in 0..Self::LANES {
            for column in 0..columns {
                // SAFETY: the caller's promise.
                unsafe {
                    let element = from.add(row * Self::LANES + column).read();
                    to.add(column * stride + row).write(element);
                }
            }
        }
    }

    /// The sum of the lanes: the halves' lanes are added, then those of the half, and so on.
    unsafe fn sum(v: Self::V) -> f32;
    /// The greatest lane.
    unsafe fn max_lane(v: Self::V) -> f32;
}

/// A vector whose lanes have two elements each of two vectors, as `pair` says of a lane.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
unsafe fn bf16_words<S: Simd>(first: S::V, second: S::V, pair: fn(usize) -> [usize; 2]) -> S::V {
    let mut elements = [0.0f32; MAX_TILE_COLUMNS];
    let mut words = [0.0f32; MAX_TILE_COLUMNS];
    // SAFETY: the caller's promise; the arrays have room for two vectors.
    unsafe {
        S::store(elements.as_mut_ptr(), first);
        S::store(elements.as_mut_ptr().add(S::LANES), second);
        for (lane, word) in words[..S::LANES].iter_mut().enumerate() {
            let [low, high] = pair(lane);
            *word = bf16_pair(elements[low], elements[high]);
        }
        S::load(words.as_ptr())
    }
}

/// A word of two elements rounded to bfloat16.
#[inline(always)]
pub(super) fn bf16_pair(low: f32, high: f32) -> f32 {
    f32::from_bits(bf16_bits(low) | bf16_bits(high) << 16)
}

/// Rounds a row to words of two bfloat16 each; where a word has no second element, it is 0.
///
/// # Safety
/// The processor has the instructions of `S`; `to` has room for half as many words as `row` has
/// elements, rounded up.
#[inline(always)]
pub(super) unsafe fn bf16_pairs<S: Simd>(row: &[f32], mut to: *mut f32) {
    let vectors = row.chunks_exact(2 * S::LANES);
    let rest = vectors.remainder();
    // SAFETY: the caller's promise; a chunk is two vectors.
    unsafe {
        for pair in vectors {
            let second = S::load(pair.as_ptr().add(S::LANES));
            S::store(to, S::bf16_in_order(S::load(pair.as_ptr()), second));
            to = to.add(S::LANES);
        }
        for pair in rest.chunks(2) {
            to.write(bf16_pair(pair[0], pair.get(1).copied().unwrap_or(0.0)));
            to = to.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::cpu::level::{Kernel, Level};

    /// Both ways to round two vectors, of this much of `elements`.
    struct Rounded<'a>(&'a [f32]);

    impl Kernel for Rounded<'_> {
        /// A vector's lanes, and the words in order and across.
        type Output = (usize, [[f32; MAX_TILE_COLUMNS]; 2]);

        #[inline(always)]
        unsafe fn run<S: Simd>(self) -> Self::Output {
            let mut words = [[0.0; MAX_TILE_COLUMNS]; 2];
            assert!(self.0.len() >= 2 * S::LANES);
            // SAFETY: the level is available; there are two vectors of elements.
            unsafe {
                let first = S::load(self.0.as_ptr());
                let second = S::load(self.0.as_ptr().add(S::LANES));
                S::store(words[0].as_mut_ptr(), S::bf16_in_order(first, second));
                S::store(words[1].as_mut_ptr(), S::bf16_across(first, second));
            }
            (S::LANES, words)
        }
    }

    /// The first of a square's columns as rows, each of which is followed by a gap.
    struct Transposed(usize);

    /// Elements from one of these rows to the next.
    const STRIDE: usize = MAX_LANES + 3;

    impl Kernel for Transposed {
        /// A vector's lanes, and what was written over -1.
        type Output = (usize, Vec<f32>);

        #[inline(always)]
        unsafe fn run<S: Simd>(self) -> Self::Output {
            let square: Vec<f32> = (0..S::LANES * S::LANES).map(|index| index as f32).collect();
            let mut rows = vec![-1.0; MAX_LANES * STRIDE];
            let columns = self.0.min(S::LANES);
            // SAFETY: the level is available; the square is there, and so are all rows.
            unsafe { S::transpose(square.as_ptr(), rows.as_mut_ptr(), STRIDE, columns) };
            (S::LANES, rows)
        }
    }

    #[test]
    fn transposes_the_columns_asked_for() {
        for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
            for columns in [1, 5, MAX_LANES] {
                // SAFETY: it is available.
                let (lanes, rows) = unsafe { level.run(Transposed(columns)) };
                for (index, &element) in rows.iter().enumerate() {
                    let (column, row) = (index / STRIDE, index % STRIDE);
                    let is_written = column < columns.min(lanes) && row < lanes;
                    let wanted = if is_written {
                        (row * lanes + column) as f32
                    } else {
                        -1.0
                    };
                    assert_eq!(element, wanted, "{} {column} {row}", level.name());
                }
            }
        }
    }

    #[test]
    fn rounds_two_vectors_in_order_and_across() {
        // Ties to both sides, and what lies beside them, in both signs.
        let last = |i: u32| [0x8000, 0x7fff, 0x8001, 0x1_8000][i as usize % 4];
        let element = |i: u32| {
            f32::from_bits(((i / 4 % 2) << 31) | (0x3f80_0000 + i * 0x0122_0000 + last(i)))
        };
        let elements: Vec<f32> = (0..MAX_TILE_COLUMNS as u32).map(element).collect();
        let bits = |x: f32| u32::from(bf16::from_f32(x).to_bits());
        for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
            // SAFETY: it is available.
            let (lanes, [in_order, across]) = unsafe { level.run(Rounded(&elements)) };
            for lane in 0..lanes {
                let pair =
                    |low: usize, high: usize| bits(elements[low]) | bits(elements[high]) << 16;
                let name = level.name();
                assert_eq!(
                    in_order[lane].to_bits(),
                    pair(2 * lane, 2 * lane + 1),
                    "{name}"
                );
                assert_eq!(across[lane].to_bits(), pair(lane, lane + lanes), "{name}");
            }
        }
    }
}
