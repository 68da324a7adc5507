//! Which guest components there are: the folders in guest-components/, and what their
//! manifests say of the models that they compute.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

/// The folder that is no component: what components are written with.
const SDK: &str = "sdk";
/// The beginnings of folders' names, and the roles that each stands for.
const KINDS: [(&str, &str); 4] = [
    ("api-", "&[Role::RequestParser, Role::ResponseEncoder]"),
    (MODEL, "&[Role::Model]"),
    ("pooling-", "&[Role::Pooling]"),
    (TEMPLATE, "&[Role::Template]"),
];
const MODEL: &str = "model-";
const TEMPLATE: &str = "template-";

/// A guest component.
#[derive(Debug)]
pub struct Guest {
    /// Its package and its folder.
    pub package: String,
    /// Its built-in name: the package's without the kind.
    name: String,
    /// Its roles, as Rust writes them.
    roles: &'static str,
    model: ModelMetadata,
}

#[derive(Deserialize)]
struct Manifest {
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    tenon: Option<ModelMetadata>,
}

/// `[package.metadata.tenon]` of a model.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct ModelMetadata {
    architectures: Vec<String>,
    model_types: Vec<String>,
    template: Option<String>,
    pooling: Option<String>,
    normalize: bool,
    matryoshka_layer_norm: bool,
}

/// Every component in `folder`, by name.
///
/// # Errors
/// A manifest cannot be read, says what is not understood, or claims what another has.
pub fn find(folder: &Path) -> Result<Vec<Guest>, String> {
    let shown = folder.display();
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{shown}: {error}"))?;
    let mut guests = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| format!("{shown}: {error}"))?.path();
        if path.is_dir() && !path.ends_with(SDK) {
            let manifest = path.join("Cargo.toml");
            let guest = std::fs::read_to_string(&manifest)
                .map_err(|error| error.to_string())
                .and_then(|text| guest(&path, &text))
                .map_err(|what| format!("{}: {what}", manifest.display()))?;
            guests.push(guest);
        }
    }
    guests.sort_by(|a, b| a.package.cmp(&b.package));
    check(&guests)?;
    Ok(guests)
}

fn guest(folder: &Path, manifest: &str) -> Result<Guest, String> {
    let Manifest { package } = toml::from_str(manifest).map_err(|error| error.to_string())?;
    let Package { name, metadata } = package;
    if !folder.ends_with(&name) {
        return Err(format!("package.name is {name:?}, not the folder's"));
    }
    let found = KINDS
        .iter()
        .find_map(|(prefix, roles)| Some((*roles, name.strip_prefix(prefix)?)));
    let Some((roles, short)) = found else {
        let prefixes = KINDS.map(|(prefix, _)| prefix).join(", ");
        return Err(format!(
            "package.name is {name:?}, which begins with none of {prefixes}"
        ));
    };
    if metadata.tenon.is_some() && !name.starts_with(MODEL) {
        return Err("package.metadata.tenon: only a model has that".into());
    }
    Ok(Guest {
        name: short.to_owned(),
        roles,
        model: metadata.tenon.unwrap_or_default(),
        package: name,
    })
}

/// Refuses what two components claim, and a template that there is not.
fn check(guests: &[Guest]) -> Result<(), String> {
    let mut names = BTreeMap::new();
    let mut architectures = BTreeMap::new();
    let mut model_types = BTreeMap::new();
    for guest in guests {
        let package = guest.package.as_str();
        let claim = |what, claimed: &mut BTreeMap<_, _>, value| match claimed.insert(value, package)
        {
            None => Ok(()),
            Some(other) => Err(format!(
                "the {what} {value:?} is claimed twice: by guest-components/{other} and \
                     guest-components/{package}"
            )),
        };
        claim("name", &mut names, guest.name.as_str())?;
        for value in &guest.model.architectures {
            claim("architecture", &mut architectures, value.as_str())?;
        }
        for value in &guest.model.model_types {
            claim("model type", &mut model_types, value.as_str())?;
        }
        if let Some(template) = &guest.model.template {
            let wanted = format!("{TEMPLATE}{template}");
            if !guests.iter().any(|other| other.package == wanted) {
                return Err(format!(
                    "guest-components/{package}: package.metadata.tenon.template is \
                     {template:?}, but there is no guest-components/{wanted}"
                ));
            }
        }
    }
    Ok(())
}

impl Guest {
    /// The file that its compiled component has.
    pub fn file(&self) -> String {
        format!("{}.wasm", self.package.replace('-', "_"))
    }
}

/// The table of `bundles::builtin`, in Rust; the components lie beside it.
pub fn table(guests: &[Guest]) -> String {
    let rows = guests.iter().map(|guest| {
        let ModelMetadata {
            architectures,
            model_types,
            template,
            pooling,
            normalize,
            matryoshka_layer_norm,
        } = &guest.model;
        format!(
            "Builtin {{ name: {:?}, roles: {}, wasm: include_bytes!({:?}), \
             model: ModelDefaults {{ architectures: &{architectures:?}, \
             model_types: &{model_types:?}, template: {template:?}, pooling: {pooling:?}, \
             normalize: {normalize}, matryoshka_layer_norm: {matryoshka_layer_norm} }} }},\n",
            guest.name,
            guest.roles,
            guest.file(),
        )
    });
    format!("[\n{}]\n", rows.collect::<String>())
}
