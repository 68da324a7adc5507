//! What a back-half store holds, and what its components may import.

use tenon_tensor::{Context, Weights};
use wasmtime::component::{HasData, Linker};
use wasmtime_wasi::{WasiCtxView, WasiView};

use crate::host_api::{ConfigView, RoleConfig, TensorView, imports};
use crate::role::Role;
use crate::sandbox::engine::Sandbox;
use crate::sandbox::guest::{Guest, HasGuest};
use crate::sandbox::wasi;

/// The state of a back-half store.
pub struct BackState {
    pub(super) guest: Guest,
    /// The settings of the role that runs next.
    pub(super) config: RoleConfig,
    pub(super) context: Context,
    pub(super) weights: Weights,
    /// Whether a quota was exceeded: the store runs no further operation.
    pub(super) condemned: bool,
    /// Index lists that the batch may still give out.
    pub(super) lists_left: u32,
}

impl BackState {
    fn tensor(&mut self) -> TensorView<'_> {
        TensorView {
            table: &mut self.guest.table,
            context: &self.context,
            weights: &self.weights,
            host_time: &mut self.guest.host_time,
            condemned: &mut self.condemned,
            lists_left: &mut self.lists_left,
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

struct HasConfig;

impl HasData for HasConfig {
    type Data<'a> = ConfigView<'a>;
}

struct HasTensor;

impl HasData for HasTensor {
    type Data<'a> = TensorView<'a>;
}

/// Links the interfaces of the back half that `role` may import.
pub fn linker(sandbox: &Sandbox, role: Role) -> wasmtime::Result<Linker<BackState>> {
    use imports::{batches, config, tensor, weights};
    let mut linker: Linker<BackState> = Linker::new(&sandbox.engine);
    wasi::add_to_linker(&mut linker)?;
    for capability in role.capabilities() {
        match *capability {
            "config" => config::add_to_linker::<_, HasConfig>(&mut linker, |state| {
                ConfigView(&state.config)
            })?,
            "tensor" => tensor::add_to_linker::<_, HasTensor>(&mut linker, BackState::tensor)?,
            "weights" => weights::add_to_linker::<_, HasTensor>(&mut linker, BackState::tensor)?,
            "batches" => batches::add_to_linker::<_, HasTensor>(&mut linker, BackState::tensor)?,
            other => wasmtime::bail!("{other} is not an interface of the back half"),
        }
    }
    Ok(linker)
}
