//! The front half: request-parser, template and response-encoder, in stores that live
//! for one request.

mod body;
mod bundle;
mod convert;
mod state;

pub use crate::host_api::RoleConfig;
pub use bundle::{FrontBundle, FrontRoles};
pub use convert::{
    EncodedResponse, ImageRun, Media, MediaSource, ParsedRequest, Rendered, RenderedSegment,
    ResponseInfo, Truncation, TruncationSide,
};
