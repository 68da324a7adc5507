//! The components that the binary holds.

/// Names and binary forms, as the build script wrote them.
const COMPONENTS: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/components.rs"));

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
