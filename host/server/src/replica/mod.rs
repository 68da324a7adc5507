//! A device's own process: it holds the device's context and a replica of every deployment's
//! back half, and is replaced when the context is lost.
//!
//! After an error that sticks (an illegal access, say) a CUDA context is of no more use, nor is
//! the process that has it. So the server never opens one: a [`Replica`] starts `tenon worker`
//! for a device, loads deployments into it, and hands out executors that send it batches over a
//! socket. When the process ends, hangs or says that its device is lost, it is killed and
//! another is started and loaded; the scheduler runs the interrupted batches again.
//!
//! [`serve`] is the other end. `app` gives it something that loads back halves.

mod device;
mod executor;
mod link;
mod message;
mod plan;
mod process;
mod serve;
mod wire;

#[cfg(test)]
mod tests;

pub use device::{Replica, ReplicaLimits, ReplicaObserver};
pub use message::{DeviceFacts, Report};
pub use plan::{BackFacts, BackPlan, PlannedRole};
pub use process::{Program, Start, Started};
pub use serve::{Host, Loaded, Reporter, serve};
