//! `batches`: what one forward pass works on.

use tenon_tensor::{Indices, SequenceLayout};
use wasmtime::component::Resource;

use super::TensorView;
use super::imports::batches::{Host, HostBatch};

/// A packed batch as a component holds it.
pub struct GuestBatch {
    token_ids: Vec<u32>,
    cu_seqlens: Vec<u32>,
    layout: SequenceLayout,
    /// Index lists that may still be made: they are the host's memory.
    lists_left: u32,
}

impl GuestBatch {
    /// A batch of the tokens in `token_ids` with the boundaries in `cu_seqlens`, which
    /// `layout` was made of. It gives out `max_lists` index lists.
    pub fn new(
        token_ids: Vec<u32>,
        cu_seqlens: Vec<u32>,
        layout: SequenceLayout,
        max_lists: u32,
    ) -> Self {
        Self {
            token_ids,
            cu_seqlens,
            layout,
            lists_left: max_lists,
        }
    }

    fn positions(&self, of_sequence: impl Fn(&[u32], &mut Vec<u32>)) -> Vec<u32> {
        let ids = &self.token_ids;
        let mut positions = Vec::with_capacity(ids.len());
        for bounds in self.cu_seqlens.windows(2) {
            if let [start, end] = *bounds
                && let Some(ids) = ids.get(start as usize..end as usize)
            {
                of_sequence(ids, &mut positions);
            }
        }
        positions
    }
}

impl TensorView<'_> {
    fn make_list(
        &mut self,
        batch: &Resource<GuestBatch>,
        make: impl FnOnce(&GuestBatch) -> Vec<u32>,
    ) -> wasmtime::Result<Resource<Indices>> {
        let batch = self.table.get_mut(batch)?;
        let Some(left) = batch.lists_left.checked_sub(1) else {
            wasmtime::bail!("it asked for more index lists than one batch gives out");
        };
        batch.lists_left = left;
        let indices = Indices::new(make(batch));
        Ok(self.table.push(indices)?)
    }
}

impl Host for TensorView<'_> {}

impl HostBatch for TensorView<'_> {
    fn token_ids(&mut self, batch: Resource<GuestBatch>) -> wasmtime::Result<Resource<Indices>> {
        self.make_list(&batch, |batch| batch.token_ids.clone())
    }

    fn token_type_ids(
        &mut self,
        batch: Resource<GuestBatch>,
    ) -> wasmtime::Result<Resource<Indices>> {
        self.make_list(&batch, |batch| vec![0; batch.token_ids.len()])
    }

    fn position_ids(
        &mut self,
        batch: Resource<GuestBatch>,
        offset: u32,
    ) -> wasmtime::Result<Resource<Indices>> {
        self.make_list(&batch, |batch| {
            batch.positions(|ids, positions| {
                positions.extend((0..ids.len() as u32).map(|index| index.saturating_add(offset)));
            })
        })
    }

    fn position_ids_skipping(
        &mut self,
        batch: Resource<GuestBatch>,
        pad_id: u32,
    ) -> wasmtime::Result<Resource<Indices>> {
        self.make_list(&batch, |batch| {
            batch.positions(|ids, positions| {
                let mut next = pad_id.saturating_add(1);
                for &id in ids {
                    if id == pad_id {
                        positions.push(pad_id);
                    } else {
                        positions.push(next);
                        next = next.saturating_add(1);
                    }
                }
            })
        })
    }

    fn layout(
        &mut self,
        batch: Resource<GuestBatch>,
    ) -> wasmtime::Result<Resource<SequenceLayout>> {
        let layout = self.table.get(&batch)?.layout.clone();
        Ok(self.table.push(layout)?)
    }

    fn drop(&mut self, batch: Resource<GuestBatch>) -> wasmtime::Result<()> {
        self.table.delete(batch)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_start_anew_in_each_sequence() -> tenon_tensor::Result<()> {
        let layout = SequenceLayout::packed(&[0, 2, 5], &[0, 0])?;
        let batch = GuestBatch::new(vec![7, 8, 9, 1, 9], vec![0, 2, 5], layout, 1);
        let lengths = batch.positions(|ids, positions| positions.push(ids.len() as u32));
        assert_eq!(lengths, [2, 3]);
        Ok(())
    }
}
