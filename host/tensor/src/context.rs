//! A device and who pays: the first argument of every operation.

use std::sync::Arc;

use crate::cpu::OnCpu;
use crate::cuda::OnCuda;
use crate::device::Backend;
use crate::dtype::DType;
use crate::error::Result;
use crate::{Account, Device};

/// A device and the account that its operations are charged to.
#[derive(Clone)]
pub struct Context {
    /// Where operations run.
    pub device: Device,
    /// Who pays for them.
    pub account: Arc<Account>,
    /// What weights are served in: a CUDA device keeps activations in it too, or in bf16 where it
    /// is fp8; a processor that multiplies bf16 rounds attention's operands to it.
    pub dtype: DType,
}

/// Where an operation runs: each of them has a branch for each backend.
pub(crate) enum On<'a> {
    Cpu(OnCpu<'a>),
    Cuda(OnCuda<'a>),
}

impl Context {
    /// The device's backend and who pays.
    pub(crate) fn on(&self) -> On<'_> {
        let account = &self.account;
        match self.device.backend() {
            Backend::Cpu(device) => On::Cpu(OnCpu { device, account }),
            Backend::Cuda(device) => On::Cuda(OnCuda {
                device,
                account: Some(account),
                dtype: self.dtype.of_tensors(),
                recorder: self.device.recorder(),
            }),
        }
    }

    /// Adds the cost of an operation: multiply-adds plus elements.
    pub(crate) fn charge(&self, op: &str, cost: u64) -> Result<()> {
        self.account.charge_op(op, cost)
    }
}
