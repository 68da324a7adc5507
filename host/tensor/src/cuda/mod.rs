//! The CUDA backend: the operations of [`crate::ops`] as kernels and matrix products that are
//! queued in one stream of a device, one file a family. Nothing here waits for the device but
//! [`download`].
//!
//! `unsafe` is in the files that call the driver and its libraries: `compile`, `cublas`, `driver`,
//! `graph`, `launch` and `memory`.

mod attention;
mod compile;
mod cublas;
mod device;
mod driver;
mod elementwise;
mod embedding;
mod fp8;
mod graph;
mod launch;
mod layout;
mod linear;
mod matmul;
mod memory;
mod norm;
mod operand;
mod peak;
mod pixels;
mod pool;
mod pooling;
mod recording;
mod rotary;
mod sequence;
mod tuning;

pub(crate) use device::CudaDevice;
pub(crate) use driver::device_count;
pub(crate) use fp8::{Fp8Matrix, fits as fits_fp8};
pub(crate) use memory::DeviceBuffer;
pub(crate) use operand::{OnCuda, download};
pub(crate) use peak::product_flops;
pub(crate) use recording::Recorder;
pub use recording::{RecordedPass, Recording};
pub(crate) use sequence::LayoutOnDevice;
