//! What one forward pass works on: packed sequences of tokens, and the images among them.

use crate::error::{Result, bail};
use crate::image::{PatchOptions, Patches, PlacedImage};
use crate::sequence::{Indices, SequenceLayout};

/// What a position of an image's placeholder is counted along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Frames.
    Frame,
    /// Rows.
    Row,
    /// Columns.
    Column,
}

/// An index list that is made of a batch: which, so that it can be made of another batch too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchList {
    TokenIds,
    TokenTypeIds,
    PositionIds(u32),
    PositionIdsSkipping(u32),
    PositionIdsAlong(Axis),
    FirstRowsOf(u32),
    FirstRowsOfLargest,
    RowsWithImages,
    SequencesWithImages,
}

/// Sequences packed one after the other without padding. Its index lists are right by
/// construction: every list has one entry a token, or one a sequence where it says so.
pub struct Batch {
    token_ids: Vec<u32>,
    cu_seqlens: Vec<u32>,
    layout: SequenceLayout,
    images: Vec<PlacedImage>,
}

impl Batch {
    /// Sequence i has the tokens from `cu_seqlens[i]` to `cu_seqlens[i + 1]`, of which
    /// pooling leaves out the first `excluded[i]`. `images` lie in the order of their
    /// placeholders.
    ///
    /// # Errors
    /// As for [`SequenceLayout::packed`]; [`crate::Error::ShapeMismatch`] where the offsets
    /// do not end with the tokens; [`crate::Error::InvalidArgument`] where an image's
    /// placeholders overlap another's or do not lie within one sequence.
    pub fn packed(
        token_ids: Vec<u32>,
        cu_seqlens: Vec<u32>,
        excluded: &[u32],
        images: Vec<PlacedImage>,
    ) -> Result<Self> {
        let layout = SequenceLayout::packed(&cu_seqlens, excluded)?;
        if layout.rows() != token_ids.len() {
            bail!(
                ShapeMismatch,
                "batch: {} tokens for sequences of {}",
                token_ids.len(),
                layout.rows()
            );
        }
        let batch = Self {
            token_ids,
            cu_seqlens,
            layout,
            images,
        };
        batch.check_images()?;
        Ok(batch)
    }

    fn check_images(&self) -> Result<()> {
        let mut next = 0;
        for (index, image) in self.images.iter().enumerate() {
            let end = image
                .rows
                .checked_mul(image.columns)
                .filter(|&count| count > 0)
                .and_then(|count| image.start.checked_add(count));
            let sequence = self.sequence_of(image.start);
            let within =
                |end: &u32| image.start >= next && self.cu_seqlens.get(sequence + 1) >= Some(end);
            let Some(end) = end.filter(within) else {
                bail!(
                    InvalidArgument,
                    "batch: image {index} of {} x {} placeholders at token {} does not fit",
                    image.rows,
                    image.columns,
                    image.start
                );
            };
            next = end;
        }
        Ok(())
    }

    /// The sequence that has this token.
    fn sequence_of(&self, token: u32) -> usize {
        self.cu_seqlens.partition_point(|&start| start <= token) - 1
    }

    /// The tokens of each sequence.
    fn sequences(&self) -> impl Iterator<Item = &[u32]> {
        let spans = self.layout.spans().iter();
        spans.map(|span| &self.token_ids[span.start..span.start + span.length])
    }

    /// Where each sequence begins and ends.
    pub fn layout(&self) -> &SequenceLayout {
        &self.layout
    }

    /// The same, but that the longest sequence may have up to `max_rows` rows, for those who ask:
    /// what is computed then serves longer sequences too.
    pub fn with_max_rows(mut self, max_rows: usize) -> Self {
        self.layout = self.layout.with_max_rows(max_rows);
        self
    }

    /// Whether there are images among the tokens.
    pub(crate) fn has_images(&self) -> bool {
        !self.images.is_empty()
    }

    /// The list of this batch.
    pub(crate) fn list(&self, list: BatchList) -> Indices {
        match list {
            BatchList::TokenIds => self.token_ids(),
            BatchList::TokenTypeIds => self.token_type_ids(),
            BatchList::PositionIds(offset) => self.position_ids(offset),
            BatchList::PositionIdsSkipping(pad_id) => self.position_ids_skipping(pad_id),
            BatchList::PositionIdsAlong(axis) => self.position_ids_along(axis),
            BatchList::FirstRowsOf(id) => self.first_rows_of(id),
            BatchList::FirstRowsOfLargest => self.first_rows_of_largest(),
            BatchList::RowsWithImages => self.rows_with_images(),
            BatchList::SequencesWithImages => self.sequences_with_images(),
        }
    }

    /// Token ids, all sequences after each other.
    pub fn token_ids(&self) -> Indices {
        Indices::of_batch(self.token_ids.clone(), BatchList::TokenIds)
    }

    /// 0 for every token: single-segment inputs.
    pub fn token_type_ids(&self) -> Indices {
        Indices::of_batch(vec![0; self.token_ids.len()], BatchList::TokenTypeIds)
    }

    /// 0, 1, 2, ... in each sequence, plus `offset`.
    pub fn position_ids(&self, offset: u32) -> Indices {
        let lengths = self.sequences().map(|tokens| tokens.len() as u32);
        let positions = lengths.flat_map(|length| 0..length);
        let positions = positions.map(|index| index.saturating_add(offset));
        Indices::of_batch(positions.collect(), BatchList::PositionIds(offset))
    }

    /// As fairseq counts: `pad_id` keeps position `pad_id`; every other token has
    /// `pad_id` + 1 + the number of non-pad tokens before it.
    pub fn position_ids_skipping(&self, pad_id: u32) -> Indices {
        let mut positions = Vec::with_capacity(self.token_ids.len());
        for tokens in self.sequences() {
            let mut last = pad_id;
            positions.extend(tokens.iter().map(|&token| {
                if token == pad_id {
                    return pad_id;
                }
                last = last.saturating_add(1);
                last
            }));
        }
        Indices::of_batch(positions, BatchList::PositionIdsSkipping(pad_id))
    }

    /// As Qwen2-VL counts (M-RoPE): text goes on by 1 along every axis; the placeholders of
    /// an image that begins at p have p plus their frame, row or column, and what follows
    /// goes on at p plus the larger of its rows and columns.
    pub fn position_ids_along(&self, axis: Axis) -> Indices {
        let mut positions = Vec::with_capacity(self.token_ids.len());
        let mut images = self.images.iter().peekable();
        for span in self.layout.spans() {
            let end = span.start + span.length;
            let mut next = 0;
            while positions.len() < end {
                let at = positions.len();
                let Some(image) = images.next_if(|image| image.start as usize == at) else {
                    positions.push(next);
                    next += 1;
                    continue;
                };
                for (row, column) in image.places() {
                    positions.push(match axis {
                        Axis::Frame => next,
                        Axis::Row => next + row,
                        Axis::Column => next + column,
                    });
                }
                next += image.rows.max(image.columns);
            }
        }
        Indices::of_batch(positions, BatchList::PositionIdsAlong(axis))
    }

    /// One entry a sequence: the row of its first token `id`, or its first row.
    pub fn first_rows_of(&self, id: u32) -> Indices {
        self.first_rows(BatchList::FirstRowsOf(id), |_| id)
    }

    /// One entry a sequence: the row of the first of its largest token ids.
    pub fn first_rows_of_largest(&self) -> Indices {
        let largest = |tokens: &[u32]| tokens.iter().copied().max().unwrap_or(0);
        self.first_rows(BatchList::FirstRowsOfLargest, largest)
    }

    fn first_rows(&self, list: BatchList, wanted: impl Fn(&[u32]) -> u32) -> Indices {
        let rows = self
            .sequences()
            .zip(&self.cu_seqlens)
            .map(|(tokens, start)| {
                let wanted = wanted(tokens);
                let at = tokens.iter().position(|&token| token == wanted);
                start + at.unwrap_or(0) as u32
            });
        Indices::of_batch(rows.collect(), list)
    }

    /// The images of all sequences cut into patches; none where there is no image.
    ///
    /// # Errors
    /// As for [`Patches::cut`].
    pub fn patches(&self, options: PatchOptions) -> Result<Option<Patches>> {
        if self.images.is_empty() {
            return Ok(None);
        }
        let pixels = self.images.iter().map(|image| image.pixels.clone());
        Patches::cut(pixels.collect(), options).map(Some)
    }

    /// Its own row for each token, but the number of tokens + j for the j-th placeholder.
    pub fn rows_with_images(&self) -> Indices {
        let tokens = self.token_ids.len() as u32;
        let mut rows: Vec<u32> = (0..tokens).collect();
        let mut next = tokens;
        for image in &self.images {
            let start = image.start as usize;
            for row in &mut rows[start..start + image.places().len()] {
                *row = next;
                next += 1;
            }
        }
        Indices::of_batch(rows, BatchList::RowsWithImages)
    }

    /// One entry a sequence: its own number, but the number of sequences + j where it has
    /// image j.
    pub fn sequences_with_images(&self) -> Indices {
        let sequences = self.layout.sequences() as u32;
        let mut rows: Vec<u32> = (0..sequences).collect();
        for (image, row) in self.images.iter().zip(sequences..) {
            rows[self.sequence_of(image.start)] = row;
        }
        Indices::of_batch(rows, BatchList::SequencesWithImages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Pixels;

    fn image(start: u32, rows: u32, columns: u32) -> PlacedImage {
        PlacedImage {
            start,
            rows,
            columns,
            pixels: Pixels::new(2, 2, vec![0; 12]).expect("pixels"),
        }
    }

    fn batch(images: Vec<PlacedImage>) -> Result<Batch> {
        let ids = vec![5, 1, 1, 1, 1, 1, 1, 9, 5, 1, 9];
        Batch::packed(ids, vec![0, 8, 11], &[0, 0], images)
    }

    #[test]
    fn positions_restart_in_each_sequence() -> Result<()> {
        let batch = Batch::packed(vec![5, 1, 6, 7, 8], vec![0, 3, 5], &[0, 0], Vec::new())?;
        assert_eq!(batch.position_ids(2).values(), [2, 3, 4, 2, 3]);
        assert_eq!(batch.position_ids_skipping(1).values(), [2, 1, 3, 2, 3]);
        assert!(
            batch
                .patches(PatchOptions {
                    size: 1,
                    merge: 1,
                    leading: 0
                })?
                .is_none()
        );
        Ok(())
    }

    #[test]
    fn placeholders_count_along_their_axes_and_text_goes_on_after_the_longer_one() -> Result<()> {
        let batch = batch(vec![image(1, 2, 3), image(9, 1, 1)])?;
        let along = |axis| batch.position_ids_along(axis).values().to_vec();
        assert_eq!(along(Axis::Frame), [0, 1, 1, 1, 1, 1, 1, 4, 0, 1, 2]);
        assert_eq!(along(Axis::Row), [0, 1, 1, 1, 2, 2, 2, 4, 0, 1, 2]);
        assert_eq!(along(Axis::Column), [0, 1, 2, 3, 1, 2, 3, 4, 0, 1, 2]);
        assert_eq!(
            batch.rows_with_images().values(),
            [0, 11, 12, 13, 14, 15, 16, 7, 8, 17, 10]
        );
        assert_eq!(batch.sequences_with_images().values(), [2, 3]);
        Ok(())
    }

    #[test]
    fn rows_of_tokens_are_found_in_each_sequence() -> Result<()> {
        let batch = batch(Vec::new())?;
        assert_eq!(batch.first_rows_of(1).values(), [1, 9]);
        assert_eq!(batch.first_rows_of(7).values(), [0, 8]);
        assert_eq!(batch.first_rows_of_largest().values(), [7, 10]);
        assert_eq!(batch.sequences_with_images().values(), [0, 1]);
        Ok(())
    }

    #[test]
    fn refuses_images_that_do_not_fit_their_sequence() {
        let refused = |images| batch(images).is_err();
        assert!(refused(vec![image(6, 1, 3)]), "beyond its sequence");
        assert!(refused(vec![image(11, 1, 1)]), "beyond the batch");
        assert!(refused(vec![image(1, 2, 2), image(3, 1, 1)]), "overlapping");
        assert!(
            refused(vec![image(9, 1, 1), image(1, 1, 1)]),
            "out of order"
        );
        assert!(refused(vec![image(1, 0, 3)]), "empty");
        assert!(refused(vec![image(1, 1 << 16, 1 << 16)]), "overflowing");
        assert!(!refused(vec![image(1, 1, 1), image(2, 1, 1)]));
    }
}
