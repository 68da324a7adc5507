//! The instruction levels, and the one door through which kernels enter them.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use super::amx;
#[cfg(target_arch = "x86_64")]
use super::avx2::{self, Avx2};
#[cfg(target_arch = "x86_64")]
use super::avx512::{self, Avx512, Avx512Bf16};
use super::portable::Portable;
use super::simd::Simd;

/// Which vector instructions the kernels use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// What every processor of the target has.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 with products of bfloat16 pairs.
    Avx512Bf16,
    /// The same, and such products on the matrix unit.
    AmxBf16,
}

/// A kernel written once for all levels.
pub(super) trait Kernel {
    /// What it returns.
    type Output;

    /// The kernel. Implementations are `#[inline(always)]`, so that they are compiled with
    /// the instructions of the level that they are inlined into.
    ///
    /// # Safety
    /// The processor has the instructions of `S`, and what the kernel's fields promise
    /// holds.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

impl Level {
    /// Every level, the narrowest first.
    pub const ALL: [Level; 5] = [
        Level::Portable,
        Level::Avx2,
        Level::Avx512,
        Level::Avx512Bf16,
        Level::AmxBf16,
    ];

    /// The widest that this processor has.
    pub fn best() -> Self {
        let available = Self::ALL
            .into_iter()
            .rev()
            .find(|level| level.is_available());
        available.unwrap_or(Level::Portable)
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            Level::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                Level::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 => {
                Level::Avx512.is_available() && is_x86_feature_detected!("avx512bf16")
            }
            #[cfg(target_arch = "x86_64")]
            Level::AmxBf16 => Level::Avx512Bf16.is_available() && amx::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Avx512Bf16 => "avx512_bf16",
            Level::AmxBf16 => "amx_bf16",
        }
    }

    /// Whether it multiplies pairs of bfloat16, at twice the rate of f32 or more.
    pub fn has_bf16_products(self) -> bool {
        matches!(self, Level::Avx512Bf16 | Level::AmxBf16)
    }

    /// Columns of a weight panel.
    pub(super) fn panel_columns(self) -> usize {
        match self {
            Level::Portable => Portable::LANES * 2,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Avx2::LANES * 2,
            #[cfg(target_arch = "x86_64")]
            _ => Avx512::LANES * 2,
            #[cfg(not(target_arch = "x86_64"))]
            _ => Portable::LANES * 2,
        }
    }

    /// Runs a kernel with these instructions.
    ///
    /// # Safety
    /// The level is available, and what the kernel's fields promise holds.
    pub(super) unsafe fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: the caller promises both of what `Kernel::run` asks for; portable code
        // needs no instructions.
        unsafe {
            match self {
                Level::Portable => kernel.run::<Portable>(),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => avx2::enter(kernel),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => avx512::enter::<Avx512, K>(kernel),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512Bf16 | Level::AmxBf16 => avx512::enter_bf16::<Avx512Bf16, K>(kernel),
                #[cfg(not(target_arch = "x86_64"))]
                _ => kernel.run::<Portable>(),
            }
        }
    }
}
