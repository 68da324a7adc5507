//! The processor as a device: its threads, its instructions, its buffers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::Level;
use super::buffer::{Buffer, BufferPool};
use crate::Account;
use crate::error::{Error, Result, bail};

/// The most threads that a device may have.
const MAX_THREADS: usize = 1024;

/// Work below this many multiply-adds (or elements times [`ELEMENT_COST`]) stays on the
/// calling thread: waking another costs about as much.
const INLINE_COST: usize = 400_000;

/// What one element of a memory-bound operation costs, in multiply-adds.
pub(super) const ELEMENT_COST: usize = 8;

/// Threads, instruction level and buffer pool.
pub(crate) struct CpuDevice {
    level: Level,
    threads: rayon::ThreadPool,
    buffers: Arc<BufferPool>,
}

impl CpuDevice {
    /// Starts the threads.
    pub fn new(threads: usize, level: Level) -> Result<Self> {
        if !(1..=MAX_THREADS).contains(&threads) {
            bail!(
                InvalidArgument,
                "device: {threads} threads, not in 1..={MAX_THREADS}"
            );
        }
        if !level.is_available() {
            bail!(
                Unsupported,
                "device: this processor has no {}",
                level.name()
            );
        }
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("tensor-{index}"))
            .build()
            .map_err(|error| Error::Other(format!("device: cannot start threads: {error}")))?;
        Ok(Self {
            level,
            threads,
            buffers: Arc::default(),
        })
    }

    /// The instructions in use.
    pub fn level(&self) -> Level {
        self.level
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.threads.current_num_threads()
    }

    /// Runs `body` on one of the threads.
    pub fn install<R: Send>(&self, body: impl FnOnce() -> R + Send) -> R {
        self.threads.install(body)
    }

    /// A buffer of `len` elements with arbitrary contents, charged to the account.
    pub fn allocate(&self, op: &str, len: usize, account: Option<&Arc<Account>>) -> Result<Buffer> {
        Buffer::new(op, len, &self.buffers, account)
    }

    /// Calls `body` with the number of the thread (below [`CpuDevice::threads`], no two at
    /// a time the same) and each of `0..items`, on several threads where the whole is worth
    /// it. `cost` is in multiply-adds. Threads take the next item when done with one.
    pub fn parallel(&self, items: usize, cost: usize, body: impl Fn(usize, usize) + Sync) {
        let threads = self.threads().min(items);
        if threads <= 1 || cost < INLINE_COST {
            return (0..items).for_each(|item| body(0, item));
        }
        let next = AtomicUsize::new(0);
        let work = |thread| {
            loop {
                let item = next.fetch_add(1, Relaxed);
                if item >= items {
                    break;
                }
                body(thread, item);
            }
        };
        self.threads.install(|| {
            rayon::scope(|scope| {
                let work = &work;
                for thread in 1..threads {
                    scope.spawn(move |_| work(thread));
                }
                work(0);
            });
        });
    }

    /// Splits `out` into rows of `width` and calls `body` with the index of the first row
    /// and the rows of each part. `cost` is for a row, in multiply-adds.
    pub fn parallel_rows(
        &self,
        out: &mut [f32],
        width: usize,
        cost: usize,
        body: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        use rayon::prelude::*;
        let rows = out.len() / width;
        if self.threads() == 1 || rows.saturating_mul(cost) < INLINE_COST {
            return body(0, out);
        }
        let part_rows = rows
            .div_ceil(4 * self.threads())
            .max(INLINE_COST / 8 / cost.max(1))
            .max(1);
        self.threads.install(|| {
            out.par_chunks_mut(part_rows * width)
                .enumerate()
                .for_each(|(part, rows)| body(part * part_rows, rows));
        });
    }
}
