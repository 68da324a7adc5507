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
}

impl GuestBatch {
    /// A batch of the tokens in `token_ids` with the boundaries in `cu_seqlens`, which
    /// `layout` was made of.
    pub fn new(token_ids: Vec<u32>, cu_seqlens: Vec<u32>, layout: SequenceLayout) -> Self {
        Self {
            token_ids,
            cu_seqlens,
            layout,
        }
    }

    fn positions(&self, of_sequence: impl Fn(&[u32], &mut Vec<u32>)) -> Indices {
        let ids = &self.token_ids;
        let mut positions = Vec::with_capacity(ids.len());
        for bounds in self.cu_seqlens.windows(2) {
            of_sequence(&ids[bounds[0] as usize..bounds[1] as usize], &mut positions);
        }
        Indices::new(positions)
    }
}

impl Host for TensorView<'_> {}

impl HostBatch for TensorView<'_> {
    fn token_ids(&mut self, batch: Resource<GuestBatch>) -> wasmtime::Result<Resource<Indices>> {
        let ids = self.table.get(&batch)?.token_ids.clone();
        Ok(self.table.push(Indices::new(ids))?)
    }

    fn token_type_ids(
        &mut self,
        batch: Resource<GuestBatch>,
    ) -> wasmtime::Result<Resource<Indices>> {
        let rows = self.table.get(&batch)?.token_ids.len();
        Ok(self.table.push(Indices::new(vec![0; rows]))?)
    }

    fn position_ids(
        &mut self,
        batch: Resource<GuestBatch>,
        offset: u32,
    ) -> wasmtime::Result<Resource<Indices>> {
        let indices = self.table.get(&batch)?.positions(|ids, positions| {
            positions.extend((0..ids.len() as u32).map(|index| index.saturating_add(offset)));
        });
        Ok(self.table.push(indices)?)
    }

    fn position_ids_skipping(
        &mut self,
        batch: Resource<GuestBatch>,
        pad_id: u32,
    ) -> wasmtime::Result<Resource<Indices>> {
        let indices = self.table.get(&batch)?.positions(|ids, positions| {
            let mut next = pad_id.saturating_add(1);
            for &id in ids {
                if id == pad_id {
                    positions.push(pad_id);
                } else {
                    positions.push(next);
                    next = next.saturating_add(1);
                }
            }
        });
        Ok(self.table.push(indices)?)
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
