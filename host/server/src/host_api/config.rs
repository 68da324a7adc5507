//! `config`: a component's settings.

use std::sync::Arc;

use super::imports::config::Host;

/// The settings of one role of a bundle, as JSON text.
#[derive(Debug, Clone)]
pub struct RoleConfig {
    /// The checkpoint's `config.json`.
    pub checkpoint: Arc<str>,
    /// The role's own settings.
    pub role: Arc<str>,
}

/// The settings of the role that is running.
pub struct ConfigView<'a>(pub &'a RoleConfig);

impl Host for ConfigView<'_> {
    fn checkpoint(&mut self) -> wasmtime::Result<String> {
        Ok(self.0.checkpoint.to_string())
    }

    fn role(&mut self) -> wasmtime::Result<String> {
        Ok(self.0.role.to_string())
    }
}
