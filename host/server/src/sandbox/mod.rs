//! Wasmtime: engine, limits, deadlines and the five roles.
