//! Checks a component against its role, and links it.

use std::sync::Arc;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{InstancePre, Linker};

use super::compile::Component;
use super::engine::Sandbox;
use super::failure::{ComponentFailure, LoadError, clip, reason};
use super::log::Label;
use super::wasi;
use crate::host_api::RoleConfig;
use crate::role::Role;

/// The package of every interface in `wit/`, and the versions that this host speaks.
const PACKAGE: &str = "tenon:embed/";
const VERSIONS: &str = "0.1.";

/// Names that an error lists at the most.
const MAX_NAMES: usize = 16;

/// A component in its role, ready to be instantiated.
pub struct Linked<P> {
    /// Whose it is.
    pub label: Arc<Label>,
    /// What it sees as `config`.
    pub config: RoleConfig,
    /// The digest of the component.
    pub digest: [u8; 32],
    /// The instance to be.
    pub pre: P,
}

impl<P> Linked<P> {
    /// Checks `component` against `role`, and links it with `linker`.
    pub fn new<T: 'static>(
        sandbox: &Sandbox,
        bundle: &Arc<str>,
        role: Role,
        (component, config): (Component, RoleConfig),
        linker: impl FnOnce(&Sandbox, Role) -> wasmtime::Result<Linker<T>>,
        pre: impl FnOnce(InstancePre<T>) -> wasmtime::Result<P>,
    ) -> Result<Self, LoadError> {
        let label = Label {
            bundle: bundle.clone(),
            role,
            component: component.name.clone(),
        };
        check(sandbox, &component, role).map_err(|what| refusal(&label, what))?;
        let pre = linker(sandbox, role)
            .and_then(|linker| linker.instantiate_pre(&component.inner))
            .and_then(pre)
            .map_err(|error| refusal(&label, reason(&error)))?;
        Ok(Self {
            label: Arc::new(label),
            config,
            digest: component.digest,
            pre,
        })
    }

    /// An error of loading it.
    pub fn refusal(&self, what: impl std::fmt::Display) -> LoadError {
        refusal(&self.label, what)
    }

    /// An error of running it.
    pub fn failure(&self, reason: String) -> ComponentFailure {
        let Label {
            bundle,
            role,
            component,
        } = &*self.label;
        ComponentFailure {
            bundle: bundle.to_string(),
            role: *role,
            component: component.to_string(),
            reason,
        }
    }
}

fn refusal(label: &Label, what: impl std::fmt::Display) -> LoadError {
    let Label {
        bundle,
        role,
        component,
    } = label;
    LoadError(format!(
        "bundle {bundle:?}, role {role}, component {component:?}: {what}"
    ))
}

/// Imports at most what the role is offered; exports what the role asks for. The types of
/// both are checked when linking.
fn check(sandbox: &Sandbox, component: &Component, role: Role) -> Result<(), String> {
    let kind = component.inner.component_type();
    let allowed = role.capabilities();
    for (name, _) in kind.imports(&sandbox.engine) {
        let inert = wasi::PACKAGES
            .iter()
            .any(|package| name.starts_with(package));
        let offered = interface(name)
            .is_some_and(|interface| interface == "types" || allowed.contains(&interface));
        if !inert && !offered {
            return Err(format!(
                "it imports {:?}, which this role is not offered; offered are {} of \
                 tenon:embed@0.1, and inert {}",
                clip(name, 200),
                allowed.join(", "),
                wasi::PACKAGES.join(", ").replace('/', ""),
            ));
        }
    }
    let is_wanted = |name: &str, item: &ComponentItem| {
        matches!(item, ComponentItem::ComponentInstance(_)) && interface(name) == Some(role.name())
    };
    let mut offered = Vec::new();
    for (name, item) in kind.exports(&sandbox.engine) {
        if is_wanted(name, &item.ty) {
            return Ok(());
        }
        if offered.len() < MAX_NAMES {
            offered.push(clip(name, 200));
        }
    }
    Err(format!(
        "it does not export the interface tenon:embed/{role}@0.1 that the role wants; it exports {}",
        if offered.is_empty() {
            "nothing".into()
        } else {
            offered.join(", ")
        }
    ))
}

/// The interface's name, if it is one of ours in a version that we speak.
fn interface(import: &str) -> Option<&str> {
    let (name, version) = import.strip_prefix(PACKAGE)?.split_once('@')?;
    version.starts_with(VERSIONS).then_some(name)
}
