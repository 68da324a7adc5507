//! Products through the emulated cuBLASLt, and what they should be.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr;

use half::{bf16, f16};

use crate::gpu::{Gpu, Handle};

/// An element type, by the number that the library has for it.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(i32)]
pub enum Type {
    F32 = 0,
    F16 = 2,
    Bf16 = 14,
}

impl Type {
    pub fn stored(self, values: &[f32]) -> Vec<u8> {
        let stored = values.iter().flat_map(|&value| match self {
            Self::F32 => value.to_le_bytes().to_vec(),
            Self::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
            Self::Bf16 => bf16::from_f32(value).to_le_bytes().to_vec(),
        });
        stored.collect()
    }
}

/// Columns of `rows` numbers that lie `ld` apart.
pub struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub ld: usize,
    pub values: Vec<f32>,
}

impl Matrix {
    /// Numbers in eighths from -1 to 1, whose sums of products are exact; NaN in the gaps.
    pub fn new(rows: usize, columns: usize, gap: usize) -> Self {
        let ld = rows + gap;
        let number = |i: usize| (i * 7 % 17) as f32 / 8.0 - 1.0;
        let value = |i: usize| if i % ld < rows { number(i) } else { f32::NAN };
        let values = (0..ld * columns).map(value).collect();
        Self {
            rows,
            columns,
            ld,
            values,
        }
    }

    fn at(&self, row: usize, column: usize, transposed: bool) -> f32 {
        let (row, column) = if transposed {
            (column, row)
        } else {
            (row, column)
        };
        self.values[column * self.ld + row]
    }

    fn layout(&self, gpu: &Gpu, element: Type) -> Handle {
        let (rows, columns, ld) = (self.rows as u64, self.columns as u64, self.ld as i64);
        let mut layout: Handle = ptr::null_mut();
        let created = call!(
            gpu.cublaslt,
            cublasLtMatrixLayoutCreate(&raw mut layout, element as c_int, rows, columns, ld)
        );
        assert_eq!(created, 0);
        layout
    }
}

/// `0.5 op(a) op(b) + 2 c + bias`, where the last two are optional: c by `beta`, and b's elements
/// of the type that a has. As it is stored, with its gaps.
pub struct Product<'a> {
    pub a: &'a Matrix,
    pub b: &'a Matrix,
    pub c: &'a Matrix,
    pub inputs: Type,
    pub output: Type,
    pub transposed: [bool; 2],
    pub beta: f32,
    pub bias: Option<&'a [f32]>,
}

impl Product<'_> {
    /// The library's status, and what it computed.
    pub fn compute(&self, gpu: &Gpu) -> (c_int, Vec<u8>) {
        let lt = &gpu.cublaslt;
        let (mut library, mut desc, mut preference) = (
            ptr::null_mut::<c_void>(),
            ptr::null_mut::<c_void>(),
            ptr::null_mut::<c_void>(),
        );
        succeed!(lt, cublasLtCreate(&raw mut library));
        succeed!(lt, cublasLtMatmulDescCreate(&raw mut desc, 68, 0));
        succeed!(lt, cublasLtMatmulPreferenceCreate(&raw mut preference));
        for (attribute, transposed) in [(3, self.transposed[0]), (4, self.transposed[1])] {
            let operation = c_int::from(transposed);
            succeed!(
                lt,
                cublasLtMatmulDescSetAttribute(desc, attribute, &raw const operation, 4_usize)
            );
        }
        if let Some(bias) = self.bias {
            let (epilogue, bias) = (4_u32, gpu.upload(&self.output.stored(bias)));
            succeed!(
                lt,
                cublasLtMatmulDescSetAttribute(desc, 7, &raw const epilogue, 4_usize)
            );
            succeed!(
                lt,
                cublasLtMatmulDescSetAttribute(desc, 8, &raw const bias, 8_usize)
            );
        }
        let [a_type, b_type, c_type, d_type] = self.types();
        let [a, b, c, d] = [
            self.a.layout(gpu, a_type),
            self.b.layout(gpu, b_type),
            self.c.layout(gpu, c_type),
            self.c.layout(gpu, d_type),
        ];
        // cublasLtMatmulHeuristicResult_t begins with the algorithm.
        let (mut found, mut algorithms) = ([0_u64; 13], 0);
        let status = call!(
            lt,
            cublasLtMatmulAlgoGetHeuristic(
                library,
                desc,
                a,
                b,
                c,
                d,
                preference,
                1,
                found.as_mut_ptr(),
                &raw mut algorithms
            )
        );
        if status != 0 {
            return (status, Vec::new());
        }
        let stored = |matrix: &Matrix, element: Type| gpu.upload(&element.stored(&matrix.values));
        let bytes = self.output.stored(&self.c.values).len();
        let (at_a, at_b) = (stored(self.a, a_type), stored(self.b, b_type));
        let (at_c, at_d) = (stored(self.c, c_type), gpu.allocate(bytes));
        let (alpha, beta, no_workspace) = (0.5_f32, self.beta, ptr::null_mut::<c_void>());
        let status = call!(
            lt,
            cublasLtMatmul(
                library,
                desc,
                &raw const alpha,
                at_a,
                a,
                at_b,
                b,
                &raw const beta,
                at_c,
                c,
                at_d,
                d,
                found.as_ptr(),
                no_workspace,
                0_usize,
                gpu.stream
            )
        );
        (status, gpu.download(at_d, bytes))
    }

    fn types(&self) -> [Type; 4] {
        [self.inputs, self.inputs, self.output, self.output]
    }

    /// What should be there, computed in f32 without any rounding; ones in the gaps.
    pub fn wanted(&self) -> Vec<u8> {
        let mut stored = Vec::new();
        for i in 0..self.c.ld * self.c.columns {
            let (row, column) = (i % self.c.ld, i / self.c.ld);
            if row >= self.c.rows {
                stored.extend(vec![0xff; self.output.stored(&[0.0]).len()]);
                continue;
            }
            let depth = if self.transposed[0] {
                self.a.rows
            } else {
                self.a.columns
            };
            let product = |k| {
                self.a.at(row, k, self.transposed[0]) * self.b.at(k, column, self.transposed[1])
            };
            let mut sum = 0.5 * (0..depth).map(product).sum::<f32>();
            if self.beta != 0.0 {
                sum += self.beta * self.c.values[i];
            }
            sum += self.bias.map_or(0.0, |bias| bias[row]);
            stored.extend(self.output.stored(&[sum]));
        }
        stored
    }
}
