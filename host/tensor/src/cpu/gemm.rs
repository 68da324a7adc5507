//! A block of a matrix product: rows of A times some panels, in the order that keeps the
//! panel in the first and A in the second cache level.
#![allow(unsafe_code)]

use super::simd::Simd;
use super::tile::{Finish, PanelProduct, Product, Sum};

/// Steps of k that a panel slice has: 24 KB of f32 in 16 columns.
const BLOCK_STEPS: usize = 384;

/// Rows of A that are multiplied with a panel slice before the next: with [`BLOCK_STEPS`]
/// they take less than half of a 512 KB cache.
pub(super) const BLOCK_ROWS: usize = 144;

/// Words of A up to which the whole of k is kept in the second-level cache.
const RESIDENT_WORDS: usize = 64 << 10;

/// Rows of A times a run of panels.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub rows: usize,
    pub steps: usize,
    pub a: *const f32,
    pub lda: usize,
    /// The first panel.
    pub b: *const f32,
    /// Words of a step of a panel.
    pub step_words: usize,
    /// Words from one panel to the next.
    pub panel_words: usize,
    /// The first row of C at the first panel's first column.
    pub c: *mut f32,
    pub ldc: usize,
    /// Columns of C.
    pub columns: usize,
    /// Where the block begins in the result.
    pub row: usize,
    pub column: usize,
}

impl Block {
    /// Computes the block, and finishes every tile once it has all of its sum.
    ///
    /// # Safety
    /// The processor has the instructions of `S`; the fields describe memory that is there,
    /// and nothing else refers to C's.
    #[inline(always)]
    pub unsafe fn run<S: Simd, P: Product, F: Finish>(&self, finish: &F) {
        let width = 2 * S::LANES;
        let panels = self.columns.div_ceil(width);
        let slices = self.steps.div_ceil(BLOCK_STEPS);
        // With few rows all of A stays close, and panels are best read from end to end.
        let panel_major = self.rows * self.steps <= RESIDENT_WORDS;
        let (outer, inner) = if panel_major {
            (panels, slices)
        } else {
            (slices, panels)
        };
        for outer in 0..outer {
            for inner in 0..inner {
                let (panel, slice) = if panel_major {
                    (outer, inner)
                } else {
                    (inner, outer)
                };
                // SAFETY: slices are runs of steps, panels runs of columns, of memory that
                // the caller promises.
                unsafe { self.slice::<S, P, F>(panel, slice, slices, finish) };
            }
        }
    }

    /// One panel over one run of steps.
    ///
    /// # Safety
    /// As for [`Block::run`].
    #[inline(always)]
    unsafe fn slice<S: Simd, P: Product, F: Finish>(
        &self,
        panel: usize,
        slice: usize,
        slices: usize,
        finish: &F,
    ) {
        let width = 2 * S::LANES;
        let first = slice * BLOCK_STEPS;
        // SAFETY: the caller's promise.
        unsafe {
            PanelProduct {
                rows: self.rows,
                steps: BLOCK_STEPS.min(self.steps - first),
                a: self.a.add(first),
                lda: self.lda,
                b: self
                    .b
                    .add(panel * self.panel_words + first * self.step_words),
                c: self.c.add(panel * width),
                ldc: self.ldc,
                columns: width.min(self.columns - panel * width),
                sum: if slice == 0 {
                    Sum::Begin
                } else {
                    Sum::Continue
                },
            }
            .run::<S, P, F>(
                self.row,
                self.column + panel * width,
                (slice + 1 == slices).then_some(finish),
            );
        }
    }
}

/// A pointer to a result that several threads write, each its own part.
#[derive(Clone, Copy)]
pub(super) struct SharedMut(*mut f32);

// SAFETY: the pointer is used only by kernels that write disjoint parts, and while the
// mutable borrow that it was made of lives.
unsafe impl Send for SharedMut {}
// SAFETY: as above.
unsafe impl Sync for SharedMut {}

impl SharedMut {
    /// Shares a slice; the caller keeps the borrow alive and the parts disjoint.
    pub fn new(slice: &mut [f32]) -> Self {
        Self(slice.as_mut_ptr())
    }

    /// Shares what is at a pointer, under the same conditions.
    pub fn from_pointer(pointer: *mut f32) -> Self {
        Self(pointer)
    }

    /// The pointer.
    pub fn get(self) -> *mut f32 {
        self.0
    }
}
