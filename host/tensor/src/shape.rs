//! Checked shapes: rank 1 to 8, no dimension of 0, a product that fits.

use crate::error::{Result, bail};

/// The highest rank of a tensor.
pub(crate) const MAX_RANK: usize = 8;

/// The most elements of a tensor: 2^40, so that no offset in bytes can overflow.
const MAX_ELEMENTS: usize = 1 << 40;

/// Dimensions, outermost first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// Checks rank, dimensions and product; `op` is named in the error.
    pub fn new(op: &str, dims: &[usize]) -> Result<Self> {
        if dims.is_empty() || dims.len() > MAX_RANK {
            bail!(
                InvalidArgument,
                "{op}: rank {} is not in 1..={MAX_RANK}",
                dims.len()
            );
        }
        let mut product = 1usize;
        for &dim in dims {
            if dim == 0 {
                bail!(InvalidArgument, "{op}: shape {dims:?} has a dimension of 0");
            }
            product = match product.checked_mul(dim) {
                Some(product) if product <= MAX_ELEMENTS => product,
                _ => bail!(
                    InvalidArgument,
                    "{op}: shape {dims:?} has more than {MAX_ELEMENTS} elements"
                ),
            };
        }
        let mut shape = Self {
            dims: [1; MAX_RANK],
            rank: dims.len(),
        };
        shape.dims[..dims.len()].copy_from_slice(dims);
        Ok(shape)
    }

    /// The dimensions.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// The product of the dimensions.
    pub fn elements(&self) -> usize {
        self.dims().iter().product()
    }

    /// The last dimension.
    pub fn width(&self) -> usize {
        self.dims[self.rank - 1]
    }

    /// The product of all dimensions but the last.
    pub fn rows(&self) -> usize {
        self.elements() / self.width()
    }

    /// This shape with one dimension replaced; `op` is named in the error.
    pub fn with_dim(&self, op: &str, axis: usize, dim: usize) -> Result<Self> {
        let mut dims = *self;
        dims.dims[axis] = dim;
        Self::new(op, dims.dims())
    }

    /// Element strides of this shape laid out without gaps.
    pub fn strides(&self) -> [usize; MAX_RANK] {
        let mut strides = [0; MAX_RANK];
        let mut step = 1;
        for axis in (0..self.rank).rev() {
            strides[axis] = step;
            step *= self.dims[axis];
        }
        strides
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.dims().fmt(f)
    }
}
