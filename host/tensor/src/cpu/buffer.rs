//! Aligned, recycled memory that is charged to an account while it lives.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Account;
use crate::error::{Result, bail};

/// Elements in a cache line; every buffer begins on one.
const LINE: usize = 16;

/// Bytes that the pool keeps for the next buffers. Enough for the activations of a large
/// batch, so that they are not unmapped and faulted in again for every operation.
const CACHED_BYTES_LIMIT: usize = 96 << 20;

/// Allocations that the pool keeps.
const CACHED_LIMIT: usize = 64;

/// Allocations that wait for their next use, the longest waiting first.
#[derive(Default)]
pub(super) struct BufferPool {
    cached: Mutex<VecDeque<Vec<f32>>>,
}

impl BufferPool {
    /// The best fitting allocation of at least `len` elements, and less than twice that.
    fn take(&self, len: usize) -> Option<Vec<f32>> {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |data: &Vec<f32>| data.len() >= len && data.len() / 2 <= len;
        let (index, _) = cached
            .iter()
            .enumerate()
            .filter(|(_, data)| fits(data))
            .min_by_key(|(_, data)| data.len())?;
        cached.remove(index)
    }

    /// Keeps an allocation, and lets those go that waited longest where it gets too much.
    fn put(&self, data: Vec<f32>) {
        let mut dropped = Vec::new();
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        cached.push_back(data);
        let mut bytes: usize = cached.iter().map(|data| data.len() * 4).sum();
        while bytes > CACHED_BYTES_LIMIT || cached.len() > CACHED_LIMIT {
            let Some(data) = cached.pop_front() else {
                break;
            };
            bytes -= data.len() * 4;
            dropped.push(data);
        }
    }
}

/// `f32` elements, aligned to a cache line. Goes back to the pool and off the account when
/// dropped.
pub(crate) struct Buffer {
    data: Vec<f32>,
    start: usize,
    len: usize,
    pool: Arc<BufferPool>,
    account: Option<Arc<Account>>,
}

impl Buffer {
    /// Charges and takes `len` elements with arbitrary contents.
    pub(super) fn new(
        op: &str,
        len: usize,
        pool: &Arc<BufferPool>,
        account: Option<&Arc<Account>>,
    ) -> Result<Self> {
        if let Some(account) = account {
            account.charge_bytes(op, charged_bytes(len))?;
        }
        let data = match pool.take(len + LINE) {
            Some(data) => data,
            None => match zeroed(size_class(len + LINE)) {
                Some(data) => data,
                None => {
                    if let Some(account) = account {
                        account.return_bytes(charged_bytes(len));
                    }
                    bail!(
                        QuotaExceeded,
                        "{op}: the system has no {} bytes",
                        charged_bytes(len)
                    )
                }
            },
        };
        let start = match data.as_ptr().align_offset(LINE * 4) {
            offset if offset < LINE => offset,
            _ => 0,
        };
        Ok(Self {
            data,
            start,
            len,
            pool: pool.clone(),
            account: account.cloned(),
        })
    }

    /// The elements.
    pub fn as_slice(&self) -> &[f32] {
        &self.data[self.start..][..self.len]
    }

    /// The elements, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.data[self.start..][..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.put(std::mem::take(&mut self.data));
        if let Some(account) = &self.account {
            account.return_bytes(charged_bytes(self.len));
        }
    }
}

/// What a buffer of `len` elements is charged: whole cache lines.
fn charged_bytes(len: usize) -> u64 {
    (len.next_multiple_of(LINE) * 4) as u64
}

/// The next of eight sizes between two powers of two: few sizes are met often.
fn size_class(len: usize) -> usize {
    let step = (len.next_power_of_two() / 16).max(LINE);
    len.next_multiple_of(step)
}

/// Zeroed elements (untouched pages cost nothing); none where the system refuses.
fn zeroed(len: usize) -> Option<Vec<f32>> {
    // Asked for first because `vec!` aborts where memory is short.
    Vec::<f32>::new().try_reserve_exact(len).ok()?;
    Some(vec![0.0; len])
}
