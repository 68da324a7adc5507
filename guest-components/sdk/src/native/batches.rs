//! The interface `batches`, natively.

pub use tenon_tensor::{Axis, PatchOptions, PlacedImage};

use super::tensor::{Error, Indices, Layout, Patches};

/// A packed batch.
pub struct Batch(tenon_tensor::Batch);

impl Batch {
    /// Sequences one after the other, of which sequence i has the tokens from
    /// `cu_seqlens[i]` to `cu_seqlens[i + 1]`, with the images among them.
    ///
    /// # Errors
    /// That of [`tenon_tensor::Batch::packed`].
    pub fn packed(
        token_ids: Vec<u32>,
        cu_seqlens: &[u32],
        images: Vec<PlacedImage>,
    ) -> Result<Self, Error> {
        let excluded = vec![0; cu_seqlens.len().saturating_sub(1)];
        tenon_tensor::Batch::packed(token_ids, cu_seqlens.to_vec(), &excluded, images).map(Self)
    }

    /// Token ids, all sequences after each other.
    pub fn token_ids(&self) -> Indices {
        Indices(self.0.token_ids())
    }

    /// 0 for every token: single-segment inputs.
    pub fn token_type_ids(&self) -> Indices {
        Indices(self.0.token_type_ids())
    }

    /// 0, 1, 2, ... in each sequence, plus `offset`.
    pub fn position_ids(&self, offset: u32) -> Indices {
        Indices(self.0.position_ids(offset))
    }

    /// As fairseq counts.
    pub fn position_ids_skipping(&self, pad_id: u32) -> Indices {
        Indices(self.0.position_ids_skipping(pad_id))
    }

    /// As Qwen2-VL counts.
    pub fn position_ids_along(&self, axis: Axis) -> Indices {
        Indices(self.0.position_ids_along(axis))
    }

    /// For each sequence the row of the first token `id`, or its first row.
    pub fn first_rows_of(&self, id: u32) -> Indices {
        Indices(self.0.first_rows_of(id))
    }

    /// For each sequence the row of the first of its largest token ids.
    pub fn first_rows_of_largest(&self) -> Indices {
        Indices(self.0.first_rows_of_largest())
    }

    /// The images of all sequences cut into patches.
    ///
    /// # Errors
    /// That of [`tenon_tensor::Batch::patches`].
    pub fn patches(&self, options: PatchOptions) -> Result<Option<Patches>, Error> {
        Ok(self.0.patches(options)?.map(Patches))
    }

    /// Row i for row i, but the number of rows + j for the j-th placeholder of an image.
    pub fn rows_with_images(&self) -> Indices {
        Indices(self.0.rows_with_images())
    }

    /// Sequence i for sequence i, but the number of sequences + j where it has image j.
    pub fn sequences_with_images(&self) -> Indices {
        Indices(self.0.sequences_with_images())
    }

    /// Where each sequence begins and ends.
    pub fn layout(&self) -> Layout {
        Layout(self.0.layout().clone())
    }
}
