//! The processor as a device: its threads, its instructions, its buffers.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
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
/// calling thread. Within a forward pass the others are awake and join in about a microsecond:
/// with four times as much, attention over 16 rows and norms of 128 made a pass 1 to 7 % slower.
const INLINE_COST: usize = 100_000;

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
    /// it. `cost` is in multiply-adds.
    ///
    /// Each thread has its own share of the items, in order, and then takes what is left of
    /// the others', from their ends. Items follow the rows, so that a thread finds in its own
    /// cache what it wrote in the operation before.
    pub fn parallel(&self, items: usize, cost: usize, body: impl Fn(usize, usize) + Sync) {
        let threads = self.threads().min(items);
        if threads <= 1 || cost < INLINE_COST || items > MAX_ITEMS {
            return (0..items).for_each(|item| body(0, item));
        }
        let share = |thread| items * thread / threads..items * (thread + 1) / threads;
        let shares: Vec<Share> = (0..threads).map(share).map(Share::new).collect();
        self.team.run(threads - 1, &|thread| {
            // More threads than were called may come: they have no share.
            let (before, rest) = shares.split_at(thread.min(threads));
            let (own, after) = rest.split_at(rest.len().min(1));
            for share in own {
                while let Some(item) = share.take_first() {
                    body(thread, item);
                }
            }
            for share in after.iter().chain(before) {
                while let Some(item) = share.take_last() {
                    body(thread, item);
                }
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
        let parts: Vec<_> = out.chunks_mut(part_rows * width).map(Mutex::new).collect();
        self.parallel(parts.len(), total, |_, part| {
            // Taken once each: the lock is free.
            let mut rows = parts[part].lock().unwrap_or_else(PoisonError::into_inner);
            body(part * part_rows, &mut rows);
        });
    }
}

/// The most items that shares can hold.
const MAX_ITEMS: usize = u32::MAX as usize;

/// Items that nobody has taken yet: the first in the lower half of the word, their end in the
/// upper. It has a cache line of its own.
#[repr(align(64))]
struct Share(AtomicU64);

impl Share {
    /// All of `items`, which end at [`MAX_ITEMS`] at the latest.
    fn new(items: Range<usize>) -> Self {
        Self(AtomicU64::new(
            (items.end as u64) << 32 | items.start as u64,
        ))
    }

    fn take_first(&self) -> Option<usize> {
        self.take(|left| left.start, |left| left.start + 1..left.end)
    }

    fn take_last(&self) -> Option<usize> {
        self.take(|left| left.end - 1, |left| left.start..left.end - 1)
    }

    /// Takes `item` of those that are left, after which `rest` is.
    fn take(
        &self,
        item: impl Fn(Range<u32>) -> u32,
        rest: impl Fn(Range<u32>) -> Range<u32>,
    ) -> Option<usize> {
        let items = |word: u64| word as u32..(word >> 32) as u32;
        let taken = self.0.fetch_update(Relaxed, Relaxed, |word| {
            let left = items(word);
            (!left.is_empty()).then(|| {
                let rest = rest(left);
                u64::from(rest.end) << 32 | u64::from(rest.start)
            })
        });
        taken.ok().map(|word| item(items(word)) as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::{Duration, Instant};

    use super::*;

    /// How often each of `items` was done.
    fn counts(device: &CpuDevice, items: usize, body: impl Fn(usize) + Sync) -> Vec<usize> {
        let counts: Vec<_> = (0..items).map(|_| AtomicUsize::new(0)).collect();
        device.parallel(items, usize::MAX, |thread, item| {
            assert!(thread < device.threads());
            counts[item].fetch_add(1, Relaxed);
            body(item);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_item_is_done_once_whoever_calls() {
        let device = CpuDevice::new(3, Level::Portable).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for round in 0..600 {
                        let items = round % 20;
                        assert_eq!(counts(&device, items, |_| ()), vec![1; items]);
                    }
                });
            }
        });
    }

    #[test]
    fn what_one_thread_is_held_up_from_others_do() {
        let device = CpuDevice::new(2, Level::Portable).unwrap();
        let done = AtomicUsize::new(0);
        let started = Instant::now();
        let patience = Duration::from_secs(20);
        let counts = counts(&device, 16, |item| {
            // Whoever has the first item does no other before all of them are done.
            while item == 0 && done.load(Relaxed) < 15 && started.elapsed() < patience {
                std::thread::yield_now();
            }
            done.fetch_add(1, Relaxed);
        });
        assert_eq!(counts, vec![1; 16]);
        assert!(started.elapsed() < patience, "nobody took the rest");
    }
}
