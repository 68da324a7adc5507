//! Reading the settings of the calling role.

use serde::de::DeserializeOwned;

use crate::config;

/// The settings of the calling role, of a type that says with `deny_unknown_fields` what
/// it understands.
///
/// # Errors
/// What is wrong with them and where.
pub fn role_settings<T: DeserializeOwned>() -> Result<T, String> {
    serde_json::from_str(&config::role()).map_err(|error| format!("role settings: {error}"))
}
