//! Configuration files of a checkpoint: read within a limit, errors with file and key.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::BundleError;

/// No configuration file of a model comes near this size.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// The text of a configuration file.
pub fn read_text(path: &Path) -> Result<String, BundleError> {
    let error = |error: std::io::Error| BundleError::new(path, error);
    let size = std::fs::metadata(path).map_err(error)?.len();
    if size > MAX_CONFIG_BYTES {
        let what = format!("it has {size} bytes, the limit is {MAX_CONFIG_BYTES}");
        return Err(BundleError::new(path, what));
    }
    std::fs::read_to_string(path).map_err(error)
}

/// The value in a JSON file.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, BundleError> {
    let text = read_text(path)?;
    let json = &mut serde_json::Deserializer::from_str(&text);
    // With the key, which serde_json's own errors leave out.
    serde_path_to_error::deserialize(json).map_err(|error| BundleError::new(path, error))
}

/// The value in a JSON file, or the default where there is no such file.
pub fn read_optional<T: DeserializeOwned + Default>(path: &Path) -> Result<T, BundleError> {
    match path.exists() {
        true => read(path),
        false => Ok(T::default()),
    }
}

/// The object in a JSON file.
pub fn read_object(path: &Path) -> Result<Map<String, Value>, BundleError> {
    read(path)
}
