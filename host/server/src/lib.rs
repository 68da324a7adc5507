//! trimmed
pub mod batch;
pub mod error;
pub mod host_api;
pub mod role;
pub mod sandbox;
