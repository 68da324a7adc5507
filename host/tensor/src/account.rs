//! What a store may use: live bytes, and operation cost per batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::{Result, bail};

/// Live bytes against a limit, and the operation cost of the batch being run. Charged by
/// every operation; shared by all tensors that were allocated with it.
#[derive(Debug)]
pub struct Account {
    limit_bytes: u64,
    used_bytes: AtomicU64,
    peak_bytes: AtomicU64,
    op_budget: AtomicU64,
    op_cost: AtomicU64,
}

impl Account {
    /// An account that may hold `limit_bytes` at a time. Operation cost is not limited
    /// before the first [`Account::start_batch`].
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            limit_bytes,
            used_bytes: AtomicU64::new(0),
            peak_bytes: AtomicU64::new(0),
            op_budget: AtomicU64::new(u64::MAX),
            op_cost: AtomicU64::new(0),
        })
    }

    /// Bytes that are live now.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Relaxed)
    }

    /// The most bytes that were live at a time.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes.load(Relaxed)
    }

    /// The most bytes that may be live at a time.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Cost of the operations since the batch began: multiply-adds plus elements.
    pub fn op_cost(&self) -> u64 {
        self.op_cost.load(Relaxed)
    }

    /// Forgets the cost so far and allows `op_budget` from here on: multiply-adds plus
    /// elements.
    pub fn start_batch(&self, op_budget: u64) {
        self.op_cost.store(0, Relaxed);
        self.op_budget.store(op_budget, Relaxed);
    }

    /// Adds the cost of an operation, before it runs.
    pub(crate) fn charge_op(&self, op: &str, cost: u64) -> Result<()> {
        let budget = self.op_budget.load(Relaxed);
        let add = |spent: u64| spent.checked_add(cost).filter(|&sum| sum <= budget);
        match self.op_cost.fetch_update(Relaxed, Relaxed, add) {
            Ok(_) => Ok(()),
            Err(spent) => bail!(
                QuotaExceeded,
                "{op}: cost {cost} on top of {spent} is over the batch's budget of {budget}"
            ),
        }
    }

    /// Adds bytes, before they are allocated.
    pub(crate) fn charge_bytes(&self, op: &str, bytes: u64) -> Result<()> {
        let limit = self.limit_bytes;
        let add = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= limit);
        match self.used_bytes.fetch_update(Relaxed, Relaxed, add) {
            Ok(used) => {
                self.peak_bytes.fetch_max(used + bytes, Relaxed);
                Ok(())
            }
            Err(used) => bail!(
                QuotaExceeded,
                "{op}: {bytes} bytes on top of {used} are over the limit of {limit}"
            ),
        }
    }

    /// Gives back what [`Account::charge_bytes`] added.
    pub(crate) fn return_bytes(&self, bytes: u64) {
        self.used_bytes.fetch_sub(bytes, Relaxed);
    }
}
