//! Linear layers whose operands are in 8 bits: rows with a scale each, and their products.
//!
//! cuBLASLt multiplies the scales in by itself where it can: on some architectures only, and in
//! later versions. Where it refuses, products are left unscaled and a kernel follows; and where it
//! refuses those too, the caller multiplies in 16 bits. What a layer once came down to, it stays
//! at: a row's result does not depend on when it is computed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::cublas::{Matrix, Product, Scales};
use super::driver::Queue;
use super::elementwise::number_of;
use super::launch::{Argument, Grid, arguments};
use super::linear::matrix;
use super::operand::{OnCuda, Rows, on_device};
use super::{CudaDevice, DeviceBuffer};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ops::Activation;
use crate::shape::Shape;
use crate::tensor::Tensor;

const OP: &str = "linear";

/// What the library asks of the columns of a weight, and of its rows.
const MULTIPLE: usize = 16;

/// Threads of a block that quantises, its shared memory in bytes, and the columns up to which a
/// row gets a warp and not a block.
const THREADS: usize = 128;
const SHARED_BYTES: u32 = 16;
const WARP: usize = 32;
const WARP_COLUMNS: usize = 1024;

/// Whether products with a weight of this shape can be in 8 bits.
pub(crate) fn fits(shape: &Shape) -> bool {
    let fits = |dim: &usize| dim.is_multiple_of(MULTIPLE);
    matches!(shape.dims(), dims @ [_, _] if dims.iter().all(fits))
}

/// Who multiplies the scales in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scaled {
    /// The library.
    ByProduct,
    /// A kernel that follows.
    Afterwards,
    /// Nobody: there is no such product.
    Nowhere,
}

/// A layer's shape, and what its product adds.
#[derive(PartialEq, Eq, Hash)]
struct Layer {
    n: u64,
    k: u64,
    bias: bool,
    /// How it is aligned.
    residual: Option<u32>,
}

/// What layers of a device came down to.
#[derive(Default)]
pub(super) struct Layers {
    found: Mutex<HashMap<Layer, Scaled>>,
}

impl Layers {
    fn of(&self, layer: &Layer) -> Scaled {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(layer).copied().unwrap_or(Scaled::ByProduct)
    }

    fn keep(&self, layer: Layer, scaled: Scaled) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert(layer, scaled);
    }
}

/// A matrix in 8 bits, with a scale for each of its rows.
pub(crate) struct Fp8Matrix {
    elements: DeviceBuffer,
    scales: DeviceBuffer,
    width: usize,
}

impl Fp8Matrix {
    /// Room for a weight `[n, k]`, all of whose rows are to be [written](Self::write_rows).
    pub fn for_weight(op: &str, device: &Arc<CudaDevice>, [n, k]: [usize; 2]) -> Result<Self> {
        Ok(Self {
            elements: DeviceBuffer::new(op, device, None, DType::FP8, n * k)?,
            scales: DeviceBuffer::new(op, device, None, DType::F32, n)?,
            width: k,
        })
    }

    /// Bytes that a weight takes.
    pub fn bytes_of([n, k]: [usize; 2]) -> u64 {
        (n * k + n * DType::F32.size()) as u64
    }

    /// Quantises rows that are given in bf16, from row `first` on.
    pub fn write_rows(&self, op: &str, first: usize, bytes: &[u8]) -> Result<()> {
        let device = self.elements.device();
        let elements = bytes.len() / DType::BF16.size();
        let staged = DeviceBuffer::new(op, device, None, DType::BF16, elements)?;
        staged.write(op, 0, bytes)?;
        let from = Matrix {
            address: staged.address(),
            stride: self.width as u64,
            dtype: DType::BF16,
        };
        let rows = elements / self.width;
        self.quantize(op, device.stream().queue(), &from, first, rows)
    }

    /// Quantises `rows` rows to where they are from row `first` on.
    fn quantize(
        &self,
        op: &str,
        queue: Queue<'_>,
        from: &Matrix,
        first: usize,
        rows: usize,
    ) -> Result<()> {
        let lanes = match self.width {
            ..=WARP_COLUMNS => WARP,
            _ => THREADS,
        };
        let grid = Grid {
            blocks: [(rows * lanes).div_ceil(THREADS) as u32, 1, 1],
            threads: THREADS as u32,
            shared_bytes: SHARED_BYTES,
        };
        let mut arguments: [Argument; 7] = arguments![
            from.address,
            from.stride as i64,
            lanes as i32,
            self.elements.address() + (first * self.width) as u64,
            self.scales.address() + (first * DType::F32.size()) as u64,
            rows as i32,
            self.width as i32,
        ];
        let kernels = self.elements.device().kernels();
        kernels.launch(queue, op, "quantize_bf16", grid, &mut arguments)
    }

    fn matrix(&self) -> Matrix {
        Matrix {
            address: self.elements.address(),
            stride: self.width as u64,
            dtype: DType::FP8,
        }
    }
}

/// A linear layer's operands but its weight.
pub(super) struct Operands<'a> {
    /// In bf16.
    pub x: &'a Rows,
    pub bias: Option<&'a Tensor>,
    pub activation: Activation,
    /// In bf16.
    pub residual: Option<&'a Rows>,
}

impl OnCuda<'_> {
    /// The layer with x in 8 bits as well; none where the library has no such product.
    pub(super) fn linear_fp8(
        &self,
        operands: &Operands,
        weight: &Fp8Matrix,
        shape: Shape,
    ) -> Result<Option<Tensor>> {
        let Operands { x, residual, .. } = operands;
        // The product adds what no activation comes before.
        let plain = operands.activation == Activation::Identity;
        let (n, k) = (shape.width() as u64, weight.width as u64);
        let layer = Layer {
            n,
            k,
            bias: plain && operands.bias.is_some(),
            residual: residual
                .filter(|_| plain)
                .map(|rows| matrix(rows).alignment()),
        };
        let layers = self.device.layers();
        let mut scaled = layers.of(&layer);
        if scaled == Scaled::Nowhere {
            return Ok(None);
        }
        self.blocks_of(OP, x.rows as usize * THREADS, THREADS)?;
        let x_fp8 = self.quantized(x)?;
        let out = on_device(self.allocate(OP, DType::BF16, &shape)?, shape);
        let out_rows = self.rows(OP, &out)?;
        let bare = Product {
            m: x.rows as u64,
            n,
            k,
            x: x_fp8.matrix(),
            weight: weight.matrix(),
            scales: None,
            bias: None,
            residual: None,
            out: matrix(&out_rows),
        };
        let is_refusal = |error: &Error| matches!(error, Error::Unsupported(_));
        if scaled == Scaled::ByProduct {
            let added = operands.bias.filter(|_| plain);
            let added = added
                .map(|bias| self.vector(OP, bias, DType::BF16))
                .transpose()?;
            let product = Product {
                scales: Some(Scales {
                    x: x_fp8.scales.address(),
                    weight: weight.scales.address(),
                }),
                bias: added.as_ref().map(|rows| rows.address),
                residual: residual.filter(|_| plain).map(matrix),
                ..bare
            };
            match self.device.multiply(self.queue(), OP, &product) {
                Ok(()) if plain => return Ok(Some(out)),
                Ok(()) => {
                    self.finish(operands.bias, operands.activation, *residual, &out_rows)?;
                    return Ok(Some(out));
                }
                Err(error) if is_refusal(&error) => scaled = Scaled::Afterwards,
                Err(error) => return Err(error),
            }
        }
        match self.device.multiply(self.queue(), OP, &bare) {
            Ok(()) => {}
            Err(error) if is_refusal(&error) => scaled = Scaled::Nowhere,
            Err(error) => return Err(error),
        }
        layers.keep(layer, scaled);
        if scaled == Scaled::Nowhere {
            return Ok(None);
        }
        self.finish_scaled(operands, [&x_fp8, weight], &out_rows)?;
        Ok(Some(out))
    }

    /// Rows of bf16 in 8 bits.
    fn quantized(&self, x: &Rows) -> Result<Fp8Matrix> {
        let (rows, width) = (x.rows as usize, x.width as usize);
        let quantized = Fp8Matrix {
            elements: self.allocate(OP, DType::FP8, &Shape::new(OP, &[rows, width])?)?,
            scales: self.allocate(OP, DType::F32, &Shape::new(OP, &[rows])?)?,
            width,
        };
        quantized.quantize(OP, self.queue(), &matrix(x), 0, rows)?;
        Ok(quantized)
    }

    /// What follows an unscaled product, in its place.
    fn finish_scaled(
        &self,
        operands: &Operands,
        [x, weight]: [&Fp8Matrix; 2],
        out: &Rows,
    ) -> Result<()> {
        let bias = self.optional_f32(OP, operands.bias)?;
        let residual = operands.residual;
        let mut arguments = arguments![
            out.address,
            out.stride,
            x.scales.address(),
            weight.scales.address(),
            bias.address(),
            number_of(operands.activation),
            residual.map_or(0, |rows| rows.address),
            residual.map_or(0, |rows| rows.stride),
            out.address,
            out.rows,
            out.width,
        ];
        self.launch_chunks(OP, "finish_scaled_bf16", out, &mut arguments)
    }
}
