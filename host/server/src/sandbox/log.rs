//! What components write to their standard output and error: bounded lines in the log.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::failure::clip;
use crate::role::Role;

/// The longest line that is logged; a longer one is logged in pieces.
const MAX_LINE_BYTES: usize = 1024;

/// What a line costs besides its bytes: time, level and labels are logged with it.
const LINE_OVERHEAD_BYTES: usize = 128;

/// Whose output it is.
#[derive(Debug)]
pub struct Label {
    /// The bundle.
    pub bundle: Arc<str>,
    /// The role.
    pub role: Role,
    /// The component's name.
    pub component: Arc<str>,
}

/// Standard output and error of a store, as a stream into the log.
#[derive(Clone)]
pub struct Log(Arc<Mutex<Lines>>);

struct Lines {
    label: Option<Arc<Label>>,
    left: usize,
    partial: Vec<u8>,
}

impl Log {
    /// A log that takes `bytes` in all.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Lines {
            label: None,
            left: bytes,
            partial: Vec::new(),
        })))
    }

    /// From here on it is the component of `label` that writes, and may write `bytes`.
    pub fn begin(&self, label: Arc<Label>, bytes: usize) {
        let mut lines = self.lines();
        lines.end_line();
        lines.label = Some(label);
        lines.left = bytes;
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        // What a panicking writer left is still a log.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.left == 0 {
                return;
            }
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            for part in text.chunks(MAX_LINE_BYTES) {
                if self.partial.len() + part.len() > MAX_LINE_BYTES {
                    self.end_line();
                }
                let part = part.get(..part.len().min(self.left)).unwrap_or(part);
                self.left -= part.len();
                self.partial.extend_from_slice(part);
            }
            if ended {
                self.end_line();
            }
            if self.left == 0 {
                self.end_line();
                self.emit("the component has written all that it may; what follows is dropped");
            }
        }
    }

    fn end_line(&mut self) {
        if !self.partial.is_empty() {
            let line = clip(&String::from_utf8_lossy(&self.partial), MAX_LINE_BYTES);
            self.partial.clear();
            self.emit(&line);
        }
        self.left = self.left.saturating_sub(LINE_OVERHEAD_BYTES);
    }

    fn emit(&self, line: &str) {
        if let Some(Label {
            bundle,
            role,
            component,
        }) = self.label.as_deref()
        {
            tracing::info!(%bundle, %role, %component, line, "component output");
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.end_line();
    }
}

impl IsTerminal for Log {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Log {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only interfaces that no linker here offers ask for it.
        Box::new(tokio::io::sink())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Log {
    async fn ready(&mut self) {}
}

impl OutputStream for Log {
    /// Never fails: a component that cannot print would panic.
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.lines().write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_LINE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_after(writes: &[&str]) -> usize {
        let log = Log::new(1000);
        for write in writes {
            log.lines().write(write.as_bytes());
        }
        log.lines().left
    }

    #[test]
    fn charges_bytes_and_lines() {
        assert_eq!(left_after(&["abc"]), 997);
        assert_eq!(
            left_after(&["abc", "def\n"]),
            1000 - 6 - LINE_OVERHEAD_BYTES
        );
        assert_eq!(left_after(&["\n\n\n\n\n\n\n\n\n\n"]), 0);
        assert_eq!(left_after(&["a\n"; 100]), 0);
        assert_eq!(left_after(&[&"a".repeat(5000)]), 0);
    }

    #[test]
    fn holds_one_line_at_the_most() {
        let log = Log::new(1 << 20);
        for _ in 0..100 {
            log.lines().write(&[b'x'; 100]);
        }
        assert!(log.lines().partial.len() <= MAX_LINE_BYTES);
    }
}
