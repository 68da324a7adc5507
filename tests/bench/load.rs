//! Closed-loop clients, one thread and one kept connection each.

use std::net::SocketAddr;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tenon_tests::http::Connection;

use crate::workload::Workload;

/// What a server did under one load.
pub struct Measured {
    /// Vectors a second.
    pub texts_per_s: f64,
    /// Tokens a second.
    pub tokens_per_s: f64,
    /// Half of the requests took less.
    pub p50_ms: f64,
    /// 99 of 100 requests took less.
    pub p99_ms: f64,
}

/// What one client saw.
#[derive(Default)]
struct Seen {
    texts: usize,
    tokens: usize,
    latencies_ms: Vec<f64>,
}

/// Loads the server with `clients` without a pause, and counts what is answered in the `measure`
/// that follows `warm_up`: requests under way at either end cancel out.
pub fn run(
    address: SocketAddr,
    workload: &Workload,
    clients: usize,
    warm_up: Duration,
    measure: Duration,
) -> Result<Measured> {
    let begin = Instant::now() + warm_up;
    let window = begin..begin + measure;
    let seen: Vec<Result<Seen>> = thread::scope(|scope| {
        let window = &window;
        let spawn = |client| scope.spawn(move || run_client(address, workload, client, window));
        let threads: Vec<_> = (0..clients).map(spawn).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a client"))
            .collect()
    });
    let mut all = Seen::default();
    for seen in seen {
        let seen = seen?;
        all.texts += seen.texts;
        all.tokens += seen.tokens;
        all.latencies_ms.extend(seen.latencies_ms);
    }
    all.latencies_ms.sort_by(f64::total_cmp);
    let percentile = |share: f64| {
        let last = all.latencies_ms.len().saturating_sub(1) as f64;
        let index = (last * share).round() as usize;
        all.latencies_ms.get(index).copied().unwrap_or(f64::NAN)
    };
    Ok(Measured {
        texts_per_s: all.texts as f64 / measure.as_secs_f64(),
        tokens_per_s: all.tokens as f64 / measure.as_secs_f64(),
        p50_ms: percentile(0.5),
        p99_ms: percentile(0.99),
    })
}

fn run_client(
    address: SocketAddr,
    workload: &Workload,
    client: usize,
    window: &Range<Instant>,
) -> Result<Seen> {
    let mut connection = Connection::open(address).context("connect")?;
    let headers = [("content-type", "application/json")];
    let mut seen = Seen::default();
    for turn in 0.. {
        let started = Instant::now();
        if started >= window.end {
            break;
        }
        let body = &workload.bodies[(client * 11 + turn) % workload.bodies.len()];
        let json = body.json.as_bytes();
        let answer = connection.send("POST", "/v1/embeddings", &headers, json)?;
        ensure!(
            answer.status == 200,
            "status {}: {}",
            answer.status,
            answer.text()
        );
        if window.contains(&Instant::now()) {
            seen.texts += body.texts;
            seen.tokens += body.tokens;
            seen.latencies_ms
                .push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(seen)
}
