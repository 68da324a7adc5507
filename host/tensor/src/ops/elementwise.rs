//! Functions of one or two elements.

use super::{check_shape, product};
use crate::context::On;
use crate::cpu::{self, CpuDevice, OnCpu, Rows, rows};
use crate::error::{Result, bail};
use crate::shape::Shape;
use crate::{Context, Tensor};

/// Functions of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x
    Identity,
    /// max(x, 0)
    Relu,
    /// x/2 (1 + erf(x / sqrt 2)): the exact form
    GeluErf,
    /// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
    GeluTanh,
    /// x sigmoid(1.702 x)
    GeluQuick,
    /// x sigmoid(x)
    Silu,
    /// tanh(x)
    Tanh,
}

/// The activation of every element, of any shape.
///
/// # Errors
/// As for all [operations](super).
pub fn activate(ctx: &Context, x: &Tensor, activation: Activation) -> Result<Tensor> {
    const OP: &str = "activate";
    let shape = *x.checked_shape();
    ctx.charge(OP, product(&[shape.elements()]))?;
    match ctx.on() {
        On::Cpu(cpu) => {
            let x = cpu.readable(OP, x)?;
            let mut out = cpu.allocate(OP, &shape)?;
            cpu::activate(cpu.device, rows(OP, &x)?, activation, out.as_mut_slice());
            Ok(Tensor::from_buffer(out, shape))
        }
        On::Cuda(cuda) => cuda.activate(x, activation),
    }
}

/// activation(left) * right, where x `[.., 2 n]` is left and right side by side.
///
/// # Errors
/// As for all [operations](super).
pub fn gated(ctx: &Context, x: &Tensor, activation: Activation) -> Result<Tensor> {
    const OP: &str = "gated";
    let mut dims = x.shape().to_vec();
    let half = match dims.last_mut() {
        Some(width) if width.is_multiple_of(2) => {
            *width /= 2;
            *width
        }
        _ => bail!(
            ShapeMismatch,
            "{OP}: x is {:?}, which has no two halves",
            x.shape()
        ),
    };
    let shape = Shape::new(OP, &dims)?;
    ctx.charge(OP, product(&[3, shape.elements()]))?;
    match ctx.on() {
        On::Cpu(cpu) => {
            let x = cpu.readable(OP, x)?;
            let mut out = cpu.allocate(OP, &shape)?;
            let x = rows(OP, &x)?;
            cpu::gated(cpu.device, x, half, activation, out.as_mut_slice());
            Ok(Tensor::from_buffer(out, shape))
        }
        On::Cuda(cuda) => cuda.gated(x, activation, shape),
    }
}

/// a + b, of one shape.
///
/// # Errors
/// As for all [operations](super).
pub fn add(ctx: &Context, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    const OP: &str = "add";
    check_shape(OP, "b", b, a.shape())?;
    ctx.charge(OP, product(&[a.checked_shape().elements()]))?;
    match ctx.on() {
        On::Cpu(cpu) => on_cpu(OP, &cpu, a, b, cpu::add),
        On::Cuda(cuda) => cuda.add(a, b),
    }
}

/// a * b, elementwise, of one shape.
///
/// # Errors
/// As for all [operations](super).
pub fn mul(ctx: &Context, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    const OP: &str = "mul";
    check_shape(OP, "b", b, a.shape())?;
    ctx.charge(OP, product(&[a.checked_shape().elements()]))?;
    match ctx.on() {
        On::Cpu(cpu) => on_cpu(OP, &cpu, a, b, cpu::mul),
        On::Cuda(cuda) => cuda.mul(a, b),
    }
}

/// A function of two elements on the processor.
fn on_cpu(
    op: &str,
    cpu: &OnCpu,
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(&CpuDevice, Rows, Rows, &mut [f32]),
) -> Result<Tensor> {
    let shape = *a.checked_shape();
    let (a, b) = (cpu.readable(op, a)?, cpu.readable(op, b)?);
    let mut out = cpu.allocate(op, &shape)?;
    f(cpu.device, rows(op, &a)?, rows(op, &b)?, out.as_mut_slice());
    Ok(Tensor::from_buffer(out, shape))
}

/// x times a finite number.
///
/// # Errors
/// As for all [operations](super).
pub fn scale(ctx: &Context, x: &Tensor, factor: f32) -> Result<Tensor> {
    const OP: &str = "scale";
    if !factor.is_finite() {
        bail!(InvalidArgument, "{OP}: factor is {factor}, not finite");
    }
    let shape = *x.checked_shape();
    ctx.charge(OP, product(&[shape.elements()]))?;
    match ctx.on() {
        On::Cpu(cpu) => {
            let x = cpu.readable(OP, x)?;
            let mut out = cpu.allocate(OP, &shape)?;
            cpu::scale(cpu.device, rows(OP, &x)?, factor, out.as_mut_slice());
            Ok(Tensor::from_buffer(out, shape))
        }
        On::Cuda(cuda) => cuda.scale(x, factor),
    }
}
