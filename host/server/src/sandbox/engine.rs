//! The engine: what WebAssembly may be, the pool that stores take from, and the tick of
//! its clock.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::sync::Semaphore;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::limits::SandboxLimits;

/// Address space of each memory: with all that 32 bits reach, no access needs a check.
const MEMORY_RESERVATION: u64 = 4 << 30;

/// Components that a store holds at the most: parser and template, or model and pooling.
const COMPONENTS_PER_STORE: usize = 2;

/// The engine with its limits. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    pub(super) engine: Engine,
    pub(super) limits: Arc<SandboxLimits>,
    /// Places for front-half stores.
    pub(super) front_stores: Arc<Semaphore>,
    /// Compilations that are running.
    pub(super) compilations: Arc<AtomicUsize>,
    _ticker: Arc<Ticker>,
}

impl Sandbox {
    /// An engine whose stores keep within `limits`.
    pub fn new(limits: SandboxLimits) -> anyhow::Result<Self> {
        let pool = Pool::new(&limits)?;
        let engine = Engine::new(&config(&limits, &pool)).map_err(|error| {
            anyhow!(
                "cannot set up the WebAssembly engine, which reserves {} GiB of address space \
                 (not memory) for {} memories: {error:#}; is there a limit such as `ulimit -v`?",
                (u64::from(pool.memories) * MEMORY_RESERVATION) >> 30,
                pool.memories
            )
        })?;
        let ticker = Ticker::start(engine.clone(), limits.tick)?;
        Ok(Self {
            engine,
            front_stores: Arc::new(Semaphore::new(limits.max_front_stores)),
            compilations: Arc::default(),
            limits: Arc::new(limits),
            _ticker: Arc::new(ticker),
        })
    }

    /// The limits.
    pub fn limits(&self) -> &SandboxLimits {
        &self.limits
    }
}

/// How many of everything the allocator holds: enough for every store at its own limit,
/// so that whoever has a place for a store also gets what goes into it.
struct Pool {
    stores: u32,
    components: u32,
    core_instances: u32,
    memories: u32,
    tables: u32,
}

impl Pool {
    fn new(limits: &SandboxLimits) -> anyhow::Result<Self> {
        let stores = limits
            .max_front_stores
            .saturating_add(limits.max_back_stores);
        let stores = u32::try_from(stores).context("the number of stores is too large")?;
        let of_components = |each: u32| {
            stores
                .checked_mul(COMPONENTS_PER_STORE as u32)
                .and_then(|components| components.checked_mul(each))
                .context("the number of stores is too large")
        };
        Ok(Self {
            stores,
            components: of_components(1)?,
            core_instances: of_components(limits.max_core_instances)?,
            memories: of_components(limits.max_memories)?,
            tables: of_components(limits.max_tables)?,
        })
    }
}

fn config(limits: &SandboxLimits, pool: &Pool) -> Config {
    let mut allocation = PoolingAllocationConfig::default();
    allocation
        .total_component_instances(pool.components)
        .total_core_instances(pool.core_instances)
        .total_memories(pool.memories)
        .total_tables(pool.tables)
        .total_stacks(pool.stores)
        .max_core_instances_per_component(limits.max_core_instances)
        .max_memories_per_component(limits.max_memories)
        .max_tables_per_component(limits.max_tables)
        .table_elements(limits.store_table_elements)
        .max_memory_size(limits.store_memory_bytes)
        // Kept between uses and wiped: giving pages back to the system and faulting them
        // in again costs more, and interrupts the processors that compute. Where the system
        // tells which pages were written, only those are wiped.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10)
        .async_stack_keep_resident(32 << 10)
        // Slots that were used and are idle; beyond these, slots of other components are
        // taken over before untouched ones.
        .max_unused_warm_slots(32);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(allocation))
        // Components that are themselves asynchronous: nobody needs them, all pay for them.
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(limits.max_wasm_stack_bytes)
        .async_stack_size(
            limits
                .max_wasm_stack_bytes
                .saturating_add(limits.host_stack_bytes),
        )
        // What one request left on a stack is not there for the next.
        .async_stack_zeroing(true)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .memory_reservation(MEMORY_RESERVATION)
        .memory_may_move(false)
        .parallel_compilation(true);
    config
}

/// Advances the engine's epoch until it is dropped.
struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: Engine, tick: Duration) -> anyhow::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("tenon-tick".into())
            .spawn(move || {
                while stopped.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
                    engine.increment_epoch();
                }
            })
            .context("cannot start the sandbox's clock")?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It has nothing to say, and a panic in it is not ours to raise.
            let _ = thread.join();
        }
    }
}
