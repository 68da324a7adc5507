//! Matrix products: one algorithm for each kind of product and number of rows, found once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublaslt::result::CublasError;

use super::CudaDevice;
use super::cublas::{Algorithm, Library, Product, is_refusal};
use super::driver::{Queue, Stream};
use super::tuning::{Trial, tune};
use crate::dtype::DType;
use crate::error::Result;

/// The fewest rows and the most that algorithms are chosen for, in powers of two.
const MIN_ROWS: u64 = 16;
const MAX_ROWS: u64 = 16_384;

/// The kinds whose algorithms are found: models have some each. Components choose what they
/// multiply, and finding algorithms takes device time that nobody pays for and memory that stays.
const MAX_KINDS: usize = 256;

/// What algorithms are chosen for, each for some numbers of rows.
#[derive(PartialEq, Eq, Hash)]
struct Kind {
    n: u64,
    k: u64,
    dtype: DType,
    out_dtype: DType,
    scaled: bool,
    bias: bool,
    residual: bool,
    alignments: [u32; 4],
}

impl Kind {
    fn of(product: &Product) -> Self {
        Self {
            n: product.n,
            k: product.k,
            dtype: product.x.dtype,
            out_dtype: product.out.dtype,
            scaled: product.scales.is_some(),
            bias: product.bias.is_some(),
            residual: product.residual.is_some(),
            alignments: product.alignments(),
        }
    }
}

/// The algorithms of a kind: that of up to `MIN_ROWS` rows, of up to twice as many, and so on.
type Algorithms = Arc<[Algorithm]>;

/// The products of a device, and what was found for them so far.
pub(super) struct Matmul {
    library: Library,
    algorithms: Mutex<HashMap<Kind, Algorithms>>,
}

impl Matmul {
    /// Nothing is found yet.
    pub fn new(stream: &Arc<Stream>) -> Result<Self> {
        Ok(Self {
            library: Library::new(stream)?,
            algorithms: Mutex::default(),
        })
    }

    /// Queues a product. The first of a kind waits until its algorithms are found. Of kinds beyond
    /// `MAX_KINDS` the library guesses, so that a row may round otherwise in another batch.
    pub fn multiply(
        &self,
        queue: Queue<'_>,
        op: &str,
        device: &CudaDevice,
        product: &Product,
    ) -> Result<()> {
        self.library.stream().enter(op)?;
        let Some(algorithms) = self.algorithms(op, device, product)? else {
            let queued = self.guess(queue, product);
            return queued.map_err(|error| self.library.failure(op, error));
        };
        let rows = product.m.next_power_of_two().clamp(MIN_ROWS, MAX_ROWS);
        let index = (rows / MIN_ROWS).trailing_zeros() as usize;
        let queued = self.library.queue(queue, product, &algorithms[index]);
        // What was found for a bucket need not fit all that is in it, though no library is known
        // to be so. Better a row rounded otherwise than none.
        let queued = queued.or_else(|error| match is_refusal(error) {
            true => self.guess(queue, product),
            false => Err(error),
        });
        queued.map_err(|error| self.library.failure(op, error))
    }

    /// Queues a product as the library guesses that it is fastest, however that rounds: to measure
    /// what the device can do.
    pub fn multiply_as_guessed(&self, op: &str, product: &Product) -> Result<()> {
        let stream = self.library.stream();
        stream.enter(op)?;
        let queued = self.guess(stream.queue(), product);
        queued.map_err(|error| self.library.failure(op, error))
    }

    fn guess(&self, queue: Queue<'_>, product: &Product) -> std::result::Result<(), CublasError> {
        let found = self.library.candidates(product)?;
        self.library.queue(queue, product, &found[0])
    }

    fn algorithms(
        &self,
        op: &str,
        device: &CudaDevice,
        product: &Product,
    ) -> Result<Option<Algorithms>> {
        let kind = Kind::of(product);
        let mut algorithms = self
            .algorithms
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = algorithms.get(&kind) {
            return Ok(Some(found.clone()));
        }
        if algorithms.len() >= MAX_KINDS {
            return Ok(None);
        }
        let powers = MIN_ROWS.trailing_zeros()..=MAX_ROWS.trailing_zeros();
        let rows: Vec<u64> = powers.map(|power| 1 << power).collect();
        let trial = Trial {
            op,
            library: &self.library,
            device,
            product,
        };
        let found: Algorithms = tune(&trial, &rows)?.into();
        algorithms.insert(kind, found.clone());
        Ok(Some(found))
    }
}
