//! Copies of strided views.

/// Copies a view of `from` (dimensions, and the strides of both sides, outermost first)
/// into `out`. The innermost strides are 1.
pub(crate) fn copy_strided(
    dims: &[usize],
    from: &[f32],
    from_strides: &[usize],
    out: &mut [f32],
    out_strides: &[usize],
) {
    match (dims, from_strides, out_strides) {
        ([dim], [..], [..]) => out[..*dim].copy_from_slice(&from[..*dim]),
        ([dim, dims @ ..], [from_stride, from_strides @ ..], [out_stride, out_strides @ ..]) => {
            for index in 0..*dim {
                let from = &from[index * from_stride..];
                let out = &mut out[index * out_stride..];
                copy_strided(dims, from, from_strides, out, out_strides);
            }
        }
        _ => {}
    }
}
