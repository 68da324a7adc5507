//! The interface `weights`, natively.

use super::environment;
use super::tensor::{Error, Tensor, dims};

/// Whether the checkpoint has a tensor of this name.
pub fn has(name: &str) -> bool {
    environment().is_ok_and(|environment| environment.weights.has(name))
}

/// The tensor of this name and shape.
///
/// # Errors
/// Where it is absent or of another shape.
pub fn get(name: &str, shape: &[u32]) -> Result<Tensor, Error> {
    environment()?.weights.get(name, &dims(shape)).map(Tensor)
}

/// The named tensors one after the other along dimension 0.
///
/// # Errors
/// Where one is absent, or the result is of another shape.
pub fn concat(names: &[String], shape: &[u32]) -> Result<Tensor, Error> {
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    environment()?
        .weights
        .concat(&names, &dims(shape))
        .map(Tensor)
}
