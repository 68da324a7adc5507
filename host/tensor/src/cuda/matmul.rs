//! Matrix products through cuBLASLt: one algorithm for each kind of product, found once.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;

use super::driver::Stream;
use super::memory::Allocation;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// Bytes that an algorithm may use besides its operands.
const WORKSPACE_BYTES: usize = 32 << 20;

/// A matrix in rows: where it begins on the device, and elements from one row to the next.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    pub address: u64,
    pub stride: u64,
    pub dtype: DType,
}

impl Matrix {
    /// The largest power of two up to 256 that divides the address of every row.
    fn alignment(&self) -> u32 {
        let bits = self.address | (self.stride * self.dtype.size() as u64) | 256;
        1 << bits.trailing_zeros()
    }
}

/// out `[m, n]` = x `[m, k]` weight `[n, k]`^T, plus `residual` `[m, n]`. x and weight are of
/// one type, out and residual of another. Sums are f32.
pub(super) struct Product {
    pub m: u64,
    pub n: u64,
    pub k: u64,
    pub x: Matrix,
    pub weight: Matrix,
    pub residual: Option<Matrix>,
    pub out: Matrix,
}

impl Product {
    fn alignments(&self) -> [u32; 4] {
        let residual = self.residual.unwrap_or(self.out);
        [&self.weight, &self.x, &residual, &self.out].map(Matrix::alignment)
    }
}

/// What an algorithm is chosen for.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    /// m, rounded up to a power of two.
    m: u64,
    n: u64,
    k: u64,
    dtype: DType,
    out_dtype: DType,
    residual: bool,
    alignments: [u32; 4],
}

/// The library's handle and what was found so far.
pub(super) struct Matmul {
    handle: sys::cublasLtHandle_t,
    stream: Arc<Stream>,
    workspace: Allocation,
    algorithms: Mutex<HashMap<Key, sys::cublasLtMatmulAlgo_t>>,
}

// SAFETY: the library's handle may be used from any thread, several at a time; all products
// share the workspace, but run one after the other in one stream.
unsafe impl Send for Matmul {}
// SAFETY: as above.
unsafe impl Sync for Matmul {}

impl Matmul {
    /// A handle for the stream's device.
    pub fn new(stream: &Arc<Stream>) -> Result<Self> {
        const OP: &str = "cuda";
        stream.enter(OP)?;
        Ok(Self {
            workspace: Allocation::new(OP, stream, WORKSPACE_BYTES)?,
            handle: result::create_handle()
                .map_err(|error| Error::Unsupported(format!("{OP}: cuBLASLt: {error}")))?,
            stream: stream.clone(),
            algorithms: Mutex::default(),
        })
    }

    /// Queues a product.
    pub fn multiply(&self, op: &str, product: &Product) -> Result<()> {
        self.stream.enter(op)?;
        self.multiply_here(product)
            .map_err(|error| self.failure(op, error))
    }

    fn multiply_here(&self, product: &Product) -> std::result::Result<(), CublasError> {
        let operands = Operands::new(product, product.m)?;
        // What was found for a bucket need not fit all that is in it.
        self.queue(product, &operands, self.algorithm(product)?)
            .or_else(|error| match is_refusal(error) {
                true => self.queue(product, &operands, self.find(product, &operands)?),
                false => Err(error),
            })
    }

    fn queue(
        &self,
        product: &Product,
        operands: &Operands,
        algorithm: sys::cublasLtMatmulAlgo_t,
    ) -> std::result::Result<(), CublasError> {
        let (alpha, beta) = (
            1.0_f32,
            if product.residual.is_some() {
                1.0_f32
            } else {
                0.0
            },
        );
        let residual = product.residual.unwrap_or(product.out);
        let address = |matrix: &Matrix| matrix.address as *const c_void;
        // SAFETY: the layouts say what lies at the addresses, which are of live allocations of
        // this stream; the workspace has the bytes that the algorithm was chosen for. alpha and
        // beta are read before it returns.
        unsafe {
            result::matmul(
                self.handle,
                operands.description.0,
                (&raw const alpha).cast(),
                (&raw const beta).cast(),
                address(&product.weight),
                operands.weight.0,
                address(&product.x),
                operands.x.0,
                address(&residual),
                operands.residual.0,
                product.out.address as *mut c_void,
                operands.out.0,
                &raw const algorithm,
                self.workspace.address() as *mut c_void,
                self.workspace.bytes(),
                self.stream.raw().cast(),
            )
        }
    }

    /// The algorithm for the bucket of a product: the same whichever of the bucket came first.
    fn algorithm(
        &self,
        product: &Product,
    ) -> std::result::Result<sys::cublasLtMatmulAlgo_t, CublasError> {
        let key = Key {
            m: product.m.next_power_of_two(),
            n: product.n,
            k: product.k,
            dtype: product.x.dtype,
            out_dtype: product.out.dtype,
            residual: product.residual.is_some(),
            alignments: product.alignments(),
        };
        let mut algorithms = self
            .algorithms
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(algorithm) = algorithms.get(&key) {
            return Ok(*algorithm);
        }
        let algorithm = self.find(product, &Operands::new(product, key.m)?)?;
        algorithms.insert(key, algorithm);
        Ok(algorithm)
    }

    /// The algorithm that the library holds to be the fastest.
    fn find(
        &self,
        product: &Product,
        operands: &Operands,
    ) -> std::result::Result<sys::cublasLtMatmulAlgo_t, CublasError> {
        let preference = Preference::new(self.workspace.bytes(), product.alignments())?;
        // SAFETY: all are alive.
        let found = unsafe {
            result::get_matmul_algo_heuristic(
                self.handle,
                operands.description.0,
                operands.weight.0,
                operands.x.0,
                operands.residual.0,
                operands.out.0,
                preference.0,
            )
        }?;
        Ok(found.algo)
    }

    /// The library's error of a product. Where it does not say that the device is in order, that
    /// is asked.
    fn failure(&self, op: &str, error: CublasError) -> Error {
        if is_refusal(error) {
            return Error::Unsupported(format!("{op}: cuBLASLt: {error}"));
        }
        match self.stream.synchronize(op) {
            Ok(()) => Error::Other(format!("{op}: cuBLASLt: {error}")),
            Err(lost) => lost,
        }
    }
}

impl Drop for Matmul {
    fn drop(&mut self) {
        if self.stream.enter("cuda").is_ok() {
            // SAFETY: nobody uses the handle any more.
            let _ = unsafe { result::destroy_handle(self.handle) };
        }
    }
}

/// Whether the library has no such product, or not with the algorithm that was asked for.
fn is_refusal(error: CublasError) -> bool {
    use sys::cublasStatus_t as Status;
    matches!(
        error.0,
        Status::CUBLAS_STATUS_NOT_SUPPORTED
            | Status::CUBLAS_STATUS_INVALID_VALUE
            | Status::CUBLAS_STATUS_ARCH_MISMATCH
    )
}

/// What the library is told of a product. It counts columns first: rows of `stride` elements
/// are its columns, so that it computes out^T = weight x^T.
struct Operands {
    description: Description,
    weight: Layout,
    x: Layout,
    residual: Layout,
    out: Layout,
}

impl Operands {
    /// As if `product` had `m` rows.
    fn new(product: &Product, m: u64) -> std::result::Result<Self, CublasError> {
        let &Product { n, k, .. } = product;
        let residual = product.residual.unwrap_or(product.out);
        Ok(Self {
            description: Description::new()?,
            weight: Layout::new(k, n, &product.weight)?,
            x: Layout::new(k, m, &product.x)?,
            residual: Layout::new(n, m, &residual)?,
            out: Layout::new(n, m, &product.out)?,
        })
    }
}

struct Description(sys::cublasLtMatmulDesc_t);

impl Description {
    /// Products of f32 are not rounded to TF32.
    fn new() -> std::result::Result<Self, CublasError> {
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let description = Self(result::create_matmul_desc(
            compute,
            sys::cudaDataType::CUDA_R_32F,
        )?);
        // cublasOperation_t: CUBLAS_OP_T.
        let transposed = 1_i32;
        let attribute = sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA;
        // SAFETY: the attribute is of this type.
        unsafe {
            result::set_matmul_desc_attribute(
                description.0,
                attribute,
                (&raw const transposed).cast(),
                size_of_val(&transposed),
            )
        }?;
        Ok(description)
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: nobody uses it any more.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    fn new(height: u64, columns: u64, of: &Matrix) -> std::result::Result<Self, CublasError> {
        let dtype = match of.dtype {
            DType::BF16 => sys::cudaDataType::CUDA_R_16BF,
            DType::F16 => sys::cudaDataType::CUDA_R_16F,
            DType::F32 | DType::U8 => sys::cudaDataType::CUDA_R_32F,
        };
        let layout = result::create_matrix_layout(dtype, height, columns, of.stride as i64)?;
        Ok(Self(layout))
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: nobody uses it any more.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    /// Sums are not split among blocks: a row's result would depend on how many rows there are.
    fn new(workspace_bytes: usize, alignments: [u32; 4]) -> std::result::Result<Self, CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let preference = Self(result::create_matmul_pref()?);
        let whole_sums = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_NONE as u32;
        preference.set(
            Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
            &whole_sums,
        )?;
        preference.set(
            Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
            &workspace_bytes,
        )?;
        let attributes = [
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ];
        for (attribute, alignment) in attributes.into_iter().zip(&alignments) {
            preference.set(attribute, alignment)?;
        }
        Ok(preference)
    }

    fn set<T>(
        &self,
        attribute: sys::cublasLtMatmulPreferenceAttributes_t,
        value: &T,
    ) -> std::result::Result<(), CublasError> {
        // SAFETY: the library reads as many bytes as it is told, and refuses a wrong number.
        unsafe {
            result::set_matmul_pref_attribute(
                self.0,
                attribute,
                ptr::from_ref(value).cast(),
                size_of::<T>(),
            )
        }
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: nobody uses it any more.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}
