//! A device and who pays: the first argument of every operation.

use std::sync::Arc;

use crate::cpu::Buffer;
use crate::error::Result;
use crate::shape::Shape;
use crate::{Account, Device};

/// A device and the account that its operations are charged to.
#[derive(Clone)]
pub struct Context {
    /// Where operations run.
    pub device: Device,
    /// Who pays for them.
    pub account: Arc<Account>,
}

impl Context {
    /// A buffer for a tensor of this shape, charged to the account. Its contents are
    /// whatever was there: the caller overwrites all of it.
    pub(crate) fn allocate(&self, op: &str, shape: &Shape) -> Result<Buffer> {
        self.device
            .cpu_device()
            .allocate(op, shape.elements(), Some(&self.account))
    }

    /// As [`Context::allocate`], for scratch of `words` elements.
    pub(crate) fn scratch(&self, op: &str, words: usize) -> Result<Buffer> {
        self.device
            .cpu_device()
            .allocate(op, words, Some(&self.account))
    }

    /// Adds the cost of an operation: multiply-adds plus elements.
    pub(crate) fn charge(&self, op: &str, cost: u64) -> Result<()> {
        self.account.charge_op(op, cost)
    }
}
