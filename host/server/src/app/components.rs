//! Components by where they come from, each compiled once.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;

use crate::bundles::{ComponentSource, builtin};
use crate::role::Role;
use crate::sandbox::{Component, Sandbox};

/// A component file larger than this is not read. The compiler has its own limit.
const MAX_COMPONENT_BYTES: u64 = 64 << 20;

/// Compiled components.
pub struct Components {
    sandbox: Sandbox,
    compiled: Mutex<HashMap<ComponentSource, Component>>,
}

impl Components {
    /// None yet.
    pub fn new(sandbox: Sandbox) -> Self {
        Self {
            sandbox,
            compiled: Mutex::new(HashMap::new()),
        }
    }

    /// Where they run.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// The component of a role, which an error names.
    pub fn of_role(&self, role: Role, source: &ComponentSource) -> anyhow::Result<Component> {
        self.get(source).with_context(|| format!("the role {role}"))
    }

    fn get(&self, source: &ComponentSource) -> anyhow::Result<Component> {
        // A thread that panicked leaves the map as it was.
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(component) = compiled.get(source) {
            return Ok(component.clone());
        }
        let component = match source {
            ComponentSource::Builtin(name) => {
                let found = builtin::component(name)
                    .with_context(|| format!("no built-in component is named {name:?}"))?;
                self.sandbox.compile(&source.to_string(), found.wasm)?
            }
            ComponentSource::File(path) => {
                let bytes = read_limited(path)
                    .with_context(|| format!("cannot read the component {}", path.display()))?;
                self.sandbox.compile(&source.to_string(), &bytes)?
            }
        };
        compiled.insert(source.clone(), component.clone());
        Ok(component)
    }
}

fn read_limited(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::metadata(path)?.len();
    anyhow::ensure!(
        bytes <= MAX_COMPONENT_BYTES,
        "it has {bytes} bytes, the limit is {MAX_COMPONENT_BYTES}"
    );
    Ok(std::fs::read(path)?)
}
