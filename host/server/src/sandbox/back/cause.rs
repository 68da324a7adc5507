//! Why a batch has no output, and whose fault it was.

use crate::host_api::imports::tensor::Error as TensorError;
use crate::sandbox::failure::{ComponentFailure, clip, reason};
use crate::sandbox::link::Linked;

/// Why a batch has no output.
pub enum Stop {
    /// A component said no, or gave what the role does not allow; its store is sound.
    Refused(ComponentFailure),
    /// A component trapped or overran a limit; its store is not to be used again.
    Broken(ComponentFailure),
    /// The device is gone.
    DeviceLost(String),
}

/// The same before it is known whose fault it was.
pub(super) enum Cause {
    Refused(String),
    Broken(String),
    DeviceLost(String),
}

impl Cause {
    pub(super) fn of<P>(self, linked: &Linked<P>) -> Stop {
        match self {
            Self::Refused(what) => Stop::Refused(linked.failure(what)),
            Self::Broken(what) => Stop::Broken(linked.failure(what)),
            Self::DeviceLost(what) => Stop::DeviceLost(what),
        }
    }
}

impl From<wasmtime::Error> for Cause {
    fn from(error: wasmtime::Error) -> Self {
        Self::Broken(reason(&error))
    }
}

impl From<wasmtime::component::ResourceTableError> for Cause {
    fn from(error: wasmtime::component::ResourceTableError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<TensorError> for Cause {
    fn from(error: TensorError) -> Self {
        match error {
            TensorError::DeviceLost(what) => Self::DeviceLost(clip(&what, 1024)),
            TensorError::QuotaExceeded(what) => Self::Broken(clip(&what, 1024)),
            TensorError::InvalidArgument(what)
            | TensorError::ShapeMismatch(what)
            | TensorError::Unsupported(what)
            | TensorError::Other(what) => Self::Refused(clip(&what, 1024)),
        }
    }
}

impl From<tenon_tensor::Error> for Cause {
    fn from(error: tenon_tensor::Error) -> Self {
        TensorError::from(error).into()
    }
}
