//! What a guest component is written with.

/// Bindings of every interface that a role may import.
pub mod imports {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "imports",
        generate_all,
        default_bindings_module: "tenon_sdk::imports",
    });
}

/// The role that computes hidden states.
pub mod model_role {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "model-role",
        pub_export_macro: true,
        export_macro_name: "export_model",
        default_bindings_module: "tenon_sdk::model_role",
        with: {
            "tenon:embed/config@0.1.0": crate::imports::tenon::embed::config,
            "tenon:embed/tensor@0.1.0": crate::imports::tenon::embed::tensor,
            "tenon:embed/weights@0.1.0": crate::imports::tenon::embed::weights,
            "tenon:embed/batches@0.1.0": crate::imports::tenon::embed::batches,
        },
    });
}
