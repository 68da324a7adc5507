//! Checks a component against its role, and links it.

use wasmtime::component::Linker;
use wasmtime::component::types::ComponentItem;

use super::engine::{Component, Sandbox};
use super::failure::{LoadError, clip};
use super::front::{FrontState, HasConfig, HasTokenizer};
use crate::role::Role;

/// The package of every interface in `wit/`, and the versions that this host speaks.
const PACKAGE: &str = "tenon:embed/";
const VERSIONS: &str = "0.1.";

/// Interfaces of WASI that components may import: all are inert here.
const INERT: &[&str] = &[
    "wasi:cli/",
    "wasi:io/",
    "wasi:clocks/",
    "wasi:random/",
    "wasi:filesystem/",
    "wasi:sockets/",
];

/// A component and the bundle and role in which it is used: what errors name.
pub struct Place<'a> {
    /// The bundle.
    pub bundle: &'a str,
    /// The role.
    pub role: Role,
    /// The component.
    pub component: &'a Component,
}

impl Place<'_> {
    /// An error that names the place.
    pub fn refuse(&self, what: impl std::fmt::Display) -> LoadError {
        LoadError(format!(
            "bundle {:?}, role {}, component {:?}: {what}",
            self.bundle, self.role, self.component.name
        ))
    }

    /// Checks imports and exports against the role.
    pub fn check(&self, sandbox: &Sandbox) -> Result<(), LoadError> {
        let kind = self.component.inner.component_type();
        let allowed = self.role.capabilities();
        for (name, _) in kind.imports(&sandbox.engine) {
            if INERT.iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            let known = interface(name)
                .is_some_and(|interface| interface == "types" || allowed.contains(&interface));
            if !known {
                return Err(self.refuse(format!(
                    "it imports {:?}, which the role is not offered; offered are {} of tenon:embed@0.1",
                    clip(name, 200),
                    allowed.join(", ")
                )));
            }
        }
        let mut offered = Vec::new();
        for (name, item) in kind.exports(&sandbox.engine) {
            let is_instance = matches!(item.ty, ComponentItem::ComponentInstance(_));
            if is_instance && interface(name) == Some(self.role.name()) {
                return Ok(());
            }
            offered.push(clip(name, 200));
        }
        Err(self.refuse(format!(
            "it does not export tenon:embed/{}@0.1; it exports {}",
            self.role,
            if offered.is_empty() {
                "nothing".into()
            } else {
                offered.join(", ")
            }
        )))
    }
}

/// The interface's name, if it is one of ours in a version that we speak.
fn interface(import: &str) -> Option<&str> {
    let (name, version) = import.strip_prefix(PACKAGE)?.split_once('@')?;
    version.starts_with(VERSIONS).then_some(name)
}

/// Links the interfaces of the front half that `role` may import.
pub fn front_linker(sandbox: &Sandbox, role: Role) -> wasmtime::Result<Linker<FrontState>> {
    use crate::host_api::imports::{config, tokenizer};
    let mut linker = Linker::<FrontState>::new(&sandbox.engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    for capability in role.capabilities() {
        match *capability {
            "config" => {
                config::add_to_linker::<_, HasConfig>(&mut linker, |state| state.config())?;
            }
            "tokenizer" => {
                tokenizer::add_to_linker::<_, HasTokenizer>(&mut linker, |state| {
                    state.tokenizer()
                })?;
            }
            other => wasmtime::bail!("{other} is not an interface of the front half"),
        }
    }
    Ok(linker)
}
