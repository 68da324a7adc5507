//! Everything that `/metrics` shows.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::model_metrics::{Families, ModelMetrics};
use super::resident::ResidentMemory;
use crate::role::Role;

/// The `content-type` of [`Metrics::render`].
pub(crate) const METRICS_CONTENT_TYPE: &str =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    endpoint: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabel {
    endpoint: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeviceLabel {
    device: String,
}

/// The process's numbers.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<EndpointLabel, Histogram>,
    in_flight: Gauge,
    connections: Gauge,
    worker_restarts: Family<DeviceLabel, Counter>,
    models: Families,
}

/// 100 us to 105 s.
fn request_seconds() -> Histogram {
    Histogram::new(exponential_buckets(100e-6, 4.0, 11))
}

impl Metrics {
    /// All numbers at zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ResidentMemory));
        let ours = registry.sub_registry_with_prefix("tenon");
        let requests = Family::default();
        let help = "HTTP requests by endpoint and status; 499 means that the client left";
        ours.register("requests", help, requests.clone());
        let durations: Family<EndpointLabel, Histogram> =
            Family::new_with_constructor(request_seconds);
        let help = "Time from the head of a request to the head of its answer, in seconds";
        ours.register("request_duration_seconds", help, durations.clone());
        let in_flight = Gauge::default();
        let help = "Requests being answered";
        ours.register("in_flight_requests", help, in_flight.clone());
        let connections = Gauge::default();
        ours.register("connections", "Open connections", connections.clone());
        let worker_restarts = Family::default();
        let help = "Worker processes started because the last one was lost, by device";
        ours.register("worker_restarts", help, worker_restarts.clone());
        let models = Families::register(ours);
        Self {
            registry,
            requests,
            durations,
            in_flight,
            connections,
            worker_restarts,
            models,
        }
    }

    /// The numbers of one served model; `name` must be one that the operator gave.
    pub fn model(&self, name: &str) -> ModelMetrics {
        self.models.model(name)
    }

    /// Counts a call into a component that trapped or overran a limit.
    pub fn trap(&self, bundle: &str, role: Role, component: &str) {
        self.models.trap(bundle, role, component);
    }

    /// How often the worker process of a device was replaced.
    pub fn worker_restarts(&self, device: &str) -> Counter {
        let label = DeviceLabel {
            device: device.to_owned(),
        };
        self.worker_restarts.get_or_create_owned(&label)
    }

    /// Counts a request. `endpoint` is a known route, never the path as it came.
    pub(crate) fn request(&self, endpoint: &'static str, status: u16, took: Duration) {
        let labels = RequestLabels { endpoint, status };
        self.requests.get_or_create(&labels).inc();
        let durations = self.durations.get_or_create(&EndpointLabel { endpoint });
        durations.observe(took.as_secs_f64());
    }

    pub(crate) fn in_flight(&self) -> &Gauge {
        &self.in_flight
    }

    pub(crate) fn connections(&self) -> &Gauge {
        &self.connections
    }

    /// All numbers in the text format of OpenMetrics, which Prometheus reads.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observability::Stage;
    use crate::scheduler::{BatchObserver, BatchReport};

    #[test]
    fn renders_what_was_recorded() {
        let metrics = Metrics::new();
        metrics.request("/health", 200, Duration::from_micros(50));
        metrics.in_flight().inc();
        metrics.worker_restarts("cuda:1").inc();
        metrics.trap("mini", Role::Pooling, "my-pooling");
        let model = metrics.model("mini");
        model.tokens(7);
        model.stage(Stage::Parse, Duration::from_micros(40));
        model.queued(3);
        model.failed();
        model.batch(&BatchReport {
            tokens: 9,
            sequences: 2,
            waits: &[Duration::from_millis(1)],
            forward: Duration::from_millis(5),
            pooling: Duration::from_millis(1),
            sandbox: Duration::from_micros(70),
        });
        let text = metrics.render().unwrap();
        for line in [
            r#"tenon_requests_total{endpoint="/health",status="200"} 1"#,
            "tenon_in_flight_requests 1",
            r#"tenon_worker_restarts_total{device="cuda:1"} 1"#,
            r#"tenon_traps_total{bundle="mini",role="pooling",component="my-pooling"} 1"#,
            r#"tenon_tokens_total{model="mini"} 7"#,
            r#"tenon_queued_sequences{model="mini"} 3"#,
            r#"tenon_failed_batches_total{model="mini"} 1"#,
            r#"tenon_batch_tokens_sum{model="mini"} 9.0"#,
            r#"tenon_batch_sequences_count{model="mini"} 1"#,
            r#"tenon_stage_duration_seconds_count{model="mini",stage="parse",role="request-parser"} 1"#,
            r#"tenon_stage_duration_seconds_count{model="mini",stage="sandbox",role="model"} 1"#,
            r#"tenon_stage_duration_seconds_count{model="mini",stage="queue",role="host"} 1"#,
            "process_resident_memory_bytes ",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
