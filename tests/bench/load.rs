//! Closed-loop clients with a kept connection each, all on one thread: what they take of the
//! machine is missing to the server that is measured.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::workload::Workload;

/// How long an answer may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(120);

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
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let seen = runtime.block_on(try_join_all(
        (0..clients).map(|client| run_client(address, workload, client, &window)),
    ))?;
    let mut all = Seen::default();
    for seen in seen {
        all.add(seen);
    }
    all.measured = measure;
    Ok(all)
}

async fn run_client(
    address: SocketAddr,
    workload: &Workload,
    client: usize,
    window: &Range<Instant>,
) -> Result<Seen> {
    let stream = timeout(PATIENCE, TcpStream::connect(address));
    let stream = stream.await.context("connect")?.context("connect")?;
    stream.set_nodelay(true)?;
    let (mut connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(driver);
    let host = address.to_string();
    let mut seen = Seen::default();
    for turn in 0.. {
        let started = Instant::now();
        if started >= window.end {
            break;
        }
        let body = &workload.bodies[(client * 11 + turn) % workload.bodies.len()];
        let request = Request::post("/v1/embeddings")
            .header("host", &host)
            .header("content-type", "application/json")
            .body(Full::new(body.json.clone()))?;
        let exchange = async {
            connection.ready().await?;
            let (head, body) = connection.send_request(request).await?.into_parts();
            hyper::Result::Ok((head.status, body.collect().await?.to_bytes()))
        };
        let exchange = timeout(PATIENCE, exchange).await;
        let (status, answer) = exchange.context("no answer")??;
        ensure!(
            status == 200,
            "status {status}: {}",
            String::from_utf8_lossy(&answer)
        );
        if window.contains(&Instant::now()) {
            seen.texts += body.texts;
            seen.tokens += body.tokens;
            seen.latencies_ms
                .push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    driver.abort();
    Ok(seen)
}
