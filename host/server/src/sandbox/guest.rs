//! The part of a store's state that both halves have: memory, time, handles, WASI, log.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView};

use super::limits::SandboxLimits;
use super::log::{Label, Log};
use super::wasi;

/// Limits, WASI and handles of one store.
pub struct Guest {
    /// Handles that components of this store hold.
    pub table: ResourceTable,
    /// Time spent in host operations since the budget was set.
    pub host_time: Duration,
    wasi: WasiCtx,
    log: Log,
    memory: MemoryLimit,
    budget: Budget,
}

impl Guest {
    /// State without ambient authority.
    pub fn new(limits: &SandboxLimits) -> Self {
        let log = Log::new(limits.log_bytes);
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.max_handles);
        Self {
            table,
            host_time: Duration::ZERO,
            wasi: wasi::context(&log),
            log,
            memory: MemoryLimit {
                memory_left: limits.store_memory_bytes,
                elements_left: limits.store_table_elements,
                asked: 0,
            },
            budget: Budget::Ticks(0),
        }
    }

    /// WASI for the linker.
    pub fn wasi(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// A store's state that has a [`Guest`] in it.
pub trait HasGuest: Send + 'static {
    /// The guest part.
    fn guest(&mut self) -> &mut Guest;
}

/// How long components may run.
#[derive(Debug, Clone, Copy)]
pub enum Budget {
    /// Ticks in which the component was running; at each of them others on the same
    /// thread go first.
    Ticks(u64),
    /// On a thread of the store's own: `guest` without host operations, and all until
    /// `end`.
    Until {
        /// When it began.
        start: Instant,
        /// How long in all.
        total: Duration,
        /// How long without host operations.
        guest: Duration,
    },
}

impl Budget {
    /// For the front half: `time` of running.
    pub fn shared(limits: &SandboxLimits, time: Duration) -> Self {
        let ticks = time.as_nanos() / limits.tick.as_nanos().max(1);
        Self::Ticks(u64::try_from(ticks).unwrap_or(u64::MAX))
    }

    /// For the back half: `total`, of which the component itself has its own part.
    pub fn exclusive(limits: &SandboxLimits, total: Duration) -> Self {
        Self::Until {
            start: Instant::now(),
            total,
            guest: limits.back_guest_time,
        }
    }

    /// A tick came while the component ran.
    fn tick(&mut self, host_time: Duration) -> wasmtime::Result<UpdateDeadline> {
        match self {
            Self::Ticks(0) => wasmtime::bail!("it ran for longer than its time limit"),
            Self::Ticks(left) => {
                *left -= 1;
                Ok(UpdateDeadline::YieldCustom(
                    1,
                    Box::pin(tokio::task::yield_now()),
                ))
            }
            Self::Until {
                start,
                total,
                guest,
            } => {
                let elapsed = start.elapsed();
                if elapsed >= *total {
                    wasmtime::bail!("it ran for longer than its limit of {total:?}");
                }
                if elapsed.saturating_sub(host_time) >= *guest {
                    wasmtime::bail!("it computed for longer than its limit of {guest:?}");
                }
                Ok(UpdateDeadline::Continue(1))
            }
        }
    }
}

/// A store with every limit set. It runs nothing before [`begin`].
pub fn store<T: HasGuest>(
    engine: &Engine,
    limits: &SandboxLimits,
    state: T,
) -> wasmtime::Result<Store<T>> {
    let mut store = Store::try_new(engine, state)?;
    store.limiter(|state| &mut state.guest().memory);
    store.set_hostcall_fuel(limits.call_bytes);
    store.set_max_component_handles(limits.max_handles);
    store.epoch_deadline_callback(|mut context| {
        let guest = context.data_mut().guest();
        guest.budget.tick(guest.host_time)
    });
    Ok(store)
}

/// Gives the component of `label` a budget of time and of log for what it is called for
/// next.
pub fn begin<T: HasGuest>(
    store: &mut Store<T>,
    limits: &SandboxLimits,
    label: &Arc<Label>,
    budget: Budget,
) {
    let guest = store.data_mut().guest();
    guest.log.begin(label.clone(), limits.log_bytes);
    guest.host_time = Duration::ZERO;
    guest.budget = budget;
    store.set_epoch_deadline(1);
}

/// Runs a call under an exclusive budget to its end. It is made of futures so that it has a
/// stack of its own, which it may overflow; nothing that it can reach ever waits.
pub fn run<T>(call: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(wasmtime::Error::msg("it waits for what never comes")),
    }
}

/// Limits the sum over all memories and all tables of a store.
struct MemoryLimit {
    memory_left: usize,
    elements_left: usize,
    /// What was granted last, in case the system then refuses it.
    asked: usize,
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let asked = desired.saturating_sub(current);
        // Beyond a memory's own maximum nothing grows, and nothing is reported as failed.
        let granted =
            maximum.is_none_or(|maximum| desired <= maximum) && take(&mut self.memory_left, asked);
        self.asked = if granted { asked } else { 0 };
        Ok(granted)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_left += std::mem::take(&mut self.asked);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let asked = desired.saturating_sub(current);
        let granted = maximum.is_none_or(|maximum| desired <= maximum)
            && take(&mut self.elements_left, asked);
        self.asked = if granted { asked } else { 0 };
        Ok(granted)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.elements_left += std::mem::take(&mut self.asked);
        Ok(())
    }
}

fn take(left: &mut usize, wanted: usize) -> bool {
    match left.checked_sub(wanted) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}
