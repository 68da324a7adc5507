//! cuBLASLt: what a product is to it, which algorithms it has for one, and the call that queues it.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;

use super::driver::{Queue, Stream};
use super::memory::Allocation;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// Bytes that an algorithm may use besides its operands.
const WORKSPACE_BYTES: usize = 32 << 20;

/// How many algorithms are asked for at most.
const MAX_CANDIDATES: usize = 24;

/// A way to compute a product.
pub(super) type Algorithm = sys::cublasLtMatmulAlgo_t;

/// A matrix in rows: where it begins on the device, and elements from one row to the next.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    pub address: u64,
    pub stride: u64,
    pub dtype: DType,
}

impl Matrix {
    /// The largest power of two up to 256 that divides the address of every row.
    pub fn alignment(&self) -> u32 {
        let bits = self.address | (self.stride * self.dtype.size() as u64) | 256;
        1 << bits.trailing_zeros()
    }
}

/// Where the scales of a product's operands are, in f32: one for each row.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    /// `[m]`
    pub x: u64,
    /// `[n]`
    pub weight: u64,
}

/// out `[m, n]` = x `[m, k]` weight `[n, k]`^T + `bias` `[n]` + `residual` `[m, n]`. x and weight
/// are of one type, out, bias and residual of another. Sums are f32.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub m: u64,
    pub n: u64,
    pub k: u64,
    pub x: Matrix,
    pub weight: Matrix,
    /// What the rows of operands in 8 bits are multiplied by; none for nothing.
    pub scales: Option<Scales>,
    /// The address of the bias.
    pub bias: Option<u64>,
    pub residual: Option<Matrix>,
    pub out: Matrix,
}

impl Product {
    /// Of the weight, x, the residual and out.
    pub fn alignments(&self) -> [u32; 4] {
        let residual = self.residual.unwrap_or(self.out);
        [&self.weight, &self.x, &residual, &self.out].map(Matrix::alignment)
    }
}

/// The library's handle, and the workspace of all products: they run one after the other in one
/// stream.
pub(super) struct Library {
    handle: sys::cublasLtHandle_t,
    stream: Arc<Stream>,
    workspace: Allocation,
    /// Held while a product is queued: it may be several pieces of work, of which the first
    /// prepares the workspace, and nobody else's product may come between them.
    queueing: Mutex<()>,
}

// SAFETY: the library's handle may be used from any thread, several at a time; all products
// share the workspace, but are queued one at a time and run one after the other in one stream.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// A handle for the stream's device.
    pub fn new(stream: &Arc<Stream>) -> Result<Self> {
        const OP: &str = "cuda";
        stream.enter(OP)?;
        Ok(Self {
            workspace: Allocation::new(OP, stream, WORKSPACE_BYTES)?,
            handle: result::create_handle()
                .map_err(|error| Error::Unsupported(format!("{OP}: cuBLASLt: {error}")))?,
            stream: stream.clone(),
            queueing: Mutex::new(()),
        })
    }

    /// The stream that products are queued in.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Queues a product. The stream's context is current.
    pub fn queue(
        &self,
        queue: Queue<'_>,
        product: &Product,
        algorithm: &Algorithm,
    ) -> std::result::Result<(), CublasError> {
        let operands = Operands::new(product)?;
        let beta = match product.residual {
            Some(_) => 1.0_f32,
            None => 0.0,
        };
        let alpha = 1.0_f32;
        let residual = product.residual.unwrap_or(product.out);
        let address = |matrix: &Matrix| matrix.address as *const c_void;
        let _queueing = self.queueing.lock().unwrap_or_else(PoisonError::into_inner);
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
                ptr::from_ref(algorithm),
                self.workspace.address() as *mut c_void,
                self.workspace.bytes(),
                queue.raw().cast(),
            )
        }
    }

    /// The algorithms that the library holds to be the fastest for a product, the best first:
    /// at least one.
    pub fn candidates(
        &self,
        product: &Product,
    ) -> std::result::Result<Vec<Algorithm>, CublasError> {
        let operands = Operands::new(product)?;
        let preference = Preference::new(self.workspace.bytes(), product.alignments())?;
        let mut found = [const { MaybeUninit::uninit() }; MAX_CANDIDATES];
        let mut count = 0;
        // SAFETY: all are alive; there is room for as many results as are asked for.
        unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                operands.description.0,
                operands.weight.0,
                operands.x.0,
                operands.residual.0,
                operands.out.0,
                preference.0,
                MAX_CANDIDATES as i32,
                found.as_mut_ptr().cast(),
                &raw mut count,
            )
        }
        .result()?;
        let found = found.iter().take(usize::try_from(count).unwrap_or(0));
        // SAFETY: so many were written.
        let found = found.map(
            |result: &MaybeUninit<sys::cublasLtMatmulHeuristicResult_t>| unsafe {
                result.assume_init()
            },
        );
        let usable: Vec<Algorithm> = found
            .filter(|result| result.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS)
            .map(|result| result.algo)
            .collect();
        match usable.is_empty() {
            true => Err(CublasError(
                sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED,
            )),
            false => Ok(usable),
        }
    }

    /// The library's error of a product. Where it does not say that the device is in order, that
    /// is asked.
    pub fn failure(&self, op: &str, error: CublasError) -> Error {
        if is_refusal(error) {
            return Error::Unsupported(format!("{op}: cuBLASLt: {error}"));
        }
        match self.stream.synchronize(op) {
            Ok(()) => Error::Other(format!("{op}: cuBLASLt: {error}")),
            Err(lost) => lost,
        }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        if self.stream.enter("cuda").is_ok() {
            // SAFETY: nobody uses the handle any more.
            let _ = unsafe { result::destroy_handle(self.handle) };
        }
    }
}

/// Whether the library has no such product, or not with the algorithm that was asked for.
pub(super) fn is_refusal(error: CublasError) -> bool {
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
    fn new(product: &Product) -> std::result::Result<Self, CublasError> {
        let &Product { m, n, k, .. } = product;
        let residual = product.residual.unwrap_or(product.out);
        Ok(Self {
            description: Description::new(product)?,
            weight: Layout::new(k, n, &product.weight)?,
            x: Layout::new(k, m, &product.x)?,
            residual: Layout::new(n, m, &residual)?,
            out: Layout::new(n, m, &product.out)?,
        })
    }
}

struct Description(sys::cublasLtMatmulDesc_t);

impl Description {
    /// Products of f32 are not rounded to TF32. A bias is of the result's type.
    fn new(product: &Product) -> std::result::Result<Self, CublasError> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let description = Self(result::create_matmul_desc(
            compute,
            sys::cudaDataType::CUDA_R_32F,
        )?);
        // cublasOperation_t: CUBLAS_OP_T.
        description.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &1_i32)?;
        if let Some(scales) = &product.scales {
            let of_rows =
                sys::cublasLtMatmulMatrixScale_t::CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
            description.set(Attribute::CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &of_rows)?;
            description.set(Attribute::CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &of_rows)?;
            description.set(
                Attribute::CUBLASLT_MATMUL_DESC_A_SCALE_POINTER,
                &scales.weight,
            )?;
            description.set(Attribute::CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &scales.x)?;
        }
        if let Some(bias) = product.bias {
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32;
            description.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
            description.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        }
        Ok(description)
    }

    fn set<T>(
        &self,
        attribute: sys::cublasLtMatmulDescAttributes_t,
        value: &T,
    ) -> std::result::Result<(), CublasError> {
        // SAFETY: the library reads as many bytes as it is told, and refuses a wrong number.
        unsafe {
            result::set_matmul_desc_attribute(
                self.0,
                attribute,
                ptr::from_ref(value).cast(),
                size_of::<T>(),
            )
        }
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
            DType::FP8 => sys::cudaDataType::CUDA_R_8F_E4M3,
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
