//! `batches`: what one forward pass works on.

use std::time::Instant;

use tenon_tensor::{self as rt, Batch, Indices, Patches, SequenceLayout};
use wasmtime::component::Resource;

use super::TensorView;
use super::imports::batches::{Axis, Host, HostBatch, PatchOptions};
use super::imports::tensor::Error;

type List = wasmtime::Result<Resource<Indices>>;

impl TensorView<'_> {
    fn list(&mut self, batch: &Resource<Batch>, make: impl FnOnce(&Batch) -> Indices) -> List {
        let started = Instant::now();
        let list = make(self.table.get(batch)?);
        *self.host_time += started.elapsed();
        self.push_list(list)
    }
}

impl Host for TensorView<'_> {}

impl HostBatch for TensorView<'_> {
    fn token_ids(&mut self, batch: Resource<Batch>) -> List {
        self.list(&batch, Batch::token_ids)
    }

    fn token_type_ids(&mut self, batch: Resource<Batch>) -> List {
        self.list(&batch, Batch::token_type_ids)
    }

    fn position_ids(&mut self, batch: Resource<Batch>, offset: u32) -> List {
        self.list(&batch, |batch| batch.position_ids(offset))
    }

    fn position_ids_skipping(&mut self, batch: Resource<Batch>, pad_id: u32) -> List {
        self.list(&batch, |batch| batch.position_ids_skipping(pad_id))
    }

    fn position_ids_along(&mut self, batch: Resource<Batch>, axis: Axis) -> List {
        let axis = match axis {
            Axis::Frame => rt::Axis::Frame,
            Axis::Row => rt::Axis::Row,
            Axis::Column => rt::Axis::Column,
        };
        self.list(&batch, |batch| batch.position_ids_along(axis))
    }

    fn first_rows_of(&mut self, batch: Resource<Batch>, id: u32) -> List {
        self.list(&batch, |batch| batch.first_rows_of(id))
    }

    fn first_rows_of_largest(&mut self, batch: Resource<Batch>) -> List {
        self.list(&batch, Batch::first_rows_of_largest)
    }

    fn patches(
        &mut self,
        batch: Resource<Batch>,
        options: PatchOptions,
    ) -> wasmtime::Result<Result<Option<Resource<Patches>>, Error>> {
        let options = rt::PatchOptions {
            size: options.size,
            merge: options.merge,
            leading: options.leading,
        };
        let started = Instant::now();
        let patches = self.table.get(&batch)?.patches(options);
        *self.host_time += started.elapsed();
        Ok(match patches {
            Ok(None) => Ok(None),
            Ok(Some(patches)) => Ok(Some(self.table.push(patches)?)),
            Err(error) => Err(error.into()),
        })
    }

    fn rows_with_images(&mut self, batch: Resource<Batch>) -> List {
        self.list(&batch, Batch::rows_with_images)
    }

    fn sequences_with_images(&mut self, batch: Resource<Batch>) -> List {
        self.list(&batch, Batch::sequences_with_images)
    }

    fn layout(&mut self, batch: Resource<Batch>) -> wasmtime::Result<Resource<SequenceLayout>> {
        let layout = self.table.get(&batch)?.layout().clone();
        Ok(self.table.push(layout)?)
    }

    fn drop(&mut self, batch: Resource<Batch>) -> wasmtime::Result<()> {
        self.table.delete(batch)?;
        Ok(())
    }
}
