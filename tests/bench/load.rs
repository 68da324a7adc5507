//! Closed-loop clients, one thread and one kept connection each.

use std::net::SocketAddr;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tenon_tests::http::Connection;

use crate::workload::Workload;

/// What was answered under one load.
#[derive(Default)]
pub struct Seen {
    texts: usize,
    tokens: usize,
    latencies_ms: Vec<f64>,
    measured: Duration,
}

impl Seen {
    /// Adds what another round saw.
    pub fn add(&mut self, other: Self) {
        self.texts += other.texts;
        self.tokens += other.tokens;
        self.latencies_ms.extend(other.latencies_ms);
        self.measured += other.measured;
    }

    /// Vectors a second.
    pub fn texts_per_s(&self) -> f64 {
        self.texts as f64 / self.measured.as_secs_f64()
    }

    /// Tokens a second.
    pub fn tokens_per_s(&self) -> f64 {
        self.tokens as f64 / self.measured.as_secs_f64()
    }

    /// What this share of the requests took at most.
    pub fn percentile_ms(&self, share: f64) -> f64 {
        let mut latencies = self.latencies_ms.clone();
        latencies.sort_by(f64::total_cmp);
        let last = latencies.len().saturating_sub(1) as f64;
        let index = (last * share).round() as usize;
        latencies.get(index).copied().unwrap_or(f64::NAN)
    }
}

/// Loads the server with `clients` without a pause, and counts what is answered in the `measure`
/// that follows `warm_up`: requests under way at either end cancel out.
pub fn run(
    address: SocketAddr,
    workload: &Workload,
    clients: usize,
    warm_up: Duration,
    measure: Duration,
) -> Result<Seen> {
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
        all.add(seen?);
    }
    all.measured = measure;
    Ok(all)
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
