//! The components that the binary holds.

const COMPONENTS: [(&str, &[u8]); 5] = [
    (
        "openai",
        include_bytes!(concat!(env!("OUT_DIR"), "/api_openai.wasm")),
    ),
    (
        "plain",
        include_bytes!(concat!(env!("OUT_DIR"), "/template_plain.wasm")),
    ),
    (
        "bert",
        include_bytes!(concat!(env!("OUT_DIR"), "/model_bert.wasm")),
    ),
    (
        "decoder",
        include_bytes!(concat!(env!("OUT_DIR"), "/model_decoder.wasm")),
    ),
    (
        "standard",
        include_bytes!(concat!(env!("OUT_DIR"), "/pooling_standard.wasm")),
    ),
];

/// The binary form of a built-in component.
pub fn component(name: &str) -> Option<&'static [u8]> {
    COMPONENTS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, bytes)| *bytes)
}

/// Every name.
pub fn names() -> Vec<&'static str> {
    COMPONENTS.iter().map(|(name, _)| *name).collect()
}
