//! The body of an answer while its pieces come in.

use bytes::Bytes;

/// Up to this size a body is sent as one piece, with its length in the head.
const ONE_PIECE_BYTES: usize = 64 << 10;

/// The pieces of a body, within a limit of their sum.
pub struct Body {
    chunks: Vec<Bytes>,
    total: usize,
    limit: usize,
}

impl Body {
    /// A body of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            chunks: Vec::new(),
            total: 0,
            limit,
        }
    }

    /// Adds a piece.
    pub fn push(&mut self, chunk: Vec<u8>) -> wasmtime::Result<()> {
        self.total = self.total.saturating_add(chunk.len());
        if self.total > self.limit {
            wasmtime::bail!("its response is over the limit of {} bytes", self.limit);
        }
        if !chunk.is_empty() {
            self.chunks.push(chunk.into());
        }
        Ok(())
    }

    /// The pieces.
    pub fn finish(self) -> Vec<Bytes> {
        if self.chunks.len() > 1 && self.total <= ONE_PIECE_BYTES {
            return vec![self.chunks.concat().into()];
        }
        self.chunks
    }
}
