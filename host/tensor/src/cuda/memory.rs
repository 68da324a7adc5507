//! Device memory: allocated, filled, read and freed in the order of the stream.
#![allow(unsafe_code)]

use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::result;
use cudarc::driver::sys::{CUdeviceptr, CUevent, CUevent_flags};

use super::CudaDevice;
use super::driver::{Stream, failure};
use crate::Account;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// Bytes of device memory. They are freed after everything that was queued before the drop.
pub(super) struct Allocation {
    stream: Arc<Stream>,
    address: CUdeviceptr,
    bytes: usize,
}

impl Allocation {
    /// Memory with arbitrary contents, aligned to 256 bytes. The stream's context is current.
    pub fn new(op: &str, stream: &Arc<Stream>, bytes: usize) -> Result<Self> {
        // SAFETY: the stream lives as long as the allocation. Nothing reads the memory but
        // operations that are queued in this stream, and each is queued after one that wrote
        // all of it.
        let address = unsafe { result::malloc_async(stream.raw(), bytes.max(1)) };
        let address = address.map_err(|error| match failure(op, error) {
            Error::Other(text) => Error::Other(format!("{text}, {bytes} bytes were wanted")),
            lost => lost,
        })?;
        Ok(Self {
            stream: stream.clone(),
            address,
            bytes,
        })
    }

    /// As [`Allocation::new`], but zeros.
    pub fn zeros(op: &str, stream: &Arc<Stream>, bytes: usize) -> Result<Self> {
        let allocation = Self::new(op, stream, bytes)?;
        // SAFETY: the memory has so many bytes and is this stream's.
        unsafe { result::memset_d8_async(allocation.address, 0, bytes, stream.raw()) }
            .map_err(|error| failure(op, error))?;
        Ok(allocation)
    }

    /// Where it is on the device.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// How much it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies bytes to `offset`. They may change as soon as this returns.
    fn write(&self, op: &str, offset: usize, bytes: &[u8]) -> Result<()> {
        let end = offset.checked_add(bytes.len());
        if end.is_none_or(|end| end > self.bytes) {
            return Err(Error::Other(format!("{op}: a copy beyond a buffer's end")));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let to = self.address + offset as u64;
        // SAFETY: the range is inside of the allocation, and the host's memory is pageable: the
        // driver has a copy of it when this returns.
        unsafe { result::memcpy_htod_async(to, bytes, self.stream.raw()) }
            .map_err(|error| failure(op, error))
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // After an error of the device its memory is gone with its context.
        if self.stream.enter("free").is_ok() {
            // SAFETY: nobody has the address any more but operations that are queued already.
            let _ = unsafe { result::free_async(self.address, self.stream.raw()) };
        }
    }
}

/// Elements on a device, charged to an account while they live.
pub(crate) struct DeviceBuffer {
    memory: Allocation,
    dtype: DType,
    device: Arc<CudaDevice>,
    account: Option<Arc<Account>>,
}

impl DeviceBuffer {
    /// A buffer of `elements` with arbitrary contents: the caller overwrites all of them.
    pub fn new(
        op: &str,
        device: &Arc<CudaDevice>,
        account: Option<&Arc<Account>>,
        dtype: DType,
        elements: usize,
    ) -> Result<Self> {
        let bytes = elements * dtype.size();
        device.stream().enter(op)?;
        if let Some(account) = account {
            account.charge_bytes(op, bytes as u64)?;
        }
        let memory = Allocation::new(op, device.stream(), bytes).inspect_err(|_| {
            if let Some(account) = account {
                account.return_bytes(bytes as u64);
            }
        })?;
        Ok(Self {
            memory,
            dtype,
            device: device.clone(),
            account: account.cloned(),
        })
    }

    /// Copies stored elements to byte `offset`.
    pub fn write(&self, op: &str, offset: usize, bytes: &[u8]) -> Result<()> {
        self.device.stream().enter(op)?;
        self.memory.write(op, offset, bytes)
    }

    /// The elements' type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device that it is on.
    pub fn device(&self) -> &Arc<CudaDevice> {
        &self.device
    }

    /// Where it is on the device.
    pub(super) fn address(&self) -> u64 {
        self.memory.address()
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            account.return_bytes(self.memory.bytes() as u64);
        }
    }
}

/// Host memory that the device writes without a copy of the driver's, kept for the next read.
#[derive(Default)]
pub(super) struct ReadBack {
    pinned: Mutex<Option<Pinned>>,
}

struct Pinned {
    stream: Arc<Stream>,
    words: *mut u32,
    len: usize,
    /// Comes after the copies: what others queue behind them is not waited for.
    copied: CUevent,
}

// SAFETY: the memory is owned, and only reached through the mutex.
unsafe impl Send for Pinned {}

impl Pinned {
    fn new(op: &str, stream: &Arc<Stream>, len: usize) -> Result<Self> {
        let failed = |error| failure(op, error);
        let flags = CUevent_flags::CU_EVENT_DISABLE_TIMING;
        let copied = result::event::create(flags).map_err(failed)?;
        // SAFETY: what is returned is freed once, when this is dropped. Flags 0: cached memory.
        let memory = unsafe { result::malloc_host(len * 4, 0) };
        Ok(Self {
            stream: stream.clone(),
            words: memory.map_err(failed)?.cast(),
            len,
            copied,
        })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.stream.enter("free").is_ok() {
            // SAFETY: allocated by `malloc_host`; no copy into it is under way, since every read
            // waits, and nobody else has the event.
            let _ = unsafe {
                result::event::destroy(self.copied).and(result::free_host(self.words.cast()))
            };
        }
    }
}

impl ReadBack {
    /// Waits for the device and reads the words at each of `sources`: address and length. Their
    /// memory is part of live allocations of this stream.
    pub fn words(
        &self,
        op: &str,
        stream: &Arc<Stream>,
        sources: &[(u64, usize)],
    ) -> Result<Vec<u32>> {
        let len = sources.iter().map(|(_, len)| len).sum::<usize>();
        stream.enter(op)?;
        let mut kept = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let pinned = match kept.take() {
            Some(pinned) if pinned.len >= len => pinned,
            _ => Pinned::new(op, stream, len.next_power_of_two())?,
        };
        let mut start = 0;
        for &(address, words) in sources {
            // SAFETY: `pinned` has `len` words; the ranges do not overlap, and nobody else
            // reaches them before the device is done, which is waited for below, whatever
            // happens.
            let queued = unsafe {
                let to = std::slice::from_raw_parts_mut(pinned.words.add(start), words);
                result::memcpy_dtoh_async(to, address, stream.raw())
            };
            if let Err(error) = queued {
                let _ = stream.synchronize(op);
                return Err(failure(op, error));
            }
            start += words;
        }
        // SAFETY: the event and the stream are alive.
        let waited = unsafe {
            result::event::record(pinned.copied, stream.raw())
                .and_then(|()| result::event::synchronize(pinned.copied))
        };
        if let Err(error) = waited {
            let _ = stream.synchronize(op);
            return Err(failure(op, error));
        }
        // SAFETY: the device has written all `len` words.
        let read = unsafe { std::slice::from_raw_parts(pinned.words, len) }.to_vec();
        *kept = Some(pinned);
        Ok(read)
    }
}
