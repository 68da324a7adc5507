//! Memory of recordings: it must stay where it is as long as they may run, so it is kept when it is
//! given back, and serves others. They run one after the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::driver::Stream;
use super::memory::Allocation;
use crate::error::{Result, bail};

/// What recordings of a device may keep: what they do not get is computed without them.
const MAX_BYTES: usize = 1 << 30;

/// The least size of a piece.
const MIN_PIECE_BYTES: usize = 512;

/// Pieces that nobody has.
#[derive(Default)]
pub(super) struct Pool {
    pieces: Mutex<Pieces>,
}

#[derive(Default)]
struct Pieces {
    /// By their size.
    free: HashMap<usize, Vec<Arc<Allocation>>>,
    /// Of all pieces, free or not.
    bytes: usize,
}

impl Pool {
    /// At least `bytes`. The stream's context is current.
    fn take(&self, op: &str, stream: &Arc<Stream>, bytes: usize) -> Result<Arc<Allocation>> {
        let size = piece_of(bytes);
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(piece) = pieces.free.get_mut(&size).and_then(Vec::pop) {
            return Ok(piece);
        }
        let (kept, all) = (pieces.bytes, pieces.bytes.saturating_add(size));
        if all > MAX_BYTES {
            bail!(
                Unsupported,
                "{op}: {size} bytes on top of {kept} are over the {MAX_BYTES} that recordings have"
            );
        }
        let piece = Arc::new(Allocation::new(op, stream, size)?);
        pieces.bytes = all;
        Ok(piece)
    }

    fn give_back(&self, piece: Arc<Allocation>) {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.free.entry(piece.bytes()).or_default().push(piece);
    }
}

/// Few sizes, so that pieces fit each other's places: four of each octave.
fn piece_of(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 8).max(MIN_PIECE_BYTES);
    bytes.max(1).next_multiple_of(step)
}

/// Memory that goes back to a pool, or is freed where it is of none.
pub(super) struct Pooled {
    allocation: Arc<Allocation>,
    pool: Option<Arc<Pool>>,
}

impl Pooled {
    /// At least `bytes`. The stream's context is current.
    pub fn new(
        pool: Option<&Arc<Pool>>,
        op: &str,
        stream: &Arc<Stream>,
        bytes: usize,
    ) -> Result<Self> {
        let allocation = match pool {
            Some(pool) => pool.take(op, stream, bytes)?,
            None => Arc::new(Allocation::new(op, stream, bytes)?),
        };
        Ok(Self {
            allocation,
            pool: pool.cloned(),
        })
    }

    /// The memory.
    pub fn allocation(&self) -> &Allocation {
        &self.allocation
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.give_back(self.allocation.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::piece_of;

    #[test]
    fn pieces_have_few_sizes_and_waste_little() {
        for bytes in [
            0,
            1,
            511,
            512,
            513,
            4096,
            5000,
            100_000,
            1 << 20,
            (1 << 20) + 1,
        ] {
            let piece = piece_of(bytes);
            assert!(piece >= bytes.max(1), "{bytes}");
            assert!(
                piece <= (bytes + bytes / 4).max(512) + 512,
                "{bytes}: {piece}"
            );
        }
        let sizes: std::collections::HashSet<_> =
            (1 << 20..1 << 21).step_by(512).map(piece_of).collect();
        assert_eq!(sizes.len(), 5);
    }
}
