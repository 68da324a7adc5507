//! Which algorithm computes a kind of product: the fastest of those that give the same bits.
//!
//! The library's guess is often not its fastest, and at few rows can be ten times slower. Its
//! algorithms also add in different orders, and which one it guesses depends on the number of
//! rows: a row's result would depend on its batch. So one algorithm is the standard, each
//! candidate for each number of rows is run on random numbers, and only what equals the standard
//! to the bit is timed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::CudaDevice;
use super::cublas::{Algorithm, Library, Matrix, Product, Scales};
use super::driver::Stream;
use super::launch::{Argument, Grid, arguments};
use super::memory::Allocation;
use crate::dtype::DType;
use crate::error::Result;

/// The rows over which the standard is chosen: so many that all of the device is at work.
const STANDARD_ROWS: u64 = 8192;

/// How long an algorithm is timed, and how often it runs in one reading.
const READING: Duration = Duration::from_micros(600);
const MIN_RUNS: u32 = 3;
const MAX_RUNS: u32 = 32;

/// The readings, of which the least counts.
const READINGS: u32 = 3;

/// What another algorithm must take less than the best so far, in percent: the library's order
/// says more than smaller differences do.
const LESS_PERCENT: u32 = 98;

/// Threads of a block, and the most blocks.
const THREADS: u32 = 256;
const MAX_BLOCKS: u64 = 4096;

/// A kind of product, and what its algorithms are tried with.
pub(super) struct Trial<'a> {
    pub op: &'a str,
    pub library: &'a Library,
    pub device: &'a CudaDevice,
    /// Of the kind; its weight is multiplied with.
    pub product: &'a Product,
}

/// The algorithms for each number of rows, of which there is one at least. Where the device has no
/// memory for a try, the one before serves.
pub(super) fn tune(trial: &Trial, rows: &[u64]) -> Result<Vec<Algorithm>> {
    let first = trial.candidates(STANDARD_ROWS)?;
    // Without a choice there is nothing to find out.
    if let [only] = first[..] {
        return Ok(vec![only; rows.len()]);
    }
    let Ok(operands) = trial.operands(STANDARD_ROWS) else {
        return Ok(vec![first[0]; rows.len()]);
    };
    let standard = trial.fastest(&operands, &first, None)?.unwrap_or(first[0]);
    drop(operands);
    let mut found = Vec::with_capacity(rows.len());
    for &rows in rows {
        let before = found.last().copied().unwrap_or(standard);
        let Ok(operands) = trial.operands(rows) else {
            found.push(before);
            continue;
        };
        let mut candidates = trial.candidates(rows)?;
        candidates.push(standard);
        let fastest = trial.fastest(&operands, &candidates, Some(&standard))?;
        found.push(fastest.unwrap_or(standard));
    }
    Ok(found)
}

/// Operands of a try: random numbers, and where results go.
struct Operands {
    product: Product,
    /// As `product`, with the result elsewhere.
    other: Product,
    /// Set where both results differ.
    flag: Allocation,
    _memory: [Allocation; 5],
}

impl Trial<'_> {
    fn stream(&self) -> &Arc<Stream> {
        self.library.stream()
    }

    /// What the library has for the kind with so many rows.
    fn candidates(&self, rows: u64) -> Result<Vec<Algorithm>> {
        let product = Product {
            m: rows,
            ..*self.product
        };
        let found = self.library.candidates(&product);
        found.map_err(|error| self.library.failure(self.op, error))
    }

    /// Memory for a try. Rows lie as far apart as those of the product.
    fn operands(&self, rows: u64) -> Result<Operands> {
        let product = self.product;
        let matrix = |like: &Matrix| -> Result<(Matrix, Allocation)> {
            let elements = rows * like.stride;
            let bytes = elements * like.dtype.size() as u64;
            let memory = Allocation::new(self.op, self.stream(), bytes as usize)?;
            self.fill(like.dtype, memory.address(), elements)?;
            let address = memory.address();
            Ok((Matrix { address, ..*like }, memory))
        };
        let (x, x_memory) = matrix(&product.x)?;
        let residual = product.residual.unwrap_or(product.out);
        let (residual, residual_memory) = matrix(&residual)?;
        let (out, out_memory) = matrix(&product.out)?;
        let (other, other_memory) = matrix(&product.out)?;
        let scale_memory = Allocation::new(self.op, self.stream(), rows as usize * 4)?;
        self.fill(DType::F32, scale_memory.address(), rows)?;
        let scales = product.scales.map(|scales| Scales {
            x: scale_memory.address(),
            ..scales
        });
        let product = Product {
            m: rows,
            x,
            scales,
            residual: product.residual.map(|_| residual),
            out,
            ..*product
        };
        Ok(Operands {
            product,
            other: Product {
                out: other,
                ..product
            },
            flag: Allocation::zeros(self.op, self.stream(), 4)?,
            _memory: [
                x_memory,
                scale_memory,
                residual_memory,
                out_memory,
                other_memory,
            ],
        })
    }

    /// The fastest of `candidates`, of those alone that compute what `standard` does; none where
    /// the library takes none of them.
    fn fastest(
        &self,
        operands: &Operands,
        candidates: &[Algorithm],
        standard: Option<&Algorithm>,
    ) -> Result<Option<Algorithm>> {
        if let Some(standard) = standard
            && self
                .library
                .queue(self.stream().queue(), &operands.other, standard)
                .is_err()
        {
            return Ok(None);
        }
        let mut fastest: Option<(Duration, Algorithm)> = None;
        for algorithm in candidates {
            // One that is refused, or fails, is not chosen.
            if self
                .library
                .queue(self.stream().queue(), &operands.product, algorithm)
                .is_err()
            {
                continue;
            }
            if standard.is_some() && !self.results_agree(operands)? {
                continue;
            }
            let time = self.time(&operands.product, algorithm)?;
            if fastest.is_none_or(|(least, _)| time * 100 < least * LESS_PERCENT) {
                fastest = Some((time, *algorithm));
            }
        }
        Ok(fastest.map(|(_, algorithm)| algorithm))
    }

    /// The time of a run, which was queued once before.
    fn time(&self, product: &Product, algorithm: &Algorithm) -> Result<Duration> {
        let run = |count: u32| -> Result<Duration> {
            let started = Instant::now();
            for _ in 0..count {
                let queued = self
                    .library
                    .queue(self.stream().queue(), product, algorithm);
                queued.map_err(|error| self.library.failure(self.op, error))?;
            }
            self.stream().synchronize(self.op)?;
            Ok(started.elapsed())
        };
        self.stream().synchronize(self.op)?;
        let once = run(1)?.max(Duration::from_nanos(1));
        let runs = READING.as_nanos() / once.as_nanos();
        let runs = (runs as u32).clamp(MIN_RUNS, MAX_RUNS);
        let mut least = Duration::MAX;
        for _ in 0..READINGS {
            least = least.min(run(runs)? / runs);
        }
        Ok(least)
    }

    fn results_agree(&self, operands: &Operands) -> Result<bool> {
        let out = &operands.product.out;
        let bytes = operands.product.m * out.stride * out.dtype.size() as u64;
        // Rows have no gaps, or hold the same random numbers there.
        let words = bytes / 4;
        let mut arguments = arguments![
            out.address,
            operands.other.out.address,
            words,
            operands.flag.address(),
        ];
        self.launch("compare_words", words, &mut arguments)?;
        let flag = self.device.read(self.op, operands.flag.address(), 4)?;
        if flag == [0; 4] {
            return Ok(true);
        }
        operands.flag.clear(self.op)?;
        Ok(false)
    }

    fn fill(&self, dtype: DType, address: u64, elements: u64) -> Result<()> {
        let mut arguments = arguments![address, elements];
        self.launch(&format!("fill_{dtype}"), elements, &mut arguments)
    }

    fn launch(&self, name: &str, items: u64, arguments: &mut [Argument]) -> Result<()> {
        let blocks = items.div_ceil(u64::from(THREADS)).clamp(1, MAX_BLOCKS);
        let grid = Grid {
            blocks: [blocks as u32, 1, 1],
            threads: THREADS,
            shared_bytes: 0,
        };
        self.device
            .kernels()
            .launch(self.stream().queue(), self.op, name, grid, arguments)
    }
}
