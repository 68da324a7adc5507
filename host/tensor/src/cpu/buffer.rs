//! Aligned, recycled memory that is charged to an account while it lives.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::memory::{LINE, Slabs, Words};
use crate::Account;
use crate::error::{Result, bail};

/// Bytes that the pool keeps for the next buffers. Enough for the activations of a large
/// batch, so that they are not unmapped and faulted in again for every operation.
const CACHED_BYTES_LIMIT: usize = 96 << 20;

/// Allocations that the pool keeps.
const CACHED_LIMIT: usize = 64;

/// Allocations that wait for their next use, the longest waiting first.
#[derive(Default)]
pub(super) struct BufferPool {
    cached: Mutex<VecDeque<Words>>,
}

impl BufferPool {
    /// The best fitting allocation of at least `len` elements, and no more than twice that or
    /// than a new one would have; of equals the one used last, which is likely still in a cache.
    fn take(&self, len: usize) -> Option<Words> {
        let most = Words::len_of(size_class(len)).max(len.saturating_mul(2));
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |data: &Words| (len..=most).contains(&data.len());
        let (index, _) = cached
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, data)| fits(data))
            .min_by_key(|(_, data)| data.len())?;
        cached.remove(index)
    }

    /// Keeps an allocation, and lets those go that waited longest where it gets too much.
    fn put(&self, data: Words) {
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

/// `f32` elements, aligned to a cache line. Off the account when dropped, and back to the
/// pool they came from.
pub(crate) struct Buffer {
    /// Always there until dropped.
    data: Option<Words>,
    start: usize,
    len: usize,
    pool: Option<Arc<BufferPool>>,
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
        let wanted = len.saturating_add(LINE);
        let data = pool.take(wanted).or_else(|| Words::new(size_class(wanted)));
        let Some(data) = data else {
            if let Some(account) = account {
                account.return_bytes(charged_bytes(len));
            }
            return refused(op, len);
        };
        let start = match data.as_slice().as_ptr().align_offset(LINE * 4) {
            offset if offset < LINE => offset,
            _ => 0,
        };
        Ok(Self {
            data: Some(data),
            start,
            len,
            pool: Some(pool.clone()),
            account: account.cloned(),
        })
    }

    /// `len` zeros that stay for long, beside others of the kind.
    pub(super) fn lasting(op: &str, len: usize, slabs: &Slabs) -> Result<Self> {
        let Some(data) = slabs.take(len) else {
            return refused(op, len);
        };
        Ok(Self {
            data: Some(data),
            start: 0,
            len,
            pool: None,
            account: None,
        })
    }

    /// The elements.
    pub fn as_slice(&self) -> &[f32] {
        let data = self.data.as_ref().map_or(&[][..], Words::as_slice);
        &data[self.start..][..self.len]
    }

    /// The elements, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        let data = self.data.as_mut().map_or(&mut [][..], Words::as_mut_slice);
        &mut data[self.start..][..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let (Some(pool), Some(data)) = (&self.pool, self.data.take()) {
            pool.put(data);
        }
        if let Some(account) = &self.account {
            account.return_bytes(charged_bytes(self.len));
        }
    }
}

fn refused(op: &str, len: usize) -> Result<Buffer> {
    bail!(
        QuotaExceeded,
        "{op}: the system has no {} bytes",
        charged_bytes(len)
    )
}

/// What a buffer of `len` elements is charged: whole cache lines.
fn charged_bytes(len: usize) -> u64 {
    (len as u64).next_multiple_of(LINE as u64) * 4
}

/// The next of eight sizes between two powers of two: few sizes are met often.
fn size_class(len: usize) -> usize {
    let step = (len.checked_next_power_of_two().unwrap_or(len) / 16).max(LINE);
    len.checked_next_multiple_of(step).unwrap_or(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Around the size from which on memory is mapped, and that of a huge page.
    #[test]
    fn what_comes_back_is_used_again() {
        let pool = Arc::default();
        for kilobytes in [4, 900, 984, 1000, 1024, 1030, 1990, 2040, 2048, 2060, 5000] {
            let buffer = || Buffer::new("test", kilobytes * 256, &pool, None).unwrap();
            let first = buffer().as_slice().as_ptr();
            assert_eq!(buffer().as_slice().as_ptr(), first, "of {kilobytes} KB");
            assert_eq!(pool.cached.lock().unwrap().len(), 1, "of {kilobytes} KB");
            pool.cached.lock().unwrap().clear();
        }
    }
}
