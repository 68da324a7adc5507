//! Device memory: allocated, filled, read and freed in the order of the stream.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdeviceptr, CUevent, CUevent_flags, CUresult};

use super::CudaDevice;
use super::driver::{Queue, Stream, failure};
use super::pool::{Pool, Pooled};
use crate::Account;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// The least pinned memory at a time.
const MIN_PINNED_BYTES: usize = 64 << 10;

/// Uploads that may be under way.
const MAX_STAGED: usize = 64;

/// Bytes of device memory. They are freed after everything that was queued before the drop.
pub(super) struct Allocation {
    stream: Arc<Stream>,
    address: CUdeviceptr,
    bytes: usize,
}

impl Allocation {
    /// Memory with arbitrary contents, aligned to 256 bytes. The stream's context is current.
    /// Where there is none left, it waits for what is still to be freed.
    pub fn new(op: &str, stream: &Arc<Stream>, bytes: usize) -> Result<Self> {
        // SAFETY: the stream lives as long as the allocation. Nothing reads the memory but
        // operations that are queued in this stream, and each is queued after one that wrote
        // all of it.
        let allocate = || unsafe { result::malloc_async(stream.raw(), bytes.max(1)) };
        let mut address = allocate();
        if let Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) = address {
            stream.give_back_freed_memory(op)?;
            address = allocate();
        }
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
        allocation.clear(op)?;
        Ok(allocation)
    }

    /// Overwrites it with zeros. The stream's context is current.
    pub fn clear(&self, op: &str) -> Result<()> {
        // SAFETY: the memory has so many bytes and is this stream's.
        unsafe { result::memset_d8_async(self.address, 0, self.bytes, self.stream.raw()) }
            .map_err(|error| failure(op, error))
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
    fn write(&self, op: &str, staging: &Staging, offset: usize, bytes: &[u8]) -> Result<()> {
        let end = offset.checked_add(bytes.len());
        if end.is_none_or(|end| end > self.bytes) {
            return Err(Error::Other(format!("{op}: a copy beyond a buffer's end")));
        }
        let to = self.address + offset as u64;
        staging.with_copy(op, &self.stream, bytes, |pinned| {
            // SAFETY: the range is inside of the allocation; the pinned bytes stay as they are
            // until the copy is done.
            unsafe { result::memcpy_htod_async(to, pinned, self.stream.raw()) }
        })
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
    memory: Pooled,
    bytes: usize,
    dtype: DType,
    device: Arc<CudaDevice>,
    account: Option<Arc<Account>>,
    /// The same elements in 16 bits, where products have asked for that.
    rounded: OnceLock<Arc<DeviceBuffer>>,
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
        Self::within(None, op, device, account, dtype, elements)
    }

    /// As [`DeviceBuffer::new`], in memory that is kept in `pool` where there is one.
    pub(super) fn within(
        pool: Option<&Arc<Pool>>,
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
        let memory = Pooled::new(pool, op, device.stream(), bytes).inspect_err(|_| {
            if let Some(account) = account {
                account.return_bytes(bytes as u64);
            }
        })?;
        Ok(Self {
            memory,
            bytes,
            dtype,
            device: device.clone(),
            account: account.cloned(),
            rounded: OnceLock::new(),
        })
    }

    /// How many elements there are.
    pub(super) fn elements(&self) -> usize {
        self.bytes / self.dtype.size()
    }

    /// Whether it is a weight's: it stays, and no component pays for it.
    pub(super) fn is_weight(&self) -> bool {
        self.account.is_none()
    }

    /// Keeps the elements in another type, unless that was done before.
    pub(super) fn keep_rounded(&self, rounded: Arc<DeviceBuffer>) {
        let _ = self.rounded.set(rounded);
    }

    /// What was kept.
    pub(super) fn rounded(&self) -> Option<&Arc<DeviceBuffer>> {
        self.rounded.get()
    }

    /// Copies stored elements to byte `offset`.
    pub fn write(&self, op: &str, offset: usize, bytes: &[u8]) -> Result<()> {
        self.device.stream().enter(op)?;
        let staging = self.device.staging();
        self.memory.allocation().write(op, staging, offset, bytes)
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
        self.memory.allocation().address()
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            account.return_bytes(self.bytes as u64);
        }
    }
}

/// Host memory that the device reads and writes by itself, and when it is done with that.
pub(super) struct Pinned {
    stream: Arc<Stream>,
    data: *mut u8,
    len: usize,
    /// Comes after the copies: what others queue behind them is not waited for.
    copied: CUevent,
}

// SAFETY: the memory is owned, and nobody else has the event.
unsafe impl Send for Pinned {}

impl Pinned {
    /// At least `len` bytes; the stream's context is current.
    pub fn new(op: &str, stream: &Arc<Stream>, len: usize) -> Result<Self> {
        let failed = |error| failure(op, error);
        let len = len.next_power_of_two().max(MIN_PINNED_BYTES);
        let flags = CUevent_flags::CU_EVENT_DISABLE_TIMING;
        let copied = result::event::create(flags).map_err(failed)?;
        // SAFETY: what is returned is freed once, when this is dropped. Flags 0: cached memory.
        let data = unsafe { result::malloc_host(len, 0) };
        let data = data.inspect_err(|_| {
            // SAFETY: nobody has the event.
            let _ = unsafe { result::event::destroy(copied) };
        });
        let data: *mut u8 = data.map_err(failed)?.cast();
        // SAFETY: so many bytes were allocated; from here on they are initialised.
        unsafe { data.write_bytes(0, len) };
        Ok(Self {
            stream: stream.clone(),
            data,
            len,
            copied,
        })
    }

    /// The bytes. No copy of them is under way.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `data` has `len` bytes, which are this one's, and the caller waited for copies.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.len) }
    }

    /// Records a copy of the bytes from `start` on to an address of the device, where there is
    /// room for `len`: they are read whenever the recording runs.
    pub fn record_upload(
        &self,
        op: &str,
        recorded: Queue<'_>,
        start: usize,
        len: usize,
        to: u64,
    ) -> Result<()> {
        let from = self.part(op, start, len)?;
        // SAFETY: the range is inside of this, which the recording owns, so that it is there when
        // the copy runs; nobody writes to it while the recording runs.
        let queued = unsafe {
            sys::cuMemcpyHtoDAsync_v2(to, from.cast_const().cast(), len, recorded.raw()).result()
        };
        queued.map_err(|error| failure(op, error))
    }

    /// The other way round.
    pub fn record_read_back(
        &self,
        op: &str,
        recorded: Queue<'_>,
        start: usize,
        len: usize,
        from: u64,
    ) -> Result<()> {
        let to = self.part(op, start, len)?;
        // SAFETY: as for `record_upload`; nobody reads it while the recording runs.
        let queued =
            unsafe { sys::cuMemcpyDtoHAsync_v2(to.cast(), from, len, recorded.raw()).result() };
        queued.map_err(|error| failure(op, error))
    }

    fn part(&self, op: &str, start: usize, len: usize) -> Result<*mut u8> {
        match start.checked_add(len) {
            // SAFETY: the start is inside of the memory.
            Some(end) if end <= self.len => Ok(unsafe { self.data.add(start) }),
            _ => Err(Error::Other(format!("{op}: a copy beyond pinned memory"))),
        }
    }

    /// Marks the end of the copies that were queued.
    pub fn mark(&self, op: &str) -> Result<()> {
        // SAFETY: event and stream are alive.
        unsafe { result::event::record(self.copied, self.stream.raw()) }
            .map_err(|error| failure(op, error))
    }

    /// Waits for the copies before the mark.
    pub fn wait(&self, op: &str) -> Result<()> {
        // SAFETY: the event is alive.
        unsafe { result::event::synchronize(self.copied) }.map_err(|error| failure(op, error))
    }

    /// Whether the copies before the mark are done.
    fn is_done(&self) -> bool {
        // SAFETY: the event is alive.
        unsafe { result::event::query(self.copied) }.is_ok()
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // After an error of the device it may still write: the memory is given up.
        if self.stream.enter("free").is_ok() && self.wait("free").is_ok() {
            // SAFETY: allocated by `malloc_host`, and no copy is under way; nobody else has the
            // event.
            let _ = unsafe {
                result::event::destroy(self.copied).and(result::free_host(self.data.cast()))
            };
        }
    }
}

/// Pinned memory that uploads go through: from any other memory the driver may wait for the
/// stream before it copies.
#[derive(Default)]
pub(super) struct Staging {
    /// The longest used first.
    used: Mutex<VecDeque<Pinned>>,
}

impl Staging {
    /// Calls `copy` with a copy of the bytes that stays as it is until the work that `copy` queues
    /// in the stream is done.
    fn with_copy(
        &self,
        op: &str,
        stream: &Arc<Stream>,
        bytes: &[u8],
        copy: impl FnOnce(&[u8]) -> std::result::Result<(), DriverError>,
    ) -> Result<()> {
        let mut pinned = self.take(op, stream, bytes.len())?;
        let staged = &mut pinned.bytes()[..bytes.len()];
        staged.copy_from_slice(bytes);
        let queued = copy(staged).map_err(|error| failure(op, error));
        pinned.mark(op)?;
        self.lock().push_back(pinned);
        queued
    }

    /// Memory of at least `len` bytes that is no longer read.
    fn take(&self, op: &str, stream: &Arc<Stream>, len: usize) -> Result<Pinned> {
        let mut used = self.lock();
        let free = used.iter().position(|it| it.len >= len && it.is_done());
        if let Some(found) = free.and_then(|index| used.remove(index)) {
            return Ok(found);
        }
        // A full queue is waited for: who uploads faster than the device copies gains nothing.
        let oldest = match used.len() >= MAX_STAGED {
            true => used.pop_front(),
            false => None,
        };
        drop(used);
        match oldest {
            Some(oldest) if oldest.len >= len => oldest.wait(op).map(|()| oldest),
            _ => Pinned::new(op, stream, len),
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Pinned>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pinned memory that read-backs go through, kept for the next.
#[derive(Default)]
pub(super) struct ReadBack {
    kept: Mutex<Option<Pinned>>,
}

impl ReadBack {
    /// Waits for the device and reads the bytes at each of `sources`: address and length. They
    /// are part of live allocations of this stream.
    pub fn bytes(
        &self,
        op: &str,
        stream: &Arc<Stream>,
        sources: &[(u64, usize)],
    ) -> Result<Vec<u8>> {
        let len = sources.iter().map(|(_, len)| len).sum::<usize>();
        stream.enter(op)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pinned = match kept.take() {
            Some(pinned) if pinned.len >= len => pinned,
            _ => Pinned::new(op, stream, len)?,
        };
        let mut rest = &mut pinned.bytes()[..len];
        let mut queued = Ok(());
        for &(address, bytes) in sources {
            let (part, others) = rest.split_at_mut(bytes);
            rest = others;
            // SAFETY: nobody looks at the pinned memory before the device is done, which is
            // waited for below, whatever happens.
            let copy = unsafe { result::memcpy_dtoh_async(part, address, stream.raw()) };
            queued = queued.and(copy.map_err(|error| failure(op, error)));
        }
        pinned.mark(op)?;
        pinned.wait(op)?;
        queued?;
        let read = pinned.bytes()[..len].to_vec();
        *kept = Some(pinned);
        Ok(read)
    }
}
