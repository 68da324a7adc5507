//! What a component writes to its standard output and error: bounded lines in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::failure::clip;
use crate::role::Role;

/// The longest line that is logged.
const MAX_LINE_BYTES: usize = 1024;

/// A stream into the log, labelled with its component.
#[derive(Clone)]
pub struct LogStream(Arc<Source>);

struct Source {
    bundle: Arc<str>,
    role: Role,
    left: AtomicUsize,
}

impl LogStream {
    /// A stream that takes `bytes` in all.
    pub fn new(bundle: Arc<str>, role: Role, bytes: usize) -> Self {
        Self(Arc::new(Source {
            bundle,
            role,
            left: AtomicUsize::new(bytes),
        }))
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only interfaces that no linker here offers ask for it.
        Box::new(tokio::io::sink())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let source = &self.0;
        let spent = source
            .left
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes.len()))
            .is_err();
        if spent {
            return Err(StreamError::Closed);
        }
        for line in String::from_utf8_lossy(&bytes)
            .lines()
            .filter(|line| !line.is_empty())
        {
            let line = clip(line, MAX_LINE_BYTES);
            tracing::info!(bundle = %source.bundle, role = %source.role, line, "component output");
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match self.0.left.load(Relaxed) {
            0 => Err(StreamError::Closed),
            left => Ok(left),
        }
    }
}
