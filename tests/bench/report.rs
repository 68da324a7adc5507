//! Tables of what was measured.

use crate::load::Measured;
use crate::servers::Kind;
use crate::workload::Workload;

/// One server under one load.
pub struct Cell {
    /// The server.
    pub kind: Kind,
    /// The workload's name.
    pub workload: &'static str,
    /// Concurrent clients.
    pub clients: usize,
    /// What it did.
    pub measured: Measured,
}

/// Says what was just measured.
pub fn progress(kind: Kind, workload: &Workload, clients: usize, measured: &Measured) {
    println!("{}", row(kind, workload.name, clients, measured));
}

/// Everything measured.
pub fn table(cells: &[Cell]) {
    println!(
        "\n{:<16} {:<16} {:>7} {:>9} {:>10} {:>9} {:>9}",
        "server", "workload", "clients", "texts/s", "tokens/s", "p50 ms", "p99 ms"
    );
    for cell in cells {
        println!(
            "{}",
            row(cell.kind, cell.workload, cell.clients, &cell.measured)
        );
    }
}

fn row(kind: Kind, workload: &str, clients: usize, measured: &Measured) -> String {
    format!(
        "{:<16} {workload:<16} {clients:>7} {:>9.1} {:>10.0} {:>9.2} {:>9.2}",
        kind.to_string(),
        measured.texts_per_s,
        measured.tokens_per_s,
        measured.p50_ms,
        measured.p99_ms,
    )
}

/// This server against the best peer of each load: throughput and median latency.
pub fn ratios(cells: &[Cell]) {
    let is_peer = |cell: &&Cell| !matches!(cell.kind, Kind::Tenon(_));
    if !cells.iter().any(|cell| is_peer(&cell)) {
        return;
    }
    println!("\nagainst the best peer of each load (texts/s: more is better; p50: less is)");
    for own in cells.iter().filter(|cell| !is_peer(cell)) {
        let same = |cell: &&Cell| cell.workload == own.workload && cell.clients == own.clients;
        let peers: Vec<&Cell> = cells.iter().filter(is_peer).filter(same).collect();
        let most = peers
            .iter()
            .map(|cell| cell.measured.texts_per_s)
            .fold(0.0, f64::max);
        let least = peers
            .iter()
            .map(|cell| cell.measured.p50_ms)
            .fold(f64::INFINITY, f64::min);
        println!(
            "{:<16} {:<16} {:>7} {:>7.2}x texts/s {:>7.2}x p50",
            own.kind.to_string(),
            own.workload,
            own.clients,
            own.measured.texts_per_s / most,
            own.measured.p50_ms / least,
        );
    }
}

/// The share of the machine's peak in long packed batches.
pub fn long_batches(long: &[(Kind, f64)], f32_peak: Option<f64>) {
    println!("\nlong packed batches (32 texts of 256 tokens a request, over HTTP)");
    for (kind, gflops) in long {
        let share = match f32_peak {
            Some(peak) => {
                let peak = if *kind == Kind::Tenon("bf16") {
                    2.0 * peak
                } else {
                    peak
                };
                format!("{:.0} % of {peak:.1}", 100.0 * gflops / peak)
            }
            None => "SKIPPED share: the peak was not measured".into(),
        };
        println!("{:<16} {gflops:>7.1} GFLOP/s, {share}", kind.to_string());
    }
}
