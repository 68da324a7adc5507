//! Wasmtime: engine, limits, deadlines and the five roles.

mod back;
mod compile;
mod engine;
mod failure;
mod front;
mod guest;
mod limits;
mod link;
mod log;
mod wasi;

pub use back::{BackHalf, ModelInfo, OnFailure, PoolingInfo};
pub use compile::Component;
pub use engine::Sandbox;
pub use failure::{ComponentFailure, FrontError, LoadError};
pub use front::{
    EncodedResponse, FrontBundle, FrontRoles, ImageRun, Media, MediaSource, ParsedRequest,
    Rendered, RenderedSegment, ResponseInfo, RoleConfig, Truncation, TruncationSide,
};
pub use limits::SandboxLimits;
