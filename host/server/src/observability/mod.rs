//! Logs and metrics.

mod logs;
mod metrics;
mod model_metrics;
mod resident;

pub use logs::{LogError, LogFormat, init_logs};
pub(crate) use metrics::METRICS_CONTENT_TYPE;
pub use metrics::Metrics;
pub use model_metrics::{ModelMetrics, Stage};
pub use resident::{resident_bytes, resident_bytes_of};
