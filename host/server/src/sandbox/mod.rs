//! Wasmtime: engine, limits, deadlines and the five roles.

mod back;
mod engine;
mod failure;
mod front;
mod guest;
mod limits;
mod link;
mod log;

pub use back::{BackHalf, ModelInfo, OnFailure, PoolingInfo};
pub use engine::{Component, Sandbox};
pub use failure::{ComponentFailure, FrontError, LoadError};
pub use front::{
    EncodedResponse, FrontBundle, FrontRoles, ParsedRequest, Rendered, RenderedSegment,
    ResponseInfo, RoleConfig, Truncation, TruncationSide,
};
pub use limits::SandboxLimits;
