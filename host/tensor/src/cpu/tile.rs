//! The register tile: a few rows times two vectors of columns, summed over k in order.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use super::simd::{MAX_TILE_COLUMNS, MAX_TILE_ROWS, Simd};

/// How words of A and steps of a weight panel become sums.
pub(super) trait Product {
    /// Elements along k in a word of A: those that one step sums.
    const DEPTH: usize;
    /// Steps of k of a slice of a panel, which all rows of a block are multiplied with before the
    /// next.
    const SLICE_STEPS: usize;
    /// Steps that are summed together: other numbers of them are slower.
    const RUN: usize;
    /// What a thread keeps from one tile to the next.
    type Unit: Default;
    /// Words of one step of a panel.
    fn step_words<S: Simd>() -> usize;
    /// The most rows of a tile.
    fn tile_rows<S: Simd>() -> usize;

    /// Rows of A times a panel, into or onto rows of C. Each of these is made in the same order
    /// whatever the others are.
    ///
    /// # Safety
    /// The processor has the instructions of `S` and those of the product. The tile's rows are 1
    /// to `tile_rows`; its steps are at each row of A and of the panel, and two vectors at each
    /// row of C, which nothing else refers to.
    unsafe fn tile<S: Simd>(unit: &mut Self::Unit, tile: Tile);
}

/// A tile's operands: rows of A times a panel.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub rows: usize,
    /// Steps of k to sum.
    pub steps: usize,
    /// The first row of A at its first step.
    pub a: *const f32,
    /// Words from a row of A to the next.
    pub lda: usize,
    /// The panel at its first step.
    pub b: *const f32,
    /// The first row of C at the panel's first column.
    pub c: *mut f32,
    /// Elements from a row of C to the next.
    pub ldc: usize,
    /// Whether C holds a sum already.
    pub sum: Sum,
    /// What is brought closer meanwhile.
    pub ahead: Option<Ahead>,
}

/// Products that are made in vector registers, step after step.
pub(super) trait VectorProduct {
    const DEPTH: usize;
    /// Vectors in memory of one step of a panel.
    const STEP_VECTORS: usize;

    /// The operands of both halves of the tile's columns.
    ///
    /// # Safety
    /// The processor has the instructions of `S`; `STEP_VECTORS` vectors are at `b`.
    unsafe fn operands<S: Simd>(b: *const f32) -> [S::V; 2];

    /// c + a b.
    ///
    /// # Safety
    /// The processor has the instructions of `S`.
    unsafe fn multiply_add<S: Simd>(a: S::V, b: S::V, c: S::V) -> S::V;
}

impl<P: VectorProduct> Product for P {
    const DEPTH: usize = <P as VectorProduct>::DEPTH;
    // 24 KB of f32 in 16 columns.
    const SLICE_STEPS: usize = 384;
    const RUN: usize = 1;
    type Unit = ();

    #[inline(always)]
    fn step_words<S: Simd>() -> usize {
        P::STEP_VECTORS * S::LANES
    }

    #[inline(always)]
    fn tile_rows<S: Simd>() -> usize {
        S::TILE_ROWS
    }

    #[inline(always)]
    unsafe fn tile<S: Simd>((): &mut (), tile: Tile) {
        macro_rules! one_of {
            ($($r:literal)+) => {
                match tile.rows {
                    // SAFETY: the caller's promise.
                    $($r if $r <= S::TILE_ROWS => unsafe { vector_tile::<S, P, $r>(tile) },)+
                    rows => debug_assert!(false, "a tile of {rows} rows"),
                }
            };
        }
        one_of!(1 2 3 4 5 6 7 8 9 10 11 12);
    }
}

/// f32 times f32.
pub(super) struct F32Product;

/// f32 times bfloat16 widened in a register: each word of a panel holds the bfloat16 of a
/// column of the left half in its low bits, and of the right half in its high bits.
pub(super) struct WideBf16Product;

/// Pairs of bfloat16 along k, in A and in the panel.
pub(super) struct DotBf16Product;

/// As [`DotBf16Product`], on the matrix unit.
pub(super) struct AmxBf16Product;

// SAFETY of the three: what is loaded is promised by the caller, as are the instructions.
impl VectorProduct for F32Product {
    const DEPTH: usize = 1;
    const STEP_VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn operands<S: Simd>(b: *const f32) -> [S::V; 2] {
        unsafe { [S::load(b), S::load(b.add(S::LANES))] }
    }
    #[inline(always)]
    unsafe fn multiply_add<S: Simd>(a: S::V, b: S::V, c: S::V) -> S::V {
        unsafe { S::fma(a, b, c) }
    }
}

impl VectorProduct for WideBf16Product {
    const DEPTH: usize = 1;
    const STEP_VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn operands<S: Simd>(b: *const f32) -> [S::V; 2] {
        unsafe {
            let words = S::load(b);
            [S::low_bf16(words), S::high_bf16(words)]
        }
    }
    #[inline(always)]
    unsafe fn multiply_add<S: Simd>(a: S::V, b: S::V, c: S::V) -> S::V {
        unsafe { S::fma(a, b, c) }
    }
}

impl VectorProduct for DotBf16Product {
    const DEPTH: usize = 2;
    const STEP_VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn operands<S: Simd>(b: *const f32) -> [S::V; 2] {
        unsafe { [S::load(b), S::load(b.add(S::LANES))] }
    }
    #[inline(always)]
    unsafe fn multiply_add<S: Simd>(a: S::V, b: S::V, c: S::V) -> S::V {
        unsafe { S::dot_bf16(a, b, c) }
    }
}

impl Product for AmxBf16Product {
    const DEPTH: usize = 2;
    // The second cache level is near enough, and sums seldom go out and come back.
    const SLICE_STEPS: usize = 1024;
    const RUN: usize = 16;
    #[cfg(target_arch = "x86_64")]
    type Unit = super::amx::Unit;
    #[cfg(not(target_arch = "x86_64"))]
    type Unit = ();

    #[inline(always)]
    fn step_words<S: Simd>() -> usize {
        MAX_TILE_COLUMNS
    }

    #[inline(always)]
    fn tile_rows<S: Simd>() -> usize {
        MAX_TILE_ROWS
    }

    #[inline(always)]
    unsafe fn tile<S: Simd>(unit: &mut Self::Unit, tile: Tile) {
        // SAFETY: the caller's promise; two vectors of a level that has the unit are 32 columns.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            unit.tile(tile);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (unit, tile);
    }
}

/// Whether a product is the result's first, or is added to what is in C.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sum {
    Begin,
    Continue,
}

/// Memory that is brought closer on the way through a panel: `words` of it at every step.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    pub from: *const f32,
    pub words: usize,
}

/// [`Product::tile`] of `R` rows.
///
/// # Safety
/// As for [`Product::tile`], and the tile has `R` rows.
#[inline(always)]
unsafe fn vector_tile<S: Simd, P: VectorProduct, const R: usize>(tile: Tile) {
    let Tile {
        steps,
        a,
        lda,
        mut b,
        c,
        ldc,
        sum,
        ahead,
        ..
    } = tile;
    // SAFETY: all pointers that are read or written stay in what the caller promises.
    unsafe {
        let mut acc = [[S::splat(0.0); 2]; R];
        // C comes while the sums are made.
        for r in 0..R {
            S::prefetch(c.add(r * ldc));
        }
        macro_rules! step {
            ($step:expr) => {
                let [left, right] = P::operands::<S>(b);
                b = b.add(P::STEP_VECTORS * S::LANES);
                for (r, acc) in acc.iter_mut().enumerate() {
                    let a = S::splat(*a.add(r * lda + $step));
                    acc[0] = P::multiply_add::<S>(a, left, acc[0]);
                    acc[1] = P::multiply_add::<S>(a, right, acc[1]);
                }
            };
        }
        if let Some(Ahead { mut from, words }) = ahead {
            for step in 0..steps {
                S::prefetch_far(from);
                from = from.wrapping_add(words);
                step!(step);
            }
        } else {
            for step in 0..steps {
                step!(step);
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            let row = c.add(r * ldc);
            let [mut left, mut right] = *acc;
            if sum == Sum::Continue {
                left = S::add(S::load(row), left);
                right = S::add(S::load(row.add(S::LANES)), right);
            }
            S::store(row, left);
            S::store(row.add(S::LANES), right);
        }
    }
}

/// What happens to finished sums while they are in the first-level cache.
pub(super) trait Finish {
    /// Finishes a tile of `rows` x two vectors that begins at `row` and `column` of the
    /// result and lies at `c`, `ldc` apart; of its columns `columns` belong to the result.
    ///
    /// # Safety
    /// The processor has the instructions of `S`, and the tile lies at `c`.
    #[allow(clippy::too_many_arguments)]
    unsafe fn tile<S: Simd>(
        &self,
        row: usize,
        column: usize,
        rows: usize,
        columns: usize,
        c: *mut f32,
        ldc: usize,
    );
}

/// Nothing happens to them.
pub(super) struct Raw;

impl Finish for Raw {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, _: usize, _: usize, _: usize, _: usize, _: *mut f32, _: usize) {}
}

/// Any number of rows of A times one panel.
#[derive(Clone, Copy)]
pub(super) struct PanelProduct {
    /// All of them, as one tile.
    pub all: Tile,
    /// Columns of the panel that C has.
    pub columns: usize,
    /// What will be read next, as much as this panel has, if it should be brought closer.
    pub next: Option<*const f32>,
}

/// Tiles that share the work of bringing the next panel closer.
const TILES_AHEAD: usize = 4;

impl PanelProduct {
    /// Computes it, tile after tile, and finishes each where `finish` is given. `row` and
    /// `column` say where C begins in the result.
    ///
    /// # Safety
    /// The processor has the instructions of `S`; the fields describe memory that is there,
    /// and nothing else refers to C's.
    #[inline(always)]
    pub unsafe fn run<S: Simd, P: Product, F: Finish>(
        self,
        unit: &mut P::Unit,
        row: usize,
        column: usize,
        finish: Option<&F>,
    ) {
        let Self { all, columns, next } = self;
        let Tile { rows, ldc, .. } = all;
        let tiles = rows.div_ceil(P::tile_rows::<S>());
        let width = 2 * S::LANES;
        let mut done = 0;
        for index in 0..tiles {
            // Tiles of nearly equal height: a lone last row would run at the latency of one
            // multiply-add.
            let tile_rows_here = (rows - done) / (tiles - index);
            // The first tiles bring what comes next, each its share.
            let sharing = tiles.min(TILES_AHEAD);
            let words = P::step_words::<S>() / sharing;
            let ahead = next.filter(|_| index < sharing).map(|from| Ahead {
                from: from.wrapping_add(index * all.steps * words),
                words,
            });
            // SAFETY: rows `done..done + tile_rows_here` are among `rows`; where C has fewer
            // columns than the panel, the tile lies in `scratch`, which is large enough for
            // every level.
            unsafe {
                let c = all.c.add(done * ldc);
                let tile = Tile {
                    rows: tile_rows_here,
                    a: all.a.add(done * all.lda),
                    c,
                    ahead,
                    ..all
                };
                if columns == width {
                    P::tile::<S>(unit, tile);
                    if let Some(finish) = finish {
                        finish.tile::<S>(row + done, column, tile_rows_here, columns, c, ldc);
                    }
                } else {
                    // Without a sum to go on from, the tile writes all that is read.
                    let mut scratch =
                        MaybeUninit::<[f32; MAX_TILE_ROWS * MAX_TILE_COLUMNS]>::uninit();
                    let to: *mut f32 = scratch.as_mut_ptr().cast();
                    if all.sum == Sum::Continue {
                        to.write_bytes(0, tile_rows_here * width);
                        for r in 0..tile_rows_here {
                            c.add(r * ldc)
                                .copy_to_nonoverlapping(to.add(r * width), columns);
                        }
                    }
                    let tile = Tile {
                        c: to,
                        ldc: width,
                        ..tile
                    };
                    P::tile::<S>(unit, tile);
                    if let Some(finish) = finish {
                        finish.tile::<S>(row + done, column, tile_rows_here, columns, to, width);
                    }
                    for r in 0..tile_rows_here {
                        to.add(r * width)
                            .copy_to_nonoverlapping(c.add(r * ldc), columns);
                    }
                }
            }
            done += tile_rows_here;
        }
    }
}
