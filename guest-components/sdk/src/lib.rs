//! What a guest component of Tenon is written with.
//!
//! A component does one or more of five jobs, its roles. Each role has a trait to
//! implement and a macro that exports the implementation:
//!
//! | role | trait | macro |
//! |---|---|---|
//! | request-parser | [`request_parser::Guest`] | [`export_request_parser!`] |
//! | template | [`template::Guest`] | [`export_template!`] |
//! | model | [`Model`] | [`export_model!`] |
//! | pooling | [`Pooling`] | [`export_pooling!`] |
//! | response-encoder | [`response_encoder::Guest`] | [`export_response_encoder!`] |
//!
//! A pooling policy that takes each sequence's first row:
//! ```
//! use tenon_sdk::tensor::{self, Error, Layout, PoolMode, Tensor};
//! use tenon_sdk::{Pooling, PoolingInfo};
//!
//! struct FirstRow;
//!
//! impl Pooling for FirstRow {
//!     fn load(hidden_size: u32) -> Result<(Self, PoolingInfo), String> {
//!         let info = PoolingInfo {
//!             dimensions: hidden_size,
//!             matryoshka: false,
//!             matryoshka_dimensions: Vec::new(),
//!         };
//!         Ok((Self, info))
//!     }
//!
//!     fn pool(&self, hidden: &Tensor, layout: &Layout, _: Option<u32>) -> Result<Tensor, Error> {
//!         tensor::segment_pool(hidden, layout, PoolMode::First)
//!     }
//! }
//!
//! tenon_sdk::export_pooling!(FirstRow);
//! # fn main() {}
//! ```
//! Built for `wasm32-wasip2` this is a component that imports what it calls and exports
//! `pooling`. Built for the host the same code runs natively, where [`tensor`],
//! [`weights`], [`batches`] and [`config`] are thin shims over `tenon-tensor` (see the
//! module `native`): that is how the cost of the sandbox is measured.

#[doc(hidden)]
#[allow(missing_docs)]
pub mod bindings;
pub mod chat;
pub mod checkpoint;
pub mod decoder;
pub mod errors;
pub mod layers;
mod model;
#[cfg(not(target_family = "wasm"))]
pub mod native;
mod pooling;
pub mod pre_norm_layer;
pub mod preprocessor;
pub mod rotary;
pub mod rotary_encoder;
mod settings;

#[cfg(target_family = "wasm")]
pub use bindings::imports::tenon::embed::{batches, config, tensor, tokenizer, weights};
#[cfg(not(target_family = "wasm"))]
pub use native::{batches, config, tensor, tokenizer, weights};

pub use bindings::request_parser::tenon::embed::types;
pub use model::{Model, ModelInfo};
pub use pooling::{Pooling, PoolingInfo};
pub use settings::role_settings;

/// The role `request-parser`: the body of an HTTP request becomes an embed request.
pub mod request_parser {
    pub use crate::bindings::request_parser::exports::tenon::embed::request_parser::*;
}

/// The role `template`: inputs become what the tokenizer reads.
pub mod template {
    pub use crate::bindings::template::exports::tenon::embed::template::*;
}

/// The role `response-encoder`: vectors become the body of an HTTP response.
pub mod response_encoder {
    pub use crate::bindings::response_encoder::exports::tenon::embed::response_encoder::*;
}

/// Exports a [`request_parser::Guest`] from this component.
#[macro_export]
macro_rules! export_request_parser {
    ($type:ident) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::request_parser::export!($type);
    };
}

/// Exports a [`template::Guest`] from this component.
#[macro_export]
macro_rules! export_template {
    ($type:ident) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::template::export!($type);
    };
}

/// Exports a [`response_encoder::Guest`] from this component.
#[macro_export]
macro_rules! export_response_encoder {
    ($type:ident) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::response_encoder::export!($type);
    };
}
