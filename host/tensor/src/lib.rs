//! Tensors, weights and operations for embedding models: no async, no wasm, no HTTP.
//!
//! A [`Device`] is the processor with its threads, or a CUDA device. A [`Context`] is a device
//! and the [`Account`] that pays; it is the first argument of every operation in [`ops`].
//! Activations are `f32` on the processor, and what weights are served in on a CUDA device; a
//! weight keeps the dtype it is served in. One row of a result
//! depends on its own sequence only, to the bit, whatever else is in the batch and however
//! many threads work on it.
//!
//! ```
//! use tenon_tensor::{Account, Context, DType, Device, Tensor, ops};
//!
//! let (device, account) = (Device::cpu(2)?, Account::new(1 << 20));
//! let ctx = Context { device, account, dtype: DType::F32 };
//! let x = Tensor::from_f32(&ctx, &[1, 2], &[3.0, 4.0])?;
//! let unit = ops::l2_normalize(&ctx, &x, 1e-12)?;
//! assert_eq!(unit.to_f32()?, [0.6, 0.8]);
//! # Ok::<(), tenon_tensor::Error>(())
//! ```

mod account;
mod batch;
mod context;
mod convert;
mod cpu;
mod cuda;
mod device;
mod dtype;
mod error;
mod image;
pub mod ops;
mod sequence;
mod shape;
mod tensor;
mod weights;

pub use account::Account;
pub use batch::{Axis, Batch};
pub use context::Context;
pub use cpu::Level;
pub use cuda::{RecordedPass, Recording};
pub use device::{Device, available_cpus};
pub use dtype::DType;
pub use error::{Error, Result};
pub use image::{PatchOptions, Patches, Pixels, PlacedImage};
pub use ops::{Activation, AttentionInput, AttentionOptions, HeadNorms, PixelOptions, PoolMode};
pub use sequence::{Indices, SequenceLayout};
pub use tensor::Tensor;
pub use weights::Weights;
