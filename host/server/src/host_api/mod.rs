//! What the host offers to components, one file a WIT interface, and the bindings of
//! every role.

mod batches;
mod config;
mod tensor;
mod tokenizer;
mod weights;

pub use config::{ConfigView, RoleConfig};
pub use tensor::TensorView;
pub use tokenizer::TokenizerView;

/// Bindings of all interfaces that a role may import.
pub mod imports {
    #![allow(missing_docs)] // Generated; the words stand in wit/.
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "imports",
        imports: { default: trappable },
        with: {
            "tenon:embed/tensor.tensor": tenon_tensor::Tensor,
            "tenon:embed/tensor.indices": tenon_tensor::Indices,
            "tenon:embed/tensor.layout": tenon_tensor::SequenceLayout,
            "tenon:embed/tensor.patches": tenon_tensor::Patches,
            "tenon:embed/batches.batch": tenon_tensor::Batch,
        },
    });
    pub use self::tenon::embed::{batches, config, tensor, tokenizer, weights};
}

/// Bindings of a component that reads requests.
pub mod request_parser {
    #![allow(missing_docs)]
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "request-parser-role",
        exports: { default: async },
        with: { "tenon:embed/config": crate::host_api::imports::config },
    });
    pub use self::exports::tenon::embed::request_parser::*;
    pub use self::tenon::embed::types;
}

/// Bindings of a component that renders inputs.
pub mod template {
    #![allow(missing_docs)]
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "template-role",
        exports: { default: async },
        with: {
            "tenon:embed/config": crate::host_api::imports::config,
            "tenon:embed/tokenizer": crate::host_api::imports::tokenizer,
            "tenon:embed/types": crate::host_api::request_parser::types,
        },
    });
    pub use self::exports::tenon::embed::template::*;
}

/// Bindings of a component that writes responses.
pub mod response_encoder {
    #![allow(missing_docs)]
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "response-encoder-role",
        exports: { default: async },
        with: {
            "tenon:embed/config": crate::host_api::imports::config,
            "tenon:embed/types": crate::host_api::request_parser::types,
        },
    });
    pub use self::exports::tenon::embed::response_encoder::*;
}

/// Bindings of a component that computes hidden states.
pub mod model {
    #![allow(missing_docs)]
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "model-role",
        exports: { default: async },
        additional_derives: [PartialEq, Eq],
        with: {
            "tenon:embed/config": crate::host_api::imports::config,
            "tenon:embed/tensor": crate::host_api::imports::tensor,
            "tenon:embed/weights": crate::host_api::imports::weights,
            "tenon:embed/batches": crate::host_api::imports::batches,
        },
    });
    pub use self::exports::tenon::embed::model::ModelInfo;
}

/// Bindings of a component that pools hidden states.
pub mod pooling {
    #![allow(missing_docs)]
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "pooling-role",
        exports: { default: async },
        additional_derives: [PartialEq, Eq],
        with: {
            "tenon:embed/config": crate::host_api::imports::config,
            "tenon:embed/tensor": crate::host_api::imports::tensor,
            "tenon:embed/weights": crate::host_api::imports::weights,
        },
    });
    pub use self::exports::tenon::embed::pooling::PoolingInfo;
}

/// A shape as `tenon-tensor` has it.
fn dimensions(shape: &[u32]) -> Vec<usize> {
    shape.iter().map(|&dimension| dimension as usize).collect()
}
