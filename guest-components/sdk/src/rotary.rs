//! Rotary position embeddings.

use crate::tensor::{self, Error, Tensor};

/// The angles that a step of one position turns a head's pairs by: 1 / theta^(2 i / `head_dim`)
/// for every i below `head_dim` / 2, in f32.
pub fn inverse_frequencies(head_dim: u32, theta: f32) -> Vec<f32> {
    (0..head_dim)
        .step_by(2)
        .map(|index| {
            let exponent = index as f32 / head_dim as f32;
            // Through f64: the power is rounded once, wherever this is compiled for.
            1.0 / f64::from(theta).powf(f64::from(exponent)) as f32
        })
        .collect()
}

/// Tables of the same rows as one, whose frequencies follow each other: each may turn with
/// positions of its own.
///
/// # Errors
/// The error of an operation.
pub fn concat_tables(tables: &[Tensor]) -> Result<Tensor, Error> {
    let mut halves = Vec::with_capacity(2 * tables.len());
    for sines in [false, true] {
        for table in tables {
            let width = table.shape().last().copied().unwrap_or(0) / 2;
            let start = if sines { width } else { 0 };
            halves.push(tensor::slice(table, 1, start, width)?);
        }
    }
    tensor::concat(&halves.iter().collect::<Vec<_>>(), 1)
}

#[cfg(test)]
mod tests {
    use super::inverse_frequencies;

    /// To the bit what torch 2 gives for `1.0 / (theta ** (torch.arange(0, d, 2) / d))`.
    #[test]
    fn frequencies_are_those_of_torch() {
        assert_eq!(inverse_frequencies(8, 10_000.0), [1.0, 0.1, 0.01, 0.001]);
    }
}
