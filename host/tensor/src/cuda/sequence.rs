//! Sequence boundaries on a device.

use std::sync::{Arc, OnceLock};

use super::operand::OnCuda;
use super::recording::Source;
use super::{CudaDevice, DeviceBuffer};
use crate::SequenceLayout;
use crate::error::Result;

/// What kernels read of a layout: uploaded at the first use, not again for every operation.
#[derive(Default)]
pub(crate) struct LayoutOnDevice {
    cu_seqlens: OnceLock<Arc<DeviceBuffer>>,
    spans: OnceLock<Arc<DeviceBuffer>>,
}

impl LayoutOnDevice {
    /// The offsets of packed sequences, and their end.
    pub(super) fn cu_seqlens(
        &self,
        cuda: &OnCuda,
        layout: &SequenceLayout,
    ) -> Result<Arc<DeviceBuffer>> {
        let source = |cuda: &OnCuda| Source::cu_seqlens(cuda.recorder, layout);
        uploaded(&self.cu_seqlens, cuda, source, || cu_seqlens(layout))
    }

    /// Start, length and excluded rows of each sequence.
    pub(super) fn spans(
        &self,
        cuda: &OnCuda,
        layout: &SequenceLayout,
    ) -> Result<Arc<DeviceBuffer>> {
        let source = |cuda: &OnCuda| Source::spans(cuda.recorder, layout);
        uploaded(&self.spans, cuda, source, || spans(layout))
    }
}

/// The first row of each sequence, and one past the last row of all.
pub(super) fn cu_seqlens(layout: &SequenceLayout) -> Vec<u32> {
    let starts = layout.spans().iter().map(|span| span.start as u32);
    starts.chain([layout.end() as u32]).collect()
}

/// Start, length and excluded rows of each sequence.
pub(super) fn spans(layout: &SequenceLayout) -> Vec<u32> {
    let spans = layout.spans().iter();
    let words = spans.flat_map(|span| [span.start, span.length, span.excluded]);
    words.map(|word| word as u32).collect()
}

/// What is in `cell` if it is on this device, else a new upload, which is kept if it is the first.
fn uploaded(
    cell: &OnceLock<Arc<DeviceBuffer>>,
    cuda: &OnCuda,
    source: impl Fn(&OnCuda) -> Source,
    words: impl Fn() -> Vec<u32>,
) -> Result<Arc<DeviceBuffer>> {
    let is_here = |buffer: &&Arc<DeviceBuffer>| -> bool {
        let device: &Arc<CudaDevice> = buffer.device();
        Arc::ptr_eq(device, cuda.device)
    };
    if let Some(buffer) = cell.get().filter(is_here) {
        return Ok(buffer.clone());
    }
    let buffer = Arc::new(cuda.upload_words("layout", source(cuda), words())?);
    let _ = cell.set(buffer.clone());
    Ok(buffer)
}
