//! What components may use: every number, with its reason.

use std::time::Duration;

/// Limits of the engine and of every store. Unless a field says otherwise it applies to
/// each store by itself.
#[derive(Debug, Clone)]
pub struct SandboxLimits {
    /// A component's size. The built-in ones have under 1 MiB.
    pub max_component_bytes: usize,
    /// Time to compile a component; beyond it the load fails.
    pub max_compile_time: Duration,
    /// Compilations at a time in the whole process. One that overran its time runs on,
    /// because the compiler cannot be stopped, and keeps its place until it ends.
    pub max_compilations: usize,
    /// How often running times are looked at. Also the longest that a looping component
    /// holds a thread of the front half before others run.
    pub tick: Duration,
    /// Running time of one front-half step: parse, render or encode. Waiting for a thread
    /// does not count. Parsing 2048 long texts takes tens of milliseconds.
    pub front_time: Duration,
    /// Running time of one forward pass or one pooling call, host operations included: a batch
    /// of 16k tokens through a model of 0.6 billion parameters takes two processors two minutes.
    /// What a component itself does in that time is limited by `back_guest_time`, and what it
    /// asks for by `batch_op_cost`.
    pub back_time: Duration,
    /// The part of it that the component itself may run. A forward pass of 150 operations
    /// needs about 0.1 ms; a loop is cut off long before it costs others their turn.
    pub back_guest_time: Duration,
    /// Running time of `load`, which reads configurations and takes weights.
    pub load_time: Duration,
    /// Front-half stores alive at a time, in the whole process; further requests wait
    /// their turn. They live for the time that components run, so that more than a few a
    /// core only hold memory.
    pub max_front_stores: usize,
    /// How long a request waits for a store before it is told that the server is busy.
    pub front_store_wait: Duration,
    /// Back-half stores in the whole process: one a deployment.
    pub max_back_stores: usize,
    /// Linear memory, summed over all memories of a store. The parser of a 32 MiB body
    /// holds it and the inputs read from it.
    pub store_memory_bytes: usize,
    /// Table elements, summed over all tables of a store. Large components have some
    /// thousand functions that are called indirectly.
    pub store_table_elements: usize,
    /// Core instances of one component: its module, and the adapters that WASI needs.
    pub max_core_instances: u32,
    /// Memories of one component: its own and an adapter's.
    pub max_memories: u32,
    /// Tables of one component: its own and its adapters'.
    pub max_tables: u32,
    /// Bytes that the host copies out of a component in one call.
    pub call_bytes: usize,
    /// Handles that components may hold at a time. A forward pass of 64 layers makes
    /// about a thousand and drops them as it goes.
    pub max_handles: usize,
    /// Index lists that a model may ask of one batch: each is 4 bytes a token of the
    /// host's memory. Real models ask for three, with images for
    /// nine.
    pub max_index_lists: u32,
    /// WebAssembly's part of a component's stack.
    pub max_wasm_stack_bytes: usize,
    /// The host's part of that stack: operations run on it.
    pub host_stack_bytes: usize,
    /// Bytes of log that a front-half store may write, and a back-half one in a batch.
    pub log_bytes: usize,
    /// Bytes of an encoded response: 2048 vectors of 4096 values in JSON are 100 MB.
    pub max_response_bytes: usize,
    /// Device bytes that a back-half store may hold besides weights.
    pub device_bytes: u64,
    /// Operation cost of one batch, in multiply-adds: a 7B model at 16k tokens is 1.2e14.
    pub batch_op_cost: u64,
    /// The wait before a back-half store that failed twice in a row is built anew; it
    /// doubles with each further failure.
    pub rebuild_backoff: Duration,
    /// The longest such wait.
    pub max_rebuild_backoff: Duration,
}

impl Default for SandboxLimits {
    fn default() -> Self {
        Self {
            max_component_bytes: 32 << 20,
            max_compile_time: Duration::from_secs(60),
            max_compilations: 4,
            tick: Duration::from_millis(10),
            front_time: Duration::from_secs(5),
            back_time: Duration::from_secs(600),
            back_guest_time: Duration::from_secs(1),
            load_time: Duration::from_secs(60),
            max_front_stores: 64,
            front_store_wait: Duration::from_secs(5),
            max_back_stores: 64,
            store_memory_bytes: 256 << 20,
            store_table_elements: 20_000,
            max_core_instances: 16,
            max_memories: 2,
            max_tables: 4,
            call_bytes: 128 << 20,
            max_handles: 10_000,
            max_index_lists: 16,
            max_wasm_stack_bytes: 512 << 10,
            host_stack_bytes: 1536 << 10,
            log_bytes: 16 << 10,
            max_response_bytes: 128 << 20,
            device_bytes: 4 << 30,
            batch_op_cost: 1 << 50,
            rebuild_backoff: Duration::from_millis(100),
            max_rebuild_backoff: Duration::from_secs(30),
        }
    }
}
