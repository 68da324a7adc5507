//! Forward passes that are recorded once and run again with the numbers of other batches.
//!
//! No operation gives a component a number, so that for one shape it always asks for the same
//! operations: a pass over a batch computes every batch of that shape. What differs from batch to
//! batch is its index lists and where its sequences begin: they are made again for each of them
//! and read by the recorded work from where they were when it was recorded.

use std::sync::{Arc, Mutex, PoisonError};

use super::device::check_invalid;
use super::driver::Queue;
use super::graph::{Capture, Graph};
use super::memory::Pinned;
use super::operand::{OnCuda, Rows};
use super::sequence::{cu_seqlens, spans};
use super::{CudaDevice, DeviceBuffer};
use crate::batch::{Batch, BatchList};
use crate::dtype::DType;
use crate::error::{Error, Result, bail};
use crate::tensor::Tensor;
use crate::{Device, SequenceLayout};

const OP: &str = "recording";

/// Bytes of all that a batch brings.
const MAX_INPUT_BYTES: usize = 256 << 10;

/// Bytes of a result.
const MAX_OUTPUT_BYTES: usize = 4 << 20;

/// Where numbers that an operation reads come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// An index list, of a batch where it is one's, whose numbers must be below a limit.
    List(Option<BatchList>, Option<u32>),
    /// Where the batch's sequences begin.
    CuSeqlens,
    /// The spans of the batch's sequences.
    Spans,
    /// They are the same in every pass.
    Constant,
    /// Nobody knows: what reads them cannot be recorded.
    Unknown,
}

impl Source {
    /// That of a layout's `cu_seqlens`, for who records.
    pub fn cu_seqlens(recorder: Option<&Recorder>, layout: &SequenceLayout) -> Self {
        Self::of_layout(recorder, layout, Self::CuSeqlens)
    }

    /// That of a layout's spans.
    pub fn spans(recorder: Option<&Recorder>, layout: &SequenceLayout) -> Self {
        Self::of_layout(recorder, layout, Self::Spans)
    }

    fn of_layout(recorder: Option<&Recorder>, layout: &SequenceLayout, of_batch: Self) -> Self {
        // One row a sequence, as many as the batch has sequences: given by its shape.
        let is_trivial = layout.is_packed() && layout.rows() == layout.sequences();
        match recorder {
            Some(recorder) if layout.is(&recorder.layout) => of_batch,
            Some(recorder) if is_trivial && layout.rows() == recorder.layout.sequences() => {
                Self::Constant
            }
            _ => Self::Unknown,
        }
    }

    /// The numbers for a batch; none where they are over the limit.
    fn words(self, batch: &Batch) -> Option<Vec<u32>> {
        match self {
            Self::List(Some(list), limit) => {
                let list = batch.list(list);
                let fits = limit.is_none_or(|limit| list.max() < limit);
                fits.then(|| list.values().to_vec())
            }
            Self::CuSeqlens => Some(cu_seqlens(batch.layout())),
            Self::Spans => Some(spans(batch.layout())),
            Self::List(None, _) | Self::Constant | Self::Unknown => None,
        }
    }
}

/// What an operation reads.
struct Input {
    source: Source,
    /// Where it is in the inputs' memory, in bytes.
    start: usize,
    words: usize,
}

/// The inputs so far, and the memory that holds them.
struct Inputs {
    pinned: Pinned,
    used: usize,
    list: Vec<Input>,
}

/// What records the operations of a pass.
pub(crate) struct Recorder {
    capture: Capture,
    inputs: Mutex<Option<Inputs>>,
    layout: SequenceLayout,
}

impl Recorder {
    /// Where work is recorded.
    pub(super) fn queue(&self) -> Queue<'_> {
        self.capture.queue()
    }

    /// Records that numbers, now `bytes`, go to an address of the device.
    pub(super) fn upload(&self, op: &str, source: Source, bytes: &[u8], to: u64) -> Result<()> {
        if matches!(source, Source::Unknown | Source::List(None, _)) {
            bail!(Unsupported, "{op}: its operands cannot be recorded");
        }
        let mut inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        let inputs = inputs.as_mut().ok_or_else(ended)?;
        let start = inputs.used;
        let end = start + bytes.len();
        if end > MAX_INPUT_BYTES {
            bail!(
                Unsupported,
                "{op}: a recording's inputs of {end} bytes are over {MAX_INPUT_BYTES}"
            );
        }
        inputs.pinned.bytes()[start..end].copy_from_slice(bytes);
        let (pinned, len) = (&inputs.pinned, bytes.len());
        pinned.record_upload(op, self.queue(), start, len, to)?;
        inputs.used = end.next_multiple_of(16);
        inputs.list.push(Input {
            source,
            start,
            words: bytes.len() / 4,
        });
        Ok(())
    }
}

fn ended() -> Error {
    Error::Other(format!("{OP}: it has ended"))
}

/// A pass that is being recorded: operations of [`Recording::device`] compute nothing.
pub struct Recording {
    device: Arc<CudaDevice>,
    recorder: Arc<Recorder>,
}

impl Recording {
    /// Begins to record a pass over a batch of text.
    pub(crate) fn begin(device: &Arc<CudaDevice>, batch: &Batch) -> Result<Self> {
        if batch.has_images() {
            bail!(Unsupported, "{OP}: the batch has images");
        }
        device.stream().enter(OP)?;
        let pinned = Pinned::new(OP, device.stream(), MAX_INPUT_BYTES)?;
        let inputs = Inputs {
            pinned,
            used: 0,
            list: Vec::new(),
        };
        Ok(Self {
            device: device.clone(),
            recorder: Arc::new(Recorder {
                capture: Capture::begin(OP, device.stream())?,
                inputs: Mutex::new(Some(inputs)),
                layout: batch.layout().clone(),
            }),
        })
    }

    /// The device whose operations are recorded.
    pub fn device(&self) -> Device {
        Device::recording(&self.device, &self.recorder)
    }

    /// Ends with the pass's result, which every run reads back.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where something cannot be recorded; [`Error::DeviceLost`].
    pub fn finish(self, result: &Tensor) -> Result<RecordedPass> {
        let elements = result.checked_shape().elements();
        let bytes = elements * 4;
        if bytes > MAX_OUTPUT_BYTES {
            bail!(
                Unsupported,
                "{OP}: a result of {bytes} bytes is over {MAX_OUTPUT_BYTES}"
            );
        }
        let cuda = OnCuda {
            device: &self.device,
            account: None,
            dtype: DType::F32,
            recorder: Some(&self.recorder),
        };
        let rows: Rows = cuda.gapless_as(OP, result, DType::F32)?;
        let output = Pinned::new(OP, self.device.stream(), bytes + 4)?;
        let queue = self.recorder.queue();
        output.record_read_back(OP, queue, 0, bytes, rows.address)?;
        output.record_read_back(OP, queue, bytes, 4, self.device.invalid())?;
        let graph = self.recorder.capture.end(OP)?;
        let mut inputs = self.recorder.inputs.lock();
        let inputs = inputs
            .as_mut()
            .map_or_else(|_| None, |inputs| inputs.take());
        Ok(RecordedPass {
            graph,
            inputs: inputs.ok_or_else(ended)?,
            output,
            elements,
            layout: self.recorder.layout.clone(),
            _result: rows.buffer,
            device: self.device.clone(),
        })
    }
}

/// A recorded pass. It may run again, once at a time, as long as the weights are there that were
/// there when it was recorded.
pub struct RecordedPass {
    graph: Graph,
    inputs: Inputs,
    output: Pinned,
    elements: usize,
    layout: SequenceLayout,
    _result: Arc<DeviceBuffer>,
    device: Arc<CudaDevice>,
}

impl RecordedPass {
    /// The pass's result for another batch, row by row; none where it has other numbers of tokens
    /// or sequences than the recorded one, longer sequences, or numbers that an operation refuses.
    ///
    /// # Errors
    /// [`Error::DeviceLost`]; [`Error::Other`] where the driver refuses.
    pub fn run(&mut self, batch: &Batch) -> Result<Option<Vec<f32>>> {
        let (new, old) = (batch.layout(), &self.layout);
        if batch.has_images()
            || new.rows() != old.rows()
            || new.sequences() != old.sequences()
            || new.max_rows() > old.max_rows()
        {
            return Ok(None);
        }
        let Inputs { pinned, list, .. } = &mut self.inputs;
        for input in &*list {
            if matches!(input.source, Source::Constant) {
                continue;
            }
            let Some(words) = input.source.words(batch) else {
                return Ok(None);
            };
            if words.len() != input.words {
                return Ok(None);
            }
            let place = &mut pinned.bytes()[input.start..][..words.len() * 4];
            for (bytes, word) in place.chunks_exact_mut(4).zip(words) {
                bytes.copy_from_slice(&word.to_ne_bytes());
            }
        }
        self.graph.launch(OP)?;
        self.output.mark(OP)?;
        self.output.wait(OP)?;
        let bytes = self.elements * 4;
        let read = &self.output.bytes()[..bytes + 4];
        check_invalid(OP, &read[bytes..])?;
        let floats = read[..bytes].as_chunks().0.iter();
        Ok(Some(
            floats.map(|&float| f32::from_ne_bytes(float)).collect(),
        ))
    }
}

impl Drop for RecordedPass {
    fn drop(&mut self) {
        // A run that failed half-way may still read and write this one's memory.
        let _ = self.device.stream().enter(OP);
        let _ = self.device.stream().synchronize(OP);
    }
}
