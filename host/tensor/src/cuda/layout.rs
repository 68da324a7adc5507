//! Copies of views: what joins and reshapes become.

use super::DeviceBuffer;
use super::launch::{Argument, arguments};
use super::operand::{OnCuda, THREADS, on_device};
use crate::error::Result;
use crate::shape::{MAX_RANK, Shape};
use crate::tensor::Tensor;

/// Bytes that a thread may copy at a time: a kernel for each.
const UNITS: [usize; 4] = [16, 4, 2, 1];

/// A view that is copied: dimensions outermost first, and strides of both sides, in elements.
struct View<'a> {
    dims: &'a [usize],
    from_strides: &'a [usize],
    to_strides: &'a [usize],
}

impl View<'_> {
    /// The largest unit that divides every run of the view and both addresses.
    fn unit(&self, size: usize, from: u64, to: u64) -> usize {
        let last = self.dims.len() - 1;
        let run = match (self.from_strides[last], self.to_strides[last]) {
            (1, 1) => self.dims[last] * size,
            _ => size,
        };
        let strides = self.from_strides[..last]
            .iter()
            .chain(&self.to_strides[..last]);
        let all = strides.fold(run | from as usize | to as usize, |all, stride| {
            all | (stride * size)
        });
        let fits = |unit: &usize| all.is_multiple_of(*unit);
        UNITS.into_iter().find(fits).unwrap_or(size)
    }

    /// The kernel's `View`, and how many units it has.
    fn argument(&self, size: usize, unit: usize) -> (Argument, usize) {
        let per_unit = unit / size.min(unit);
        let last = self.dims.len() - 1;
        let mut dims = [1; MAX_RANK];
        dims[..=last].copy_from_slice(self.dims);
        dims[last] /= per_unit;
        let scaled = |strides: &[usize]| {
            let mut scaled = [0; MAX_RANK];
            for (axis, &stride) in strides.iter().enumerate() {
                scaled[axis] = match axis == last && stride == 1 {
                    true => 1,
                    false => (stride * size / unit) as u64,
                };
            }
            scaled
        };
        let units = dims.iter().product();
        let mut words = Vec::from(scaled(self.from_strides));
        words.extend(scaled(self.to_strides));
        let pairs = dims.as_chunks().0.iter();
        words.extend(pairs.map(|&[low, high]: &[usize; 2]| low as u64 | (high as u64) << 32));
        words.push(self.dims.len() as u64);
        (Argument::Words(words), units)
    }
}

impl OnCuda<'_> {
    /// The tensor in a buffer of its own, without gaps.
    pub fn copied(&self, op: &str, x: &Tensor) -> Result<Tensor> {
        let shape = *x.checked_shape();
        let out = self.allocate(op, self.buffer(op, x)?.dtype(), &shape)?;
        self.copy(op, x, &out, 0, &shape.strides())?;
        Ok(on_device(out, shape))
    }

    /// Tensors one after the other along `axis`, in the type of the first.
    pub fn concat(&self, op: &str, parts: &[&Tensor], axis: usize, shape: Shape) -> Result<Tensor> {
        let dtype = self.buffer(op, parts[0])?.dtype();
        let out = self.allocate(op, dtype, &shape)?;
        let strides = shape.strides();
        let mut start = 0;
        for part in parts {
            let part = self.cast(op, part, dtype)?;
            self.copy(op, &part, &out, start * strides[axis], &strides)?;
            start += part.shape()[axis];
        }
        Ok(on_device(out, shape))
    }

    /// Copies a tensor to where it belongs in a buffer of the same type: from element `start` on
    /// with `to_strides`.
    fn copy(
        &self,
        op: &str,
        x: &Tensor,
        out: &DeviceBuffer,
        start: usize,
        to_strides: &[usize; MAX_RANK],
    ) -> Result<()> {
        let from = self.buffer(op, x)?;
        let size = from.dtype().size();
        let rank = x.shape().len();
        let view = View {
            dims: x.shape(),
            from_strides: &x.strides()[..rank],
            to_strides: &to_strides[..rank],
        };
        let from = from.address() + (x.offset() * size) as u64;
        let to = out.address() + (start * size) as u64;
        let unit = view.unit(size, from, to);
        let (view, units) = view.argument(size, unit);
        let mut arguments = arguments![view, from, to, units as u32];
        self.launch_threads(op, &format!("copy_{unit}"), units, THREADS, &mut arguments)
    }
}
