//! `bundle.toml`: says explicitly what a folder would say of itself, and replaces roles.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::derive::derive;
use super::{Bundle, BundleError, ComponentSource, ServedDtype, builtin, json};
use crate::role::Role;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    name: Option<String>,
    #[serde(default)]
    aliases: Vec<String>,
    weights: String,
    #[serde(default)]
    dtype: ServedDtype,
    #[serde(default)]
    roles: BTreeMap<String, String>,
    #[serde(default)]
    config: BTreeMap<String, toml::Table>,
}

/// Reads a manifest; paths in it are relative to its folder.
pub fn from_manifest(path: &Path) -> Result<Bundle, BundleError> {
    let refuse = |what: String| BundleError::new(path, what);
    let manifest: Manifest =
        toml::from_str(&json::read_text(path)?).map_err(|error| BundleError::new(path, error))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    // Without the `.` of "./model".
    let beside = |file: &Path| -> PathBuf { folder.join(file).components().collect() };
    let mut roles = Vec::new();
    for (key, source) in manifest.roles {
        let role = role(&key).map_err(|what| refuse(format!("roles.{what}")))?;
        let source = match source.strip_prefix("builtin:") {
            Some(name) => {
                let found = builtin::for_role(role, name);
                found.map_err(|what| refuse(format!("roles.{key} is {source:?}: {what}")))?;
                ComponentSource::Builtin(name.into())
            }
            None => ComponentSource::File(beside(source.as_ref())),
        };
        roles.push((role, source));
    }
    let model = roles.iter().find(|(role, _)| *role == Role::Model);
    let model = model.map(|(_, source)| source.clone());
    let weights = beside(manifest.weights.as_ref());
    let mut bundle = derive(&weights, manifest.name.as_deref(), model)?;
    bundle.aliases = manifest.aliases;
    bundle.dtype = manifest.dtype;
    for (role, source) in roles {
        bundle.replace(role, source)?;
    }
    for (key, table) in manifest.config {
        let role = role(&key).map_err(|what| refuse(format!("config.{what}")))?;
        let table = serde_json::to_value(table)
            .map_err(|error| refuse(format!("config.{key}: {error}")))?;
        if let (Value::Object(settings), Value::Object(table)) =
            (bundle.role_config.get_mut(role), table)
        {
            settings.extend(table);
        }
    }
    bundle.check_chat_template()?;
    Ok(bundle)
}

fn role(key: &str) -> Result<Role, String> {
    Role::ALL
        .into_iter()
        .find(|role| role.name() == key)
        .ok_or_else(|| {
            format!(
                "{key}: no such role; there are {}",
                Role::ALL.map(Role::name).join(", ")
            )
        })
}
