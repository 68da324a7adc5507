//! Packs sequences of many requests into batches and runs them.
