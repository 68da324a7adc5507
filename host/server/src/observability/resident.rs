//! The process's resident memory, read when metrics are.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reports `process_resident_memory_bytes`, where the system tells it.
#[derive(Debug)]
pub(super) struct ResidentMemory;

impl Collector for ResidentMemory {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(bytes) = resident_bytes() else {
            return Ok(());
        };
        let metric = encoder.encode_descriptor(
            "process_resident_memory_bytes",
            "Memory of the process that is in RAM",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(bytes).encode(metric)
    }
}

/// Resident bytes, from the `VmRSS` line of `/proc/self/status`.
pub fn resident_bytes() -> Option<u64> {
    parse_resident(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// As [`resident_bytes`], of another process of this user's.
pub fn resident_bytes_of(pid: u32) -> Option<u64> {
    parse_resident(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_number() {
        assert!(resident_bytes_of(std::process::id()) > Some(1 << 20));
        assert_eq!(resident_bytes_of(u32::MAX), None);
    }

    #[test]
    fn reads_the_resident_line() {
        let status = "Name:\ttenon\nVmPeak:\t   9000 kB\nVmRSS:\t    1234 kB\n";
        assert_eq!(parse_resident(status), Some(1234 * 1024));
        assert_eq!(parse_resident("VmRSS:\tmany kB\n"), None);
        assert_eq!(parse_resident(""), None);
    }
}
