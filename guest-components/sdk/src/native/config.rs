//! The interface `config`, natively. Outside of any environment its texts are empty.

/// The checkpoint's `config.json`, as it stands in the file (JSON text).
pub fn checkpoint() -> String {
    super::environment().map_or_else(|_| String::new(), |it| it.checkpoint.clone())
}

/// The settings of the calling role: a JSON object.
pub fn role() -> String {
    super::environment().map_or_else(|_| String::new(), |it| it.role.clone())
}
