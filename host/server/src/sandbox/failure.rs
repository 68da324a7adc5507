//! What can go wrong with a component, at load and while it runs.

use crate::error::ApiError;
use crate::role::Role;

/// Why a component cannot be used. It names the component, and where it is known the
/// bundle and the role, what was wanted and what was offered.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub(super) String);

/// A component that trapped, overran a limit or broke the contract of its role.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{role} component {component:?} of bundle {bundle:?}: {reason}")]
pub struct ComponentFailure {
    /// The bundle.
    pub bundle: String,
    /// The role in which it failed.
    pub role: Role,
    /// The component's name.
    pub component: String,
    /// What happened: for the operator, not for callers.
    pub reason: String,
}

/// Why a call into the front half gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// The component refused the request, in its dialect's words.
    #[error("{0}")]
    Api(ApiError),
    /// The component failed.
    #[error("{0}")]
    Component(ComponentFailure),
    /// No store was free in time.
    #[error("no sandbox became free in time")]
    Busy,
}

/// A trap in one line: its cause without the stack of WebAssembly frames.
pub(super) fn reason(error: &wasmtime::Error) -> String {
    let mut text = String::new();
    // The outermost context of a trap is its backtrace; the causes say what happened.
    for cause in error.chain() {
        let cause = cause.to_string();
        if cause.starts_with("error while executing at wasm backtrace") {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    clip(&text, 1024)
}

/// The text without control characters, at most `limit` bytes of it.
pub(super) fn clip(text: &str, limit: usize) -> String {
    let mut clipped = String::new();
    for c in text.chars() {
        if clipped.len() + c.len_utf8() > limit {
            clipped.push('…');
            break;
        }
        clipped.push(if c.is_control() { ' ' } else { c });
    }
    clipped
}
