//! What the end-to-end tests and the benchmark share: a running server, a plain HTTP client,
//! small checkpoints, hostile components and the reference's vectors.

pub mod checkpoint;
pub mod components;
#[path = "../../host/tensor/tests/cuda/mod.rs"]
pub mod cuda;
pub mod families;
pub mod goldens;
pub mod gpu;
pub mod http;
pub mod hub;
pub mod multimodal;
pub mod reference;
pub mod server;
pub mod tools;
