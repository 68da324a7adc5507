//! What a front-half store holds, and what its components may import.

use std::sync::Arc;

use tenon_preprocess::TextTokenizer;
use wasmtime::component::{HasData, Linker};
use wasmtime_wasi::{WasiCtxView, WasiView};

use crate::host_api::{ConfigView, RoleConfig, TokenizerView, imports};
use crate::role::Role;
use crate::sandbox::engine::Sandbox;
use crate::sandbox::guest::{Guest, HasGuest};
use crate::sandbox::wasi;

/// The state of a front-half store.
pub struct FrontState {
    pub(super) guest: Guest,
    /// The settings of the role that runs next.
    pub(super) config: RoleConfig,
    pub(super) tokenizer: Arc<TextTokenizer>,
}

impl HasGuest for FrontState {
    fn guest(&mut self) -> &mut Guest {
        &mut self.guest
    }
}

impl WasiView for FrontState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.guest.wasi()
    }
}

struct HasConfig;

impl HasData for HasConfig {
    type Data<'a> = ConfigView<'a>;
}

struct HasTokenizer;

impl HasData for HasTokenizer {
    type Data<'a> = TokenizerView<'a>;
}

/// Links the interfaces of the front half that `role` may import.
pub fn linker(sandbox: &Sandbox, role: Role) -> wasmtime::Result<Linker<FrontState>> {
    let mut linker: Linker<FrontState> = Linker::new(&sandbox.engine);
    wasi::add_to_linker(&mut linker)?;
    for capability in role.capabilities() {
        match *capability {
            "config" => imports::config::add_to_linker::<_, HasConfig>(&mut linker, |state| {
                ConfigView(&state.config)
            })?,
            "tokenizer" => {
                imports::tokenizer::add_to_linker::<_, HasTokenizer>(&mut linker, |state| {
                    TokenizerView(&state.tokenizer)
                })?;
            }
            other => wasmtime::bail!("{other} is not an interface of the front half"),
        }
    }
    Ok(linker)
}
