//! Work that is recorded instead of done, and done again and again as one launch (CUDA graphs).
#![allow(unsafe_code)]

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use cudarc::driver::{result, sys};

use super::driver::{Queue, Stream, failure};
use crate::error::{Error, Result};

/// A stream whose work is recorded: it is this one's, so that what others queue meanwhile is not.
pub(super) struct Capture {
    raw: sys::CUstream,
    /// Whether it still records.
    open: AtomicBool,
    stream: Arc<Stream>,
}

// SAFETY: the driver's handles may be used from any thread, and in this mode a capture may end in
// another one than it began in.
unsafe impl Send for Capture {}
// SAFETY: as above.
unsafe impl Sync for Capture {}

impl Capture {
    /// Begins to record for the stream's device.
    pub fn begin(op: &str, stream: &Arc<Stream>) -> Result<Self> {
        stream.enter(op)?;
        let failed = |error| failure(op, error);
        let raw =
            result::stream::create(result::stream::StreamKind::NonBlocking).map_err(failed)?;
        let capture = Self {
            raw,
            open: AtomicBool::new(false),
            stream: stream.clone(),
        };
        // Relaxed: what this thread does elsewhere meanwhile, as allocating, is not recorded.
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream was just made.
        unsafe { result::stream::begin_capture(raw, mode) }.map_err(failed)?;
        capture.open.store(true, Relaxed);
        Ok(capture)
    }

    /// Where work is recorded.
    pub fn queue(&self) -> Queue<'_> {
        Queue::new(self.raw)
    }

    /// Ends the record.
    pub fn end(&self, op: &str) -> Result<Graph> {
        self.stream.enter(op)?;
        if !self.open.swap(false, Relaxed) {
            return Err(Error::Other(format!("{op}: nothing is recorded")));
        }
        // SAFETY: the stream captures.
        let graph = unsafe { result::stream::end_capture(self.raw) };
        let graph = graph.map_err(|error| failure(op, error))?;
        let flags = sys::CUgraphInstantiate_flags(0);
        // SAFETY: the graph is the driver's, and this one's alone.
        let exec = unsafe {
            let exec = result::graph::instantiate(graph, flags);
            let _ = result::graph::destroy(graph);
            exec
        };
        Ok(Graph {
            exec: exec.map_err(|error| failure(op, error))?,
            stream: self.stream.clone(),
        })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if self.stream.enter("cuda").is_err() {
            return;
        }
        // SAFETY: the stream is this one's, and what it recorded nobody else's.
        unsafe {
            if self.open.load(Relaxed) {
                let mut graph = ptr::null_mut();
                let ended = sys::cuStreamEndCapture(self.raw, &raw mut graph).result();
                if ended.is_ok() && !graph.is_null() {
                    let _ = result::graph::destroy(graph);
                }
            }
            let _ = result::stream::destroy(self.raw);
        }
    }
}

/// Recorded work.
pub(super) struct Graph {
    exec: sys::CUgraphExec,
    stream: Arc<Stream>,
}

// SAFETY: the driver's handles may be used from any thread.
unsafe impl Send for Graph {}
// SAFETY: as above; a launch does not change it.
unsafe impl Sync for Graph {}

impl Graph {
    /// Queues the work.
    pub fn launch(&self, op: &str) -> Result<()> {
        self.stream.enter(op)?;
        // SAFETY: the graph is alive; what it reads and writes is kept by whoever recorded it.
        unsafe { result::graph::launch(self.exec, self.stream.raw()) }
            .map_err(|error| failure(op, error))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.stream.enter("cuda").is_ok() {
            // SAFETY: nobody else has it; what was queued still runs.
            let _ = unsafe { result::graph::exec_destroy(self.exec) };
        }
    }
}
