//! API keys and who they belong to.

mod keys;

pub use keys::{KeyError, Keys, Tenant};
