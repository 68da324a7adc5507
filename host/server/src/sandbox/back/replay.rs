//! Which batches are computed by a recorded pass, and the passes of a store.
//!
//! A short batch costs the host more than the device. Its pass is recorded when its shape comes
//! again, and from then on is one launch. So that there are few shapes, batches are filled up with
//! sequences that nobody asked for to one of some numbers of tokens and sequences; a row does not
//! depend on the others.

use std::collections::HashMap;

use tenon_tensor::RecordedPass;

use crate::batch::{PackedBatch, PoolOptions};

/// The most tokens of a batch: with more, the device is at work for longer than the host.
const MAX_TOKENS: usize = 2048;

/// How many passes a store keeps: each has a few hundred launches in the driver's memory.
const MAX_PASSES: usize = 128;

/// How many shapes are remembered that came once, or cannot be recorded.
const MAX_SHAPES: usize = 1024;

/// What all batches of one pass have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PassShape {
    tokens: usize,
    sequences: usize,
    /// At least as long as the longest sequence.
    pub max_rows: usize,
    /// The length of vectors, where it is not the model's own.
    pub dimensions: Option<u32>,
}

/// A batch that is filled up to a shape.
pub struct Filled {
    /// Its shape.
    pub shape: PassShape,
    /// The sequences of the batch, and others after them.
    pub batch: PackedBatch,
}

impl Filled {
    /// A short batch of texts, filled up; `longest` is what the model takes at most. None where
    /// the batch is none such.
    pub fn new(batch: &PackedBatch, longest: Option<usize>) -> Option<Self> {
        let (tokens, sequences) = (batch.token_ids.len(), batch.sequences());
        let dimensions = batch.pool.first()?.dimensions;
        let uniform = batch.pool.iter().all(|pool| pool.dimensions == dimensions);
        if tokens > MAX_TOKENS || !batch.images.is_empty() || !uniform {
            return None;
        }
        let lengths = batch.cu_seqlens.windows(2).map(|pair| pair[1] - pair[0]);
        let longest_here = lengths.max()? as usize;
        let more_sequences = (sequences + 1).next_power_of_two() - sequences;
        let more_tokens = round_up(tokens + more_sequences) - tokens;
        // No position is beyond those that the batch has.
        if more_tokens > more_sequences * longest_here {
            return None;
        }
        let max_rows = longest_here.next_power_of_two();
        let max_rows = longest.map_or(max_rows, |longest| max_rows.min(longest));
        let shape = PassShape {
            tokens: tokens + more_tokens,
            sequences: sequences + more_sequences,
            max_rows: max_rows.max(longest_here),
            dimensions,
        };
        let mut batch = batch.clone();
        batch.token_ids.resize(shape.tokens, 0);
        for index in 1..=more_sequences {
            let end = tokens + more_tokens * index / more_sequences;
            batch.cu_seqlens.push(end as u32);
            batch.pool.push(PoolOptions {
                excluded_tokens: 0,
                dimensions,
            });
        }
        Some(Self { shape, batch })
    }
}

/// The next of four numbers in each octave.
fn round_up(tokens: usize) -> usize {
    tokens.next_multiple_of((tokens.next_power_of_two() / 8).max(1))
}

/// What is known of a shape.
enum Known {
    /// It came once.
    Once,
    /// Its pass.
    Recorded(RecordedPass),
    /// Its pass cannot be recorded.
    Refused,
}

/// The passes of a store.
#[derive(Default)]
pub struct Passes {
    shapes: HashMap<PassShape, (Known, u64)>,
    /// Counts calls: what was used longest ago goes first.
    now: u64,
}

/// What to do about a batch.
pub enum Plan<'a> {
    /// Compute it as all others.
    Plainly,
    /// Record its pass, and run that.
    Record,
    /// Run this pass.
    Run(&'a mut RecordedPass),
}

impl Passes {
    /// What to do about a batch of this shape.
    pub fn plan(&mut self, shape: PassShape) -> Plan<'_> {
        self.now += 1;
        if self.shapes.len() >= MAX_SHAPES && !self.shapes.contains_key(&shape) {
            self.shapes
                .retain(|_, (known, _)| matches!(known, Known::Recorded(_)));
        }
        let mut is_new = false;
        let (known, used) = self.shapes.entry(shape).or_insert_with(|| {
            is_new = true;
            (Known::Once, 0)
        });
        *used = self.now;
        match known {
            Known::Once if is_new => Plan::Plainly,
            Known::Once => Plan::Record,
            Known::Recorded(pass) => Plan::Run(pass),
            Known::Refused => Plan::Plainly,
        }
    }

    /// Keeps a pass, in place of the one that was used longest ago where there are many.
    pub fn keep(&mut self, shape: PassShape, pass: RecordedPass) {
        let recorded = self.shapes.iter().filter_map(|(shape, (known, used))| {
            matches!(known, Known::Recorded(_)).then_some((*used, *shape))
        });
        if recorded.clone().count() >= MAX_PASSES
            && let Some((_, oldest)) = recorded.min_by_key(|(used, _)| *used)
        {
            self.shapes.remove(&oldest);
        }
        self.shapes.insert(shape, (Known::Recorded(pass), self.now));
    }

    /// Takes note that a shape's pass cannot be recorded.
    pub fn refuse(&mut self, shape: PassShape) {
        self.shapes.insert(shape, (Known::Refused, self.now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Sequence;

    fn batch(lengths: &[usize]) -> PackedBatch {
        let sequences: Vec<Sequence> = lengths
            .iter()
            .map(|&length| Sequence {
                token_ids: vec![7; length],
                ..Sequence::default()
            })
            .collect();
        PackedBatch::pack(&sequences)
    }

    #[test]
    fn fills_batches_up_to_few_shapes_with_sequences_that_are_no_longer() {
        let mut shapes = std::collections::HashSet::new();
        for length in 1..=512 {
            for count in [1, 2, 3, 5, 16] {
                let batch = batch(&vec![length; count]);
                let Some(filled) = Filled::new(&batch, Some(512)) else {
                    assert!(
                        length * count > MAX_TOKENS || length < 2,
                        "{count} of {length}"
                    );
                    continue;
                };
                let Filled { shape, batch: full } = filled;
                assert_eq!(full.token_ids.len(), shape.tokens);
                assert_eq!(full.sequences(), shape.sequences);
                assert_eq!(full.cu_seqlens.len(), shape.sequences + 1);
                assert_eq!(full.cu_seqlens.last(), Some(&(shape.tokens as u32)));
                assert!(full.cu_seqlens.starts_with(&batch.cu_seqlens));
                assert!(full.token_ids.starts_with(&batch.token_ids));
                let lengths = full.cu_seqlens.windows(2).map(|pair| pair[1] - pair[0]);
                assert!(lengths.clone().all(|it| (1..=length as u32).contains(&it)));
                assert!((length..=512).contains(&shape.max_rows));
                shapes.insert(shape);
            }
        }
        assert!(shapes.len() < 250, "{}", shapes.len());
    }

    #[test]
    fn leaves_other_batches_alone() {
        assert!(Filled::new(&batch(&[MAX_TOKENS + 1]), None).is_none());
        let mut mixed = batch(&[4, 4]);
        mixed.pool[1].dimensions = Some(64);
        assert!(Filled::new(&mixed, None).is_none());
    }

    #[test]
    fn records_a_shape_when_it_comes_again_unless_that_was_refused() {
        let Some(Filled { shape, .. }) = Filled::new(&batch(&[9]), None) else {
            panic!("a short batch");
        };
        let mut passes = Passes::default();
        assert!(matches!(passes.plan(shape), Plan::Plainly));
        assert!(matches!(passes.plan(shape), Plan::Record));
        passes.refuse(shape);
        assert!(matches!(passes.plan(shape), Plan::Plainly));
        assert!(matches!(passes.plan(shape), Plan::Plainly));
    }

    #[test]
    fn forgets_shapes_that_came_once_before_there_are_too_many() {
        let mut passes = Passes::default();
        for tokens in 0..5 * MAX_SHAPES {
            let shape = PassShape {
                tokens,
                sequences: 2,
                max_rows: 2,
                dimensions: None,
            };
            assert!(matches!(passes.plan(shape), Plan::Plainly));
            assert!(passes.shapes.len() <= MAX_SHAPES);
        }
    }
}
