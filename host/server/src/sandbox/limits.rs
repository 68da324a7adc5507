//! What components may use: every number, with its reason.

use std::time::Duration;

/// Limits of every store and of the engine. All apply to each store by itself unless it
/// says otherwise.
#[derive(Debug, Clone)]
pub struct SandboxLimits {
    /// A component's size. The largest built-in one has under 1 MiB.
    pub max_component_bytes: usize,
    /// Time to compile a component; beyond it the load fails.
    pub max_compile_time: Duration,
    /// How often deadlines are looked at. Also the longest that a looping component holds
    /// a thread of the front half before others run.
    pub tick: Duration,
    /// Running time of one call into a front-half component. Parsing 2048 long texts
    /// takes tens of milliseconds.
    pub front_deadline: Duration,
    /// Running time of one forward pass or one pooling call.
    pub back_deadline: Duration,
    /// Running time of `load`, which reads configurations and takes weights.
    pub load_deadline: Duration,
    /// Front-half stores alive at a time, in the whole process; further requests wait.
    pub max_front_stores: usize,
    /// How long a request waits for a store before it is told that the server is busy.
    pub front_store_wait: Duration,
    /// Back-half stores in the whole process: one a deployment, and one while a failed
    /// one is replaced.
    pub max_back_stores: usize,
    /// Linear memory of a store, summed over its instances. A body of 32 MiB is copied
    /// in, and its parts out.
    pub store_memory_bytes: usize,
    /// Table elements of a store, summed over its tables.
    pub store_table_elements: usize,
    /// Core instances of one component: its module, and the adapters that WASI needs.
    pub max_core_instances: u32,
    /// Memories of one component.
    pub max_memories: u32,
    /// Tables of one component.
    pub max_tables: u32,
    /// Bytes that one call may pass between host and component.
    pub call_bytes: usize,
    /// Handles that a component may hold at a time. A forward pass of 64 layers makes
    /// about a thousand and drops them as it goes.
    pub max_handles: usize,
    /// Native stack of a component.
    pub max_wasm_stack_bytes: usize,
    /// Bytes that a store may write to its standard output and error together.
    pub log_bytes: usize,
    /// Bytes of an encoded response.
    pub max_response_bytes: usize,
    /// Device bytes that a back-half store may hold besides weights.
    pub device_bytes: u64,
    /// Operation cost of one batch, in multiply-adds: a 7B model at 16k tokens is 1.2e14.
    pub batch_op_cost: u64,
    /// The first wait before a failed back-half store is built anew; it doubles.
    pub rebuild_backoff: Duration,
    /// The longest such wait.
    pub max_rebuild_backoff: Duration,
}

impl Default for SandboxLimits {
    fn default() -> Self {
        Self {
            max_component_bytes: 32 << 20,
            max_compile_time: Duration::from_secs(60),
            tick: Duration::from_millis(10),
            front_deadline: Duration::from_secs(2),
            back_deadline: Duration::from_secs(30),
            load_deadline: Duration::from_secs(60),
            max_front_stores: 256,
            front_store_wait: Duration::from_secs(5),
            max_back_stores: 64,
            store_memory_bytes: 256 << 20,
            store_table_elements: 20_000,
            max_core_instances: 16,
            max_memories: 2,
            max_tables: 4,
            call_bytes: 128 << 20,
            max_handles: 10_000,
            max_wasm_stack_bytes: 512 << 10,
            log_bytes: 64 << 10,
            max_response_bytes: 128 << 20,
            device_bytes: 4 << 30,
            batch_op_cost: 1 << 50,
            rebuild_backoff: Duration::from_millis(100),
            max_rebuild_backoff: Duration::from_secs(30),
        }
    }
}
