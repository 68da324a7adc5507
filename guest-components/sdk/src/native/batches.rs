//! The interface `batches`, natively.

use tenon_tensor::SequenceLayout;

use super::tensor::{Error, Indices, Layout};

/// A packed batch.
#[derive(Clone)]
pub struct Batch {
    token_ids: Vec<u32>,
    cu_seqlens: Vec<u32>,
    layout: SequenceLayout,
}

impl Batch {
    /// Sequences one after the other, of which sequence i has the tokens from
    /// `cu_seqlens[i]` to `cu_seqlens[i + 1]`.
    ///
    /// # Errors
    /// Where offsets do not rise from 0 to the number of tokens.
    pub fn packed(token_ids: Vec<u32>, cu_seqlens: &[u32]) -> Result<Self, Error> {
        let excluded = vec![0; cu_seqlens.len().saturating_sub(1)];
        let layout = SequenceLayout::packed(cu_seqlens, &excluded)?;
        if layout.rows() != token_ids.len() {
            return Err(Error::ShapeMismatch(format!(
                "batch: {} tokens for sequences of {}",
                token_ids.len(),
                layout.rows()
            )));
        }
        Ok(Self {
            token_ids,
            cu_seqlens: cu_seqlens.to_vec(),
            layout,
        })
    }

    /// Token ids, all sequences after each other.
    pub fn token_ids(&self) -> Indices {
        Indices::new(self.token_ids.clone())
    }

    /// 0 for every token: single-segment inputs.
    pub fn token_type_ids(&self) -> Indices {
        Indices::new(vec![0; self.token_ids.len()])
    }

    /// 0, 1, 2, ... in each sequence, plus `offset`.
    pub fn position_ids(&self, offset: u32) -> Indices {
        let lengths = self.sequences().map(|tokens| tokens.len() as u32);
        Indices::new(
            lengths
                .flat_map(|length| offset..offset.saturating_add(length))
                .collect(),
        )
    }

    /// As fairseq counts: `pad_id` keeps position `pad_id`; every other token has
    /// `pad_id` + 1 + the number of non-pad tokens before it.
    pub fn position_ids_skipping(&self, pad_id: u32) -> Indices {
        let mut positions = Vec::with_capacity(self.token_ids.len());
        for tokens in self.sequences() {
            let mut next = pad_id;
            positions.extend(tokens.iter().map(|&token| {
                if token == pad_id {
                    return pad_id;
                }
                next = next.saturating_add(1);
                next
            }));
        }
        Indices::new(positions)
    }

    /// Where each sequence begins and ends.
    pub fn layout(&self) -> Layout {
        Layout(self.layout.clone())
    }

    /// The tokens of each sequence.
    fn sequences(&self) -> impl Iterator<Item = &[u32]> {
        self.cu_seqlens
            .windows(2)
            .map(|ends| &self.token_ids[ends[0] as usize..ends[1] as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_tokens_beyond_the_sequences() {
        assert!(Batch::packed(vec![1, 2, 3], &[0, 2]).is_err());
        assert!(Batch::packed(vec![1, 2], &[0, 2]).is_ok());
    }

    #[test]
    fn positions_restart_in_each_sequence() -> Result<(), Error> {
        let batch = Batch::packed(vec![5, 1, 6, 7, 8], &[0, 3, 5])?;
        assert_eq!(batch.position_ids(2).0.max(), 4);
        assert_eq!(batch.position_ids_skipping(1).0.max(), 3);
        Ok(())
    }
}
