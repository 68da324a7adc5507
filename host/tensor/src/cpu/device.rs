//! The processor as a device: its threads, its instructions, its buffers.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::Level;
use super::buffer::{Buffer, BufferPool};
use super::memory::Slabs;
use super::team::Team;
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
    team: Team,
    buffers: Arc<BufferPool>,
    slabs: Slabs,
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
        let team = Team::new(threads)
            .map_err(|error| Error::Other(format!("device: cannot start threads: {error}")))?;
        Ok(Self {
            level,
            team,
            buffers: Arc::default(),
            slabs: Slabs::default(),
        })
    }

    /// The instructions in use.
    pub fn level(&self) -> Level {
        self.level
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.team.members()
    }

    /// A buffer of `len` elements with arbitrary contents, charged to the account.
    pub fn allocate(&self, op: &str, len: usize, account: Option<&Arc<Account>>) -> Result<Buffer> {
        Buffer::new(op, len, &self.buffers, account)
    }

    /// A buffer of `len` zeros for a weight, charged to nobody.
    pub fn allocate_weight(&self, len: usize) -> Result<Buffer> {
        Buffer::lasting("weights", len, &self.slabs)
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
        self.team.run(threads - 1, &|thread| {
            loop {
                let item = next.fetch_add(1, Relaxed);
                if item >= items {
                    break;
                }
                body(thread, item);
            }
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
        let rows = out.len() / width;
        let total = rows.saturating_mul(cost);
        if self.threads() == 1 || total < INLINE_COST {
            return body(0, out);
        }
        let part_rows = rows
            .div_ceil(4 * self.threads())
            .max(INLINE_COST / 8 / cost.max(1))
            .max(1);
        let parts = out.chunks_mut(part_rows * width).enumerate();
        let count = parts.len();
        let parts = Mutex::new(parts);
        self.parallel(count, total, |_, _| {
            // A part that panicked is gone; the others are whole.
            let part = parts.lock().unwrap_or_else(PoisonError::into_inner).next();
            if let Some((part, rows)) = part {
                body(part * part_rows, rows);
            }
        });
    }
}
