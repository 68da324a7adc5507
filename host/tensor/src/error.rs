//! Why an operation was refused.

/// Why an operation was refused. The text names the operation, the value and the limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A parameter is outside its range.
    #[error("{0}")]
    InvalidArgument(String),
    /// Shapes do not fit the operation or each other.
    #[error("{0}")]
    ShapeMismatch(String),
    /// This backend cannot do it.
    #[error("{0}")]
    Unsupported(String),
    /// The account's memory or the batch's operation budget is spent.
    #[error("{0}")]
    QuotaExceeded(String),
    /// The device is gone.
    #[error("{0}")]
    DeviceLost(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// What operations return.
pub type Result<T> = std::result::Result<T, Error>;

/// Leaves the function with an error of the named variant and a formatted text.
macro_rules! bail {
    ($variant:ident, $($text:tt)+) => {
        return Err($crate::Error::$variant(format!($($text)+)))
    };
}
pub(crate) use bail;
