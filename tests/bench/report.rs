//! Tables of what was measured.

use crate::load::Seen;
use crate::servers::Kind;
use crate::workload::FLOP_PER_TOKEN_OF_LONG;

/// One server under one load.
pub struct Cell {
    /// The server.
    pub kind: Kind,
    /// The workload's name.
    pub workload: &'static str,
    /// Concurrent clients.
    pub clients: usize,
    /// What it answered.
    pub seen: Seen,
}

/// The headline of [`row`]s.
pub fn headline() {
    println!(
        "\n{:<16} {:<16} {:>7} {:>9} {:>10} {:>9} {:>9}",
        "server", "workload", "clients", "texts/s", "tokens/s", "p50 ms", "p99 ms"
    );
}

/// What was just measured.
pub fn row(cell: &Cell) {
    println!(
        "{:<16} {:<16} {:>7} {:>9.1} {:>10.0} {:>9.2} {:>9.2}",
        cell.kind.to_string(),
        cell.workload,
        cell.clients,
        cell.seen.texts_per_s(),
        cell.seen.tokens_per_s(),
        cell.seen.percentile_ms(0.5),
        cell.seen.percentile_ms(0.99),
    );
}

/// This server against the best peer of each load: throughput and median latency. In bf16 it is
/// held against the peers in f32, which is what most people run, and against those in bf16.
pub fn ratios(cells: &[Cell]) {
    let (own, peers): (Vec<&Cell>, Vec<&Cell>) = cells
        .iter()
        .partition(|cell| matches!(cell.kind, Kind::Tenon(_)));
    if peers.is_empty() {
        return;
    }
    println!("\nagainst the best peer of each load (texts/s: more is better; p50: less is)");
    for dtype in ["f32", "bf16"] {
        for own in &own {
            let same = |cell: &&&Cell| {
                let load = cell.workload == own.workload && cell.clients == own.clients;
                load && cell.kind.dtype() == dtype
            };
            let peers: Vec<_> = peers.iter().filter(same).collect();
            let wider = own.kind.dtype() == "f32" && dtype == "bf16";
            if peers.is_empty() || wider {
                continue;
            }
            let most = peers
                .iter()
                .map(|cell| cell.seen.texts_per_s())
                .fold(0.0, f64::max);
            let least = peers
                .iter()
                .map(|cell| cell.seen.percentile_ms(0.5))
                .fold(f64::INFINITY, f64::min);
            println!(
                "{:<11} to {:<5} {:<16} {:>7} {:>7.2}x texts/s {:>7.2}x p50",
                own.kind.to_string(),
                dtype,
                own.workload,
                own.clients,
                own.seen.texts_per_s() / most,
                own.seen.percentile_ms(0.5) / least,
            );
        }
    }
}

/// The share of the machine's peak in long packed batches; `peak_gflops` is that of a dtype.
pub fn long_batches(cells: &[Cell], peak_gflops: impl Fn(&str) -> f64) {
    println!("\nlong packed batches (4 texts of 256 tokens a request, 4 clients, over HTTP)");
    for cell in cells {
        let gflops = cell.seen.tokens_per_s() * FLOP_PER_TOKEN_OF_LONG / 1e9;
        let peak = peak_gflops(cell.kind.dtype());
        println!(
            "{:<16} {gflops:>7.1} GFLOP/s, {:.0} % of {peak:.1}",
            cell.kind.to_string(),
            100.0 * gflops / peak,
        );
    }
}
