//! Element types.

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of an `f32`.
    BF16,
    /// 8-bit floating point, e4m3: what operands of matrix products may be served in. Tensors are
    /// never of it: what is not multiplied stays bf16.
    FP8,
    /// Unsigned bytes: pixels.
    U8,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::FP8 | DType::U8 => 1,
        }
    }

    /// What tensors are in where this is served.
    pub(crate) fn of_tensors(self) -> Self {
        match self {
            DType::FP8 => DType::BF16,
            other => other,
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::FP8 => "fp8",
            DType::U8 => "u8",
        })
    }
}
