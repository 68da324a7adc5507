//! The generated bindings: what `wit/` says, in Rust. Use the modules at the crate's root.

/// The interfaces that roles import.
#[cfg(target_family = "wasm")]
pub mod imports {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "imports",
        generate_all,
    });
}

/// The role `model`.
#[cfg(target_family = "wasm")]
pub mod model {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "model-role",
        pub_export_macro: true,
        default_bindings_module: "tenon_sdk::bindings::model",
        with: {
            "tenon:embed/config@0.1.0": crate::config,
            "tenon:embed/tensor@0.1.0": crate::tensor,
            "tenon:embed/weights@0.1.0": crate::weights,
            "tenon:embed/batches@0.1.0": crate::batches,
        },
    });
}

/// The role `pooling`.
#[cfg(target_family = "wasm")]
pub mod pooling {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "pooling-role",
        pub_export_macro: true,
        default_bindings_module: "tenon_sdk::bindings::pooling",
        with: {
            "tenon:embed/config@0.1.0": crate::config,
            "tenon:embed/tensor@0.1.0": crate::tensor,
            "tenon:embed/weights@0.1.0": crate::weights,
        },
    });
}

/// The role `request-parser`, and the types that it shares with the other front roles.
pub mod request_parser {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "request-parser-role",
        pub_export_macro: true,
        default_bindings_module: "tenon_sdk::bindings::request_parser",
        with: {
            "tenon:embed/types@0.1.0": generate,
            "tenon:embed/config@0.1.0": crate::config,
        },
    });
}

/// The role `template`.
pub mod template {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "template-role",
        pub_export_macro: true,
        default_bindings_module: "tenon_sdk::bindings::template",
        with: {
            "tenon:embed/types@0.1.0": crate::types,
            "tenon:embed/config@0.1.0": crate::config,
            "tenon:embed/tokenizer@0.1.0": crate::tokenizer,
        },
    });
}

/// The role `response-encoder`.
pub mod response_encoder {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "response-encoder-role",
        pub_export_macro: true,
        default_bindings_module: "tenon_sdk::bindings::response_encoder",
        with: {
            "tenon:embed/types@0.1.0": crate::types,
            "tenon:embed/config@0.1.0": crate::config,
        },
    });
}
