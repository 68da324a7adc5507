//! What a back-half store holds.

use std::time::Duration;

use tenon_tensor::{Context, Weights};
use wasmtime::component::HasData;
use wasmtime_wasi::{WasiCtxView, WasiView};

use crate::host_api::{ConfigView, RoleConfig, TensorView};
use crate::sandbox::guest::{Guest, HasGuest};

/// The state of a back-half store.
pub struct BackState {
    pub(super) guest: Guest,
    /// The settings of the role that runs next.
    pub(super) config: RoleConfig,
    pub(super) context: Context,
    pub(super) weights: Weights,
    /// Time spent in operations since the batch began.
    pub(super) host_time: Duration,
}

impl BackState {
    /// `config` for the linker.
    pub fn config(&mut self) -> ConfigView<'_> {
        ConfigView(&self.config)
    }

    /// `tensor`, `weights` and `batches` for the linker.
    pub fn tensor(&mut self) -> TensorView<'_> {
        TensorView {
            table: &mut self.guest.table,
            context: &self.context,
            weights: &self.weights,
            host_time: &mut self.host_time,
        }
    }
}

impl HasGuest for BackState {
    fn guest(&mut self) -> &mut Guest {
        &mut self.guest
    }
}

impl WasiView for BackState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.guest.wasi()
    }
}

/// Names the view of `config`.
pub struct HasConfig;

impl HasData for HasConfig {
    type Data<'a> = ConfigView<'a>;
}

/// Names the view of `tensor`, `weights` and `batches`.
pub struct HasTensor;

impl HasData for HasTensor {
    type Data<'a> = TensorView<'a>;
}
