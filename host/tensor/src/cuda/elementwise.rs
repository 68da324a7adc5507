//! Functions of one or two elements.

use super::launch::arguments;
use super::operand::{CHUNK, OnCuda, THREADS, on_device};
use crate::error::Result;
use crate::ops::Activation;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// The number that kernels have for a function.
pub(super) fn number_of(activation: Activation) -> i32 {
    match activation {
        Activation::Identity => 0,
        Activation::Relu => 1,
        Activation::GeluErf => 2,
        Activation::GeluTanh => 3,
        Activation::GeluQuick => 4,
        Activation::Silu => 5,
        Activation::Tanh => 6,
    }
}

impl OnCuda<'_> {
    pub fn activate(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        const OP: &str = "activate";
        let shape = *x.checked_shape();
        let x = self.rows(OP, x)?;
        let out = self.allocate(OP, x.dtype, &shape)?;
        let mut arguments = arguments![
            x.address,
            x.stride,
            0_u64,
            number_of(activation),
            0_u64,
            0_i64,
            out.address(),
            x.rows,
            x.width,
        ];
        self.launch_chunks(OP, &format!("finish_{}", x.dtype), &x, &mut arguments)?;
        Ok(on_device(out, shape))
    }

    pub fn gated(&self, x: &Tensor, activation: Activation, shape: Shape) -> Result<Tensor> {
        const OP: &str = "gated";
        let x = self.rows(OP, x)?;
        let out = self.allocate(OP, x.dtype, &shape)?;
        let mut arguments = arguments![
            x.address,
            x.stride,
            number_of(activation),
            out.address(),
            x.rows,
            x.width / 2,
        ];
        let threads = shape.rows() * shape.width().div_ceil(CHUNK);
        let name = format!("gated_{}", x.dtype);
        self.launch_threads(OP, &name, threads, THREADS, &mut arguments)?;
        Ok(on_device(out, shape))
    }

    pub fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.binary("add", a, b)
    }

    pub fn mul(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.binary("mul", a, b)
    }

    /// The kernels of both operations are named as they are.
    fn binary(&self, op: &str, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let shape = *a.checked_shape();
        let a = self.rows(op, a)?;
        let b = self.rows_as(op, b, a.dtype)?;
        let out = self.allocate(op, a.dtype, &shape)?;
        let mut arguments = arguments![
            a.address,
            a.stride,
            b.address,
            b.stride,
            out.address(),
            a.rows,
            a.width,
        ];
        self.launch_chunks(op, &format!("{op}_{}", a.dtype), &a, &mut arguments)?;
        Ok(on_device(out, shape))
    }

    pub fn scale(&self, x: &Tensor, factor: f32) -> Result<Tensor> {
        const OP: &str = "scale";
        let shape = *x.checked_shape();
        let x = self.rows(OP, x)?;
        let out = self.allocate(OP, x.dtype, &shape)?;
        let mut arguments = arguments![x.address, x.stride, factor, out.address(), x.rows, x.width];
        self.launch_chunks(OP, &format!("scale_{}", x.dtype), &x, &mut arguments)?;
        Ok(on_device(out, shape))
    }
}
