//! The part of a store's state that both halves have: memory limit, WASI, handles.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{Deterministic, HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView};

use super::limits::SandboxLimits;
use super::log::LogStream;
use crate::role::Role;

/// Limits, WASI and handles of one store.
pub struct Guest {
    /// Handles that components of this store hold.
    pub table: ResourceTable,
    wasi: WasiCtx,
    memory: MemoryLimit,
    deadline: Instant,
}

impl Guest {
    /// State without ambient authority: no files, sockets, environment or arguments;
    /// clocks stand still, random numbers repeat.
    pub fn new(limits: &SandboxLimits, bundle: Arc<str>, role: Role) -> Self {
        let log = LogStream::new(bundle, role, limits.log_bytes);
        let wasi = WasiCtx::builder()
            .stdout(log.clone())
            .stderr(log)
            .wall_clock(FrozenClock)
            .monotonic_clock(FrozenClock)
            .secure_random(Deterministic::new(vec![1, 2, 3, 5, 7, 11, 13, 17]))
            .insecure_random(Deterministic::new(vec![19, 23, 29, 31]))
            .insecure_random_seed(0)
            .allow_tcp(false)
            .allow_udp(false)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.max_handles);
        Self {
            table,
            wasi,
            memory: MemoryLimit {
                memory_left: limits.store_memory_bytes,
                elements_left: limits.store_table_elements,
            },
            deadline: Instant::now(),
        }
    }

    /// WASI for the linker.
    pub fn wasi(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }

    /// The limiter for the store.
    pub fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.memory
    }
}

/// A store's state that has a [`Guest`] in it.
pub trait HasGuest: Send + 'static {
    /// The guest part.
    fn guest(&mut self) -> &mut Guest;
}

/// A store with every limit set.
pub fn store<T: HasGuest>(
    engine: &wasmtime::Engine,
    limits: &SandboxLimits,
    state: T,
    when_due: WhenDue,
) -> Store<T> {
    let mut store = Store::new(engine, state);
    store.limiter(|state| state.guest().limiter());
    store.set_hostcall_fuel(limits.call_bytes);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |mut context| {
        if Instant::now() >= context.data_mut().guest().deadline {
            return Err(wasmtime::Error::msg("the call ran over its deadline"));
        }
        Ok(match when_due {
            WhenDue::Yield => UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())),
            WhenDue::GoOn => UpdateDeadline::Continue(1),
        })
    });
    store
}

/// What happens at a tick before the deadline.
#[derive(Debug, Clone, Copy)]
pub enum WhenDue {
    /// Others on the same thread run first.
    Yield,
    /// The thread is the store's own.
    GoOn,
}

/// Gives the next call `time` to run.
pub fn set_deadline<T: HasGuest>(store: &mut Store<T>, time: Duration) {
    store.data_mut().guest().deadline = Instant::now() + time;
    store.set_epoch_deadline(1);
}

/// Limits the sum over all memories and all tables of a store.
struct MemoryLimit {
    memory_left: usize,
    elements_left: usize,
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(take(&mut self.memory_left, desired.saturating_sub(current)))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(take(
            &mut self.elements_left,
            desired.saturating_sub(current),
        ))
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

struct FrozenClock;

impl HostWallClock for FrozenClock {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for FrozenClock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        0
    }
}
