//! The components that the binary holds.

use serde_json::{Map, Value};

use crate::role::Role;

/// A built-in component.
#[derive(Debug)]
pub struct Builtin {
    /// Its name, e.g. `bert`.
    pub name: &'static str,
    /// The roles it can play.
    roles: &'static [Role],
    /// Its binary form.
    pub wasm: &'static [u8],
    /// Of a model: the checkpoints it computes and how they are served.
    pub model: ModelDefaults,
}

/// Which checkpoints a model computes, and how they are served where neither their own files
/// nor the operator say otherwise.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelDefaults {
    architectures: &'static [&'static str],
    model_types: &'static [&'static str],
    /// The built-in component that renders their inputs.
    pub template: Option<&'static str>,
    /// The pooling mode.
    pub pooling: Option<&'static str>,
    /// Whether vectors are divided by their length.
    pub normalize: bool,
    /// Whether a vector that a caller wants shorter goes through a layer norm before.
    pub matryoshka_layer_norm: bool,
}

/// As the build script found them in guest-components/.
pub(super) const COMPONENTS: &[Builtin] = &include!(concat!(env!("OUT_DIR"), "/components.rs"));

/// The component of this name.
pub fn component(name: &str) -> Option<&'static Builtin> {
    COMPONENTS.iter().find(|component| component.name == name)
}

/// The component of this name, if it can play the role.
///
/// # Errors
/// There is none; says which there are.
pub fn for_role(role: Role, name: &str) -> Result<&'static Builtin, String> {
    let plays = |component: &&Builtin| component.roles.contains(&role);
    component(name).filter(plays).ok_or_else(|| {
        let names = COMPONENTS.iter().filter(plays).map(|known| known.name);
        let names = names.collect::<Vec<_>>().join(", ");
        format!("{name:?} is no built-in component for the role {role}; there are {names}")
    })
}

/// The model that computes a checkpoint: by the architecture that its `config.json` names, or
/// by the model type where it names none.
///
/// # Errors
/// There is none; says which there are.
pub fn model_of(config: &Map<String, Value>) -> Result<&'static Builtin, String> {
    let find = |key: &str, value: &Value, known: fn(&ModelDefaults) -> &'static [&'static str]| {
        let name = value.as_str().unwrap_or_default();
        COMPONENTS
            .iter()
            .find(|component| known(&component.model).contains(&name))
            .ok_or_else(|| {
                let known = COMPONENTS
                    .iter()
                    .flat_map(|component| known(&component.model));
                let known = known.copied().collect::<Vec<_>>().join(", ");
                format!("{key} is {value}; supported are {known}")
            })
    };
    if let Some(architecture) = architecture(config) {
        return find("architectures", architecture, |model| model.architectures);
    }
    match config.get("model_type") {
        Some(kind) => find("model_type", kind, |model| model.model_types),
        None => Err("it names neither architectures nor model_type".into()),
    }
}

/// The first architecture, where the checkpoint names one.
pub fn architecture(config: &Map<String, Value>) -> Option<&Value> {
    config.get("architectures").and_then(|list| list.get(0))
}
