//! Row indices and sequence boundaries, right by construction.

use std::sync::Arc;

use crate::batch::BatchList;
use crate::cuda::LayoutOnDevice;
use crate::error::{Result, bail};

/// One integer a token: ids, types, positions. Cheap to clone.
#[derive(Clone)]
pub struct Indices {
    values: Arc<[u32]>,
    max: u32,
    /// Which list of a batch it is, if it is one.
    source: Option<BatchList>,
}

impl Indices {
    /// Takes the values and finds their maximum.
    pub fn new(values: Vec<u32>) -> Self {
        let max = values.iter().copied().max().unwrap_or(0);
        Self {
            values: values.into(),
            max,
            source: None,
        }
    }

    /// As [`Indices::new`], of values that are such a list of a batch.
    pub(crate) fn of_batch(values: Vec<u32>, list: BatchList) -> Self {
        Self {
            source: Some(list),
            ..Self::new(values)
        }
    }

    /// Which list of a batch this is; none where it is not one's.
    pub(crate) fn source(&self) -> Option<BatchList> {
        self.source
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The largest; 0 where there are none.
    pub fn max(&self) -> u32 {
        self.max
    }

    /// The values in order.
    pub(crate) fn values(&self) -> &[u32] {
        &self.values
    }
}

/// The rows of one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Its first row.
    pub start: usize,
    /// How many rows it has, at least 1.
    pub length: usize,
    /// How many leading rows pooling leaves out, fewer than `length`.
    pub excluded: usize,
}

/// Where each sequence of a packed batch begins and ends. Cheap to clone.
#[derive(Clone)]
pub struct SequenceLayout {
    spans: Arc<[Span]>,
    rows: usize,
    max_rows: usize,
    end: usize,
    on_device: Arc<LayoutOnDevice>,
}

impl SequenceLayout {
    /// Sequences from `cu_seqlens` (`sequences + 1` rising offsets, the first 0) and the
    /// number of leading rows that pooling leaves out of each.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] where offsets do not begin at 0 or do not rise, or
    /// an exclusion leaves nothing of its sequence; [`crate::Error::ShapeMismatch`] where
    /// `excluded` has another length.
    pub fn packed(cu_seqlens: &[u32], excluded: &[u32]) -> Result<Self> {
        if cu_seqlens.len() < 2 {
            bail!(
                InvalidArgument,
                "layout: {} offsets, at least 2 are needed",
                cu_seqlens.len()
            );
        }
        if cu_seqlens[0] != 0 {
            bail!(
                InvalidArgument,
                "layout: the first offset is {}, not 0",
                cu_seqlens[0]
            );
        }
        let sequences = cu_seqlens.len() - 1;
        if excluded.len() != sequences {
            bail!(
                ShapeMismatch,
                "layout: {} excluded counts for {sequences} sequences",
                excluded.len()
            );
        }
        let mut spans = Vec::with_capacity(sequences);
        for (index, (pair, &excluded)) in cu_seqlens.windows(2).zip(excluded).enumerate() {
            if pair[1] <= pair[0] {
                bail!(
                    InvalidArgument,
                    "layout: sequence {index} from {} to {} has no rows",
                    pair[0],
                    pair[1]
                );
            }
            let length = pair[1] - pair[0];
            if excluded >= length {
                bail!(
                    InvalidArgument,
                    "layout: sequence {index} of {length} rows excludes {excluded}"
                );
            }
            spans.push(Span {
                start: pair[0] as usize,
                length: length as usize,
                excluded: excluded as usize,
            });
        }
        Ok(Self::from_spans(spans))
    }

    /// Some of the sequences, in the order given, still offsets into the same rows.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] where none is given, more than there are, or one
    /// that does not exist.
    pub fn select(&self, sequences: &[u32]) -> Result<Self> {
        if sequences.is_empty() || sequences.len() > self.spans.len() {
            bail!(
                InvalidArgument,
                "layout: {} of {} sequences selected",
                sequences.len(),
                self.spans.len()
            );
        }
        let mut spans = Vec::with_capacity(sequences.len());
        for &sequence in sequences {
            match self.spans.get(sequence as usize) {
                Some(&span) => spans.push(span),
                None => bail!(
                    InvalidArgument,
                    "layout: sequence {sequence} selected of {}",
                    self.spans.len()
                ),
            }
        }
        Ok(Self::from_spans(spans))
    }

    fn from_spans(spans: Vec<Span>) -> Self {
        Self {
            rows: spans.iter().map(|span| span.length).sum(),
            max_rows: spans.iter().map(|span| span.length).max().unwrap_or(0),
            end: spans
                .iter()
                .map(|span| span.start + span.length)
                .max()
                .unwrap_or(0),
            spans: spans.into(),
            on_device: Arc::default(),
        }
    }

    /// The same, but that the longest sequence may have up to `max_rows` rows.
    pub(crate) fn with_max_rows(self, max_rows: usize) -> Self {
        Self {
            max_rows: self.max_rows.max(max_rows),
            ..self
        }
    }

    /// Whether this is a clone of `other`.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.spans, &other.spans)
    }

    /// How many sequences there are.
    pub fn sequences(&self) -> usize {
        self.spans.len()
    }

    /// How many rows they have together.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The longest sequence's rows, or more: a bound.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// One past the last row that any sequence has.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// Whether the sequences cover rows `0..rows` one after the other.
    pub(crate) fn is_packed(&self) -> bool {
        let mut next = 0;
        self.spans.iter().all(|span| {
            let follows = span.start == next;
            next = span.start + span.length;
            follows
        })
    }

    /// What a CUDA device has of it.
    pub(crate) fn on_device(&self) -> &LayoutOnDevice {
        &self.on_device
    }

    /// The sequences.
    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }
}
