//! Runs batches on a device that another process holds.

use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use super::device::{Phase, Shared};
use super::link::Broken;
use super::message::Lane;
use crate::batch::{BatchOutput, ExecuteError, Executor, PackedBatch};

/// One of a deployment's executors on a device, in whatever process holds that now.
pub(super) struct ReplicaExecutor {
    device: Arc<Shared>,
    lane: Lane,
}

impl ReplicaExecutor {
    pub(super) fn new(device: Arc<Shared>, lane: Lane) -> Self {
        Self { device, lane }
    }

    fn run(&self, batch: &PackedBatch) -> Result<BatchOutput, ExecuteError> {
        let name = self.device.device();
        let process = match self.device.phase() {
            Phase::Up(process) => process,
            Phase::Down => {
                return Err(ExecuteError::Interrupted {
                    reason: format!("{name}: it is not usable now"),
                    started: false,
                });
            }
            Phase::Gone(reason) => return Err(ExecuteError::Lost(format!("{name}: {reason}"))),
        };
        let ran = process
            .link()
            .run(self.lane, batch, self.device.batch_time());
        if let Ok(Err(ExecuteError::Interrupted { .. })) = ran {
            // The supervisor is about to notice as well; until then the device seems to be up.
            thread::sleep(Duration::from_millis(1));
        }
        ran.unwrap_or_else(|Broken(reason)| {
            Err(ExecuteError::Interrupted {
                reason: format!("{name}: {reason}"),
                started: true,
            })
        })
    }
}

impl Executor for ReplicaExecutor {
    fn execute(&mut self, batch: &PackedBatch) -> Result<BatchOutput, ExecuteError> {
        let lock = self.device.in_flight.read();
        let _with_others = lock.unwrap_or_else(PoisonError::into_inner);
        self.run(batch)
    }

    fn execute_alone(&mut self, batch: &PackedBatch) -> Result<BatchOutput, ExecuteError> {
        let lock = self.device.in_flight.write();
        let _alone = lock.unwrap_or_else(PoisonError::into_inner);
        self.run(batch)
    }

    fn await_ready(&mut self, patience: Duration) -> Result<bool, ExecuteError> {
        match self.device.phase_in_time(patience) {
            Phase::Up(_) => Ok(true),
            Phase::Down => Ok(false),
            Phase::Gone(reason) => {
                let name = self.device.device();
                Err(ExecuteError::Lost(format!("{name}: {reason}")))
            }
        }
    }
}
