//! What a front-half store holds.

use std::sync::Arc;

use tenon_preprocess::TextTokenizer;
use wasmtime::component::HasData;
use wasmtime_wasi::{WasiCtxView, WasiView};

use crate::host_api::{ConfigView, RoleConfig, TokenizerView};
use crate::sandbox::guest::{Guest, HasGuest};

/// The state of a front-half store.
pub struct FrontState {
    pub(super) guest: Guest,
    /// The settings of the role that runs next.
    pub(super) config: RoleConfig,
    pub(super) tokenizer: Arc<TextTokenizer>,
}

impl FrontState {
    /// `config` for the linker.
    pub fn config(&self) -> ConfigView<'_> {
        ConfigView(&self.config)
    }

    /// `tokenizer` for the linker.
    pub fn tokenizer(&self) -> TokenizerView<'_> {
        TokenizerView(&self.tokenizer)
    }
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

/// Names the view of `config`.
pub struct HasConfig;

impl HasData for HasConfig {
    type Data<'a> = ConfigView<'a>;
}

/// Names the view of `tokenizer`.
pub struct HasTokenizer;

impl HasData for HasTokenizer {
    type Data<'a> = TokenizerView<'a>;
}
