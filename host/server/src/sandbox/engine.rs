//! The engine: what WebAssembly may be, how it is compiled, and the tick of its clock.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::failure::{LoadError, clip};
use super::limits::SandboxLimits;

/// The engine with its limits. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    pub(super) engine: Engine,
    pub(super) limits: Arc<SandboxLimits>,
    /// Places for front-half stores.
    pub(super) front_stores: Arc<Semaphore>,
    _ticker: Arc<Ticker>,
}

impl Sandbox {
    /// An engine whose stores keep within `limits`.
    pub fn new(limits: SandboxLimits) -> anyhow::Result<Self> {
        let engine = Engine::new(&config(&limits))
            .map_err(|error| anyhow::anyhow!("cannot set up the WebAssembly engine: {error:#}"))?;
        let ticker = Ticker::start(engine.clone(), limits.tick)?;
        Ok(Self {
            engine,
            front_stores: Arc::new(Semaphore::new(limits.max_front_stores)),
            limits: Arc::new(limits),
            _ticker: Arc::new(ticker),
        })
    }

    /// Compiles a component from its binary form. `name` stands in errors and logs.
    ///
    /// Refuses text, core modules, precompiled artefacts, and what is too large or takes
    /// too long. A compilation that takes too long runs on in its own thread until it ends.
    pub fn compile(&self, name: &str, bytes: &[u8]) -> Result<Component, LoadError> {
        let refuse = |what: String| LoadError(format!("component {name:?}: {what}"));
        let limit = self.limits.max_component_bytes;
        if bytes.len() > limit {
            return Err(refuse(format!(
                "it has {} bytes, the limit is {limit}",
                bytes.len()
            )));
        }
        if Engine::detect_precompiled(bytes).is_some() {
            return Err(refuse(
                "it is a precompiled artefact; only WebAssembly components are taken".into(),
            ));
        }
        // The preamble: `\0asm`, then a version and a layer; layer 1 is a component.
        match bytes.get(..8) {
            Some([0, b'a', b's', b'm', _, _, 1, 0]) => {}
            Some([0, b'a', b's', b'm', ..]) => {
                return Err(refuse("it is a core module, not a component".into()));
            }
            _ => return Err(refuse("it is not a WebAssembly binary".into())),
        }
        let (sender, receiver) = channel();
        let (engine, owned) = (self.engine.clone(), bytes.to_vec());
        std::thread::Builder::new()
            .name("tenon-compile".into())
            .spawn(move || {
                // A receiver that gave up is the only way for this to fail.
                let _ = sender.send(wasmtime::component::Component::from_binary(&engine, &owned));
            })
            .map_err(|error| refuse(format!("cannot start a thread to compile it: {error}")))?;
        let time = self.limits.max_compile_time;
        let inner = match receiver.recv_timeout(time) {
            Ok(Ok(component)) => component,
            Ok(Err(error)) => return Err(refuse(clip(&format!("{error:#}"), 1024))),
            Err(RecvTimeoutError::Timeout) => {
                return Err(refuse(format!(
                    "it took more than {} s to compile",
                    time.as_secs()
                )));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(refuse("the compiler failed on it".into()));
            }
        };
        Ok(Component {
            inner,
            name: name.into(),
            digest: Sha256::digest(bytes).into(),
        })
    }
}

/// A compiled component. Cheap to clone.
#[derive(Clone)]
pub struct Component {
    pub(super) inner: wasmtime::component::Component,
    pub(super) name: Arc<str>,
    pub(super) digest: [u8; 32],
}

fn config(limits: &SandboxLimits) -> Config {
    let stores = limits.max_front_stores + limits.max_back_stores;
    // A store holds two components at the most: parser and template, or model and pooling.
    let components = (2 * stores) as u32;
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(components)
        .total_core_instances(components * 4)
        .total_memories(components)
        .total_tables(components * 2)
        .total_stacks(stores as u32)
        .max_core_instances_per_component(limits.max_core_instances)
        .max_memories_per_component(limits.max_memories)
        .max_tables_per_component(limits.max_tables)
        .table_elements(limits.store_table_elements)
        .max_memory_size(limits.store_memory_bytes)
        // Kept between uses, and wiped: cheaper than giving pages back to the system.
        .linear_memory_keep_resident(128 << 10)
        .table_keep_resident(8 << 10)
        .async_stack_keep_resident(16 << 10)
        // Idle slots are given back beyond what two busy cores keep warm.
        .max_unused_warm_slots(16);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(limits.max_wasm_stack_bytes)
        .async_stack_size(limits.max_wasm_stack_bytes + (512 << 10))
        .async_stack_zeroing(true)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .memory_reservation(limits.store_memory_bytes as u64)
        .memory_may_move(false);
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
