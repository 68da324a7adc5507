//! The contract between the scheduler, which packs batches, and whatever executes them.

use std::time::Duration;

use tenon_tensor::PlacedImage;

/// Pixels that weigh as much as a token: patches of most models are 14 or 16 pixels wide.
const PIXELS_PER_TOKEN: usize = 14 * 14;

/// One input, ready for the device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sequence {
    /// Token ids, special tokens included; never empty.
    pub token_ids: Vec<u32>,
    /// Leading tokens that pooling leaves out (`include_prompt: false`).
    pub excluded_tokens: u32,
    /// Length of the vector, where the caller asked for fewer than the model's own.
    pub dimensions: Option<u32>,
    /// Images among its tokens, in order; their `start` counts from its first token.
    pub images: Vec<PlacedImage>,
}

impl Sequence {
    /// What it adds to a batch: its tokens, and what its images weigh as tokens.
    pub fn weight(&self) -> usize {
        let pixels: usize = self.images.iter().map(|image| image.pixels.count()).sum();
        self.token_ids.len() + pixels / PIXELS_PER_TOKEN
    }
}

/// What pooling must know of one sequence of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolOptions {
    /// As in [`Sequence::excluded_tokens`].
    pub excluded_tokens: u32,
    /// As in [`Sequence::dimensions`].
    pub dimensions: Option<u32>,
}

/// Sequences of many requests, one after the other without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedBatch {
    /// All sequences' token ids.
    pub token_ids: Vec<u32>,
    /// Where each sequence begins, and where the last one ends: `sequences + 1` offsets.
    pub cu_seqlens: Vec<u32>,
    /// One entry a sequence.
    pub pool: Vec<PoolOptions>,
    /// Images among the tokens, in order.
    pub images: Vec<PlacedImage>,
}

impl PackedBatch {
    /// Packs sequences in their order.
    pub fn pack<'a>(sequences: impl IntoIterator<Item = &'a Sequence>) -> Self {
        let mut batch = Self {
            token_ids: Vec::new(),
            cu_seqlens: vec![0],
            pool: Vec::new(),
            images: Vec::new(),
        };
        for sequence in sequences {
            let start = batch.token_ids.len() as u32;
            batch
                .images
                .extend(sequence.images.iter().map(|image| PlacedImage {
                    start: start + image.start,
                    ..image.clone()
                }));
            batch.token_ids.extend_from_slice(&sequence.token_ids);
            batch.cu_seqlens.push(batch.token_ids.len() as u32);
            batch.pool.push(PoolOptions {
                excluded_tokens: sequence.excluded_tokens,
                dimensions: sequence.dimensions,
            });
        }
        batch
    }

    /// How many sequences there are.
    pub fn sequences(&self) -> usize {
        self.pool.len()
    }
}

/// Why one sequence of a batch that ran has no vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The model computed NaN or an infinity.
    #[error("the model produced a value that is not finite for this input")]
    NotFinite,
}

/// What a batch gave.
#[derive(Debug)]
pub struct BatchOutput {
    /// One vector or error a sequence, in the batch's order.
    pub rows: Vec<Result<Vec<f32>, RowError>>,
    /// Time inside the model component's forward, host operations included.
    pub forward: Duration,
    /// Time inside the pooling component, host operations included.
    pub pooling: Duration,
    /// The part of both that was not spent in host operations: the sandbox's own time.
    pub sandbox: Duration,
}

/// Why a batch has no output at all.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExecuteError {
    /// A component trapped, overran a limit or returned an error. The same batch would
    /// fail again; other batches need not.
    #[error("{0}")]
    Component(String),
    /// The executor cannot run anything for now.
    #[error("{0}")]
    Unavailable(String),
    /// The executor will never run anything again: its device is gone.
    #[error("{0}")]
    Lost(String),
    /// The executor's device was lost, and comes back; the batch may have been the cause.
    #[error("{reason}")]
    Interrupted {
        /// What happened.
        reason: String,
        /// Whether the batch had begun: else it was not the cause.
        started: bool,
    },
}

/// Runs packed batches, one at a time.
pub trait Executor: Send + 'static {
    /// Runs one batch.
    fn execute(&mut self, batch: &PackedBatch) -> Result<BatchOutput, ExecuteError>;

    /// As [`Executor::execute`], while nothing else runs on the device: should that be lost,
    /// it is known who did it.
    fn execute_alone(&mut self, batch: &PackedBatch) -> Result<BatchOutput, ExecuteError> {
        self.execute(batch)
    }

    /// Whether a batch can be run, after waiting for that for `patience` at most.
    ///
    /// # Errors
    /// [`ExecuteError::Lost`] where none ever can.
    fn await_ready(&mut self, _patience: Duration) -> Result<bool, ExecuteError> {
        Ok(true)
    }
}
