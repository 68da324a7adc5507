//! Rotary position embeddings.

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

#[cfg(test)]
mod tests {
    use super::inverse_frequencies;

    /// To the bit what torch 2 gives for `1.0 / (theta ** (torch.arange(0, d, 2) / d))`.
    #[test]
    fn frequencies_are_those_of_torch() {
        assert_eq!(inverse_frequencies(8, 10_000.0), [1.0, 0.1, 0.01, 0.001]);
    }
}
