//! Logs and metrics.

mod logs;
mod metrics;
mod model_metrics;
mod resident;

pub use logs::{LogError, LogFormat, init_logs};
pub use metrics::Metrics;
pub use model_metrics::{ModelMetrics, Role, Stage};
