//! The driver: whether it is there, a device's context, and the stream that its work is queued in.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::marker::PhantomData;

use cudarc::driver::result::{self, DriverError, ctx, device, primary_ctx, stream};
use cudarc::driver::sys;

use crate::error::{Error, Result, bail};

/// How many CUDA devices there are; or why there can be none.
pub(crate) fn device_count() -> Result<usize> {
    // SAFETY: loads libraries by name and runs their initialisers, as the loader would for a
    // program that is linked with them. Each is asked for here, before anything is called that
    // would panic without it.
    let missing = unsafe {
        [
            ("libcuda, the driver", sys::is_culib_present()),
            ("libcublasLt", cudarc::cublaslt::sys::is_culib_present()),
            ("libnvrtc", cudarc::nvrtc::sys::is_culib_present()),
        ]
    };
    if let Some((name, _)) = missing.iter().find(|(_, present)| !present) {
        bail!(Unsupported, "cuda: there is no {name}");
    }
    let unusable = |error| Error::Unsupported(format!("cuda: {}", text(error)));
    result::init().map_err(unusable)?;
    let count = device::get_count().map_err(unusable)?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// What the driver says of an error.
fn text(error: DriverError) -> String {
    match error.error_name() {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => format!("{:?}", error.0),
    }
}

/// The error of an operation that the driver refused. All but a lack of something, and what the
/// driver refuses before it begins, mean that the context can no longer be used.
pub(super) fn failure(op: &str, error: DriverError) -> Error {
    use sys::CUresult as Code;
    match error.0 {
        Code::CUDA_ERROR_OUT_OF_MEMORY => {
            Error::Other(format!("{op}: the device has no memory left"))
        }
        Code::CUDA_ERROR_INVALID_VALUE
        | Code::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES
        | Code::CUDA_ERROR_NOT_SUPPORTED => Error::Other(format!("{op}: {}", text(error))),
        // What ends a recording, not the device.
        Code::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
        | Code::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
        | Code::CUDA_ERROR_STREAM_CAPTURE_UNMATCHED
        | Code::CUDA_ERROR_STREAM_CAPTURE_UNJOINED
        | Code::CUDA_ERROR_STREAM_CAPTURE_ISOLATION
        | Code::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT => {
            Error::Unsupported(format!("{op}: it cannot be recorded: {}", text(error)))
        }
        _ => Error::DeviceLost(format!("{op}: {}", text(error))),
    }
}

/// Where work is queued: a stream, or one whose work is recorded.
#[derive(Clone, Copy)]
pub(super) struct Queue<'a> {
    raw: sys::CUstream,
    _lives: PhantomData<&'a ()>,
}

impl Queue<'_> {
    /// The queue of a stream that lives as long as the queue.
    pub fn new(raw: sys::CUstream) -> Self {
        Self {
            raw,
            _lives: PhantomData,
        }
    }

    /// The driver's handle.
    pub fn raw(self) -> sys::CUstream {
        self.raw
    }
}

/// A device's context and the one stream of its work: operations run in the order in which they
/// are queued.
pub(super) struct Stream {
    device: sys::CUdevice,
    context: sys::CUcontext,
    raw: sys::CUstream,
}

// SAFETY: the driver's handles may be used from any thread, several at a time.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    /// Retains the context of a device, of which there are more than `ordinal`.
    pub fn open(ordinal: usize) -> Result<Self> {
        const OP: &str = "cuda";
        let failed = |error| failure(OP, error);
        let ordinal = c_int::try_from(ordinal)
            .map_err(|_| Error::InvalidArgument(format!("{OP}: device {ordinal}")))?;
        let device = device::get(ordinal).map_err(failed)?;
        // SAFETY: the device is one that the driver gave.
        let context = unsafe { primary_ctx::retain(device) }.map_err(failed)?;
        let mut opened = Self {
            device,
            context,
            raw: std::ptr::null_mut(),
        };
        opened.enter(OP)?;
        opened.raw = stream::create(stream::StreamKind::NonBlocking).map_err(failed)?;
        opened.keep_freed_memory();
        Ok(opened)
    }

    /// Freed memory stays with the device's pool: getting it back from the system is slow. A
    /// driver that cannot do so is slower, not wrong.
    fn keep_freed_memory(&self) {
        let mut threshold = u64::MAX;
        // SAFETY: the device is the driver's, and the attribute is 64 bits wide.
        let _ = unsafe {
            device::get_default_mem_pool(self.device).and_then(|pool| {
                let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
                result::mem_pool::set_attribute(pool, attribute, (&raw mut threshold).cast())
            })
        };
    }

    /// Gives memory that is free, or will be when everything queued is done, back to the device:
    /// others may hold what is wanted, and the pool's pieces may be too small. The context is
    /// current.
    pub fn give_back_freed_memory(&self, op: &str) -> Result<()> {
        self.synchronize(op)?;
        // SAFETY: the device is the driver's.
        unsafe {
            device::get_default_mem_pool(self.device)
                .and_then(|pool| result::mem_pool::trim_to(pool, 0))
        }
        .map_err(|error| failure(op, error))
    }

    /// Makes the device's context that of the calling thread.
    pub fn enter(&self, op: &str) -> Result<()> {
        // SAFETY: the context is retained until this is dropped.
        unsafe { ctx::set_current(self.context) }.map_err(|error| failure(op, error))
    }

    /// Waits for everything that was queued.
    pub fn synchronize(&self, op: &str) -> Result<()> {
        // SAFETY: the stream lives as long as this.
        unsafe { stream::synchronize(self.raw) }.map_err(|error| failure(op, error))
    }

    /// The device's name.
    pub fn name(&self) -> Result<String> {
        device::get_name(self.device).map_err(|error| failure("cuda", error))
    }

    /// The compute capability: 9 and 0 of an H100.
    pub fn compute_capability(&self) -> Result<(i32, i32)> {
        let attribute = |attribute| {
            // SAFETY: the device is the driver's.
            unsafe { device::get_attribute(self.device, attribute) }
                .map_err(|error| failure("cuda", error))
        };
        type Attribute = sys::CUdevice_attribute;
        Ok((
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ))
    }

    /// Where its work is queued.
    pub fn queue(&self) -> Queue<'_> {
        Queue::new(self.raw)
    }

    /// The driver's handle.
    pub fn raw(&self) -> sys::CUstream {
        self.raw
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // After an error of the device nothing can be given back.
        if self.enter("cuda").is_err() {
            return;
        }
        // SAFETY: nobody else has the handles; what was queued still runs.
        unsafe {
            if !self.raw.is_null() {
                let _ = stream::destroy(self.raw);
            }
            let _ = primary_ctx::release(self.device);
        }
    }
}
