//! From the bytes of a component to machine code, within limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

use super::engine::Sandbox;
use super::failure::{LoadError, clip};

/// A compiled component. Cheap to clone.
#[derive(Clone)]
pub struct Component {
    pub(super) inner: wasmtime::component::Component,
    pub(super) name: Arc<str>,
    pub(super) digest: [u8; 32],
}

impl Component {
    /// The name under which it was compiled.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The SHA-256 of its bytes.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

impl Sandbox {
    /// Compiles a component from its binary form. `name` stands in errors and logs.
    ///
    /// Refuses text, core modules, precompiled artefacts, and what is too large or takes
    /// too long. A compilation that takes too long cannot be stopped: it runs on in its
    /// own thread until it ends, and counts against `max_compilations` until then. The
    /// compiler's memory is bounded by the component's size alone.
    pub fn compile(&self, name: &str, bytes: &[u8]) -> Result<Component, LoadError> {
        let name = clip(name, 200);
        let refuse = |what: String| LoadError(format!("component {name:?}: {what}"));
        check_form(bytes, self.limits.max_component_bytes).map_err(refuse)?;

        let place = Place::take(&self.compilations, self.limits.max_compilations)
            .ok_or_else(|| refuse("too many components are being compiled".into()))?;
        let (sender, receiver) = channel();
        let (engine, owned) = (self.engine.clone(), bytes.to_vec());
        std::thread::Builder::new()
            .name("tenon-compile".into())
            .spawn(move || {
                let compiled = wasmtime::component::Component::from_binary(&engine, &owned);
                drop(place);
                // Fails where the receiver gave up, and then nobody wants it.
                let _ = sender.send(compiled);
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
            digest: Sha256::digest(bytes).into(),
            name: name.into(),
        })
    }
}

/// Only the binary form of a component is taken, and of that only so much.
fn check_form(bytes: &[u8], limit: usize) -> Result<(), String> {
    if bytes.len() > limit {
        return Err(format!(
            "it has {} bytes, the limit is {limit}",
            bytes.len()
        ));
    }
    if Engine::detect_precompiled(bytes).is_some() {
        return Err("it is precompiled; only WebAssembly components are taken".into());
    }
    // The preamble: `\0asm`, then a version and a layer; layer 1 is a component.
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', ..]) => {
            Err("it is a core module; only components are taken".into())
        }
        _ if bytes.trim_ascii_start().starts_with(b"(") => {
            Err("it is in the text format; only the binary form is taken".into())
        }
        _ => Err("it is not a WebAssembly component".into()),
    }
}

/// One of the compilations that may run at a time.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(running: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        running
            .fetch_update(Relaxed, Relaxed, |count| {
                (count < limit).then_some(count + 1)
            })
            .ok()
            .map(|_| Self(running.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
