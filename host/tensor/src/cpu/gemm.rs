//! A block of a matrix product: rows of A times some panels, in the order that keeps a slice of
//! a panel near, in the first cache level where it fits there, and A in the second.
#![allow(unsafe_code)]

use super::simd::Simd;
use super::tile::{Finish, PanelProduct, Product, Sum, Tile};

/// Where the words of A come from.
pub(super) trait Operand {
    /// A pointer to `steps` words from `first` on of the first row, and the words from one
    /// row to the next. Good until the next call.
    ///
    /// # Safety
    /// The processor has the instructions of `S`; the words are in the operand.
    unsafe fn slice<S: Simd, P: Product>(&self, first: usize, steps: usize) -> (*const f32, usize);
}

/// A is read where it is.
pub(super) struct InPlace {
    pub a: *const f32,
    pub lda: usize,
}

impl Operand for InPlace {
    #[inline(always)]
    unsafe fn slice<S: Simd, P: Product>(&self, first: usize, _: usize) -> (*const f32, usize) {
        // SAFETY: the caller's promise.
        (unsafe { self.a.add(first) }, self.lda)
    }
}

/// Rows of A times a run of panels.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub rows: usize,
    pub steps: usize,
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
    /// The panel that is likely to be read after the block. It is only brought closer, and
    /// may be anywhere.
    pub after: *const f32,
}

impl Block {
    /// Computes the block, slice of k after slice, and finishes every tile once it has all
    /// of its sum.
    ///
    /// # Safety
    /// The processor has the instructions of `S`; the fields and `a` describe memory that is
    /// there, and nothing else refers to C's.
    #[inline(always)]
    pub unsafe fn run<S: Simd, P: Product, F: Finish>(
        &self,
        unit: &mut P::Unit,
        a: &impl Operand,
        finish: &F,
    ) {
        let width = 2 * S::LANES;
        let panels = self.columns.div_ceil(width);
        for first in (0..self.steps).step_by(P::SLICE_STEPS) {
            let steps = P::SLICE_STEPS.min(self.steps - first);
            let last = first + steps == self.steps;
            // SAFETY: slices are runs of steps, panels runs of columns, of memory that the
            // caller promises. What is only brought closer may be anywhere.
            unsafe {
                let (a, lda) = a.slice::<S, P>(first, steps);
                for panel in 0..panels {
                    let slice = self.b.add(first * self.step_words);
                    let b = slice.add(panel * self.panel_words);
                    let next = if panel + 1 < panels {
                        b.wrapping_add(self.panel_words)
                    } else if last {
                        self.after
                    } else {
                        slice.wrapping_add(steps * self.step_words)
                    };
                    PanelProduct {
                        all: Tile {
                            rows: self.rows,
                            steps,
                            a,
                            lda,
                            b,
                            c: self.c.add(panel * width),
                            ldc: self.ldc,
                            sum: if first == 0 {
                                Sum::Begin
                            } else {
                                Sum::Continue
                            },
                            ahead: None,
                        },
                        columns: width.min(self.columns - panel * width),
                        next: Some(next),
                    }
                    .run::<S, P, F>(
                        unit,
                        self.row,
                        self.column + panel * width,
                        last.then_some(finish),
                    );
                }
            }
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
