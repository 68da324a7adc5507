//! Tenon serves embedding models behind the OpenAI API. Everything particular to a model
//! is a sandboxed WebAssembly component; this crate is the host that composes them.
//!
//! Arrows run one way: `cli` calls [`app`], which alone joins [`http`], [`scheduler`],
//! [`sandbox`] and [`bundles`]. See ARCHITECTURE.md.

pub mod app;
pub mod batch;
pub mod bundles;
pub mod cli;
pub mod config;
pub mod error;
pub mod host_api;
pub mod http;
pub mod media;
pub mod observability;
pub mod replica;
pub mod role;
pub mod sandbox;
pub mod scheduler;
pub mod service;
pub mod tenants;
