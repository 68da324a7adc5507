//! The servers that are compared, started one at a time with the same number of threads.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tenon_tests::http::Connection;
use tenon_tests::server::{Server, default_model};
use tenon_tests::tools::{python, root};

/// A server to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// This server, with its weights in a dtype.
    Tenon(&'static str),
    /// ONNX Runtime behind peers/server.py.
    Ort,
    /// sentence-transformers on torch behind peers/server.py, in a dtype.
    Torch(&'static str),
}

impl Kind {
    /// The dtype of its products.
    pub fn dtype(self) -> &'static str {
        match self {
            Self::Tenon(dtype) | Self::Torch(dtype) => dtype,
            Self::Ort => "f32",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenon(dtype) => write!(f, "tenon {dtype}"),
            Self::Ort => f.write_str("onnxruntime f32"),
            Self::Torch(dtype) => write!(f, "torch {dtype}"),
        }
    }
}

/// A running server; dropping it stops it.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
}

enum Process {
    Tenon(Server),
    Peer(Child),
}

impl Running {
    /// Starts a server and waits until it answers.
    pub fn start(kind: Kind, threads: usize) -> Result<Self> {
        if let Kind::Tenon(dtype) = kind {
            let server = Server::minilm(&["--dtype", dtype]);
            return Ok(Self {
                address: server.address,
                process: Process::Tenon(server),
            });
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let (name, model) = match kind {
            Kind::Torch("bf16") => ("torch-bf16", default_model().to_owned()),
            Kind::Torch(_) => ("torch", default_model().to_owned()),
            _ => ("ort", peer_model()),
        };
        let child = Command::new(peer_python()?)
            .arg(root().join("tests/bench/peers/server.py"))
            .arg(name)
            .arg(model)
            .args([port.to_string(), threads.to_string()])
            .env("OMP_NUM_THREADS", threads.to_string())
            .stdin(Stdio::null())
            .spawn()
            .context("start the peer")?;
        let running = Self {
            address,
            process: Process::Peer(child),
        };
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(120) {
            let answer = Connection::open(address).and_then(|mut c| c.send("GET", "/", &[], b""));
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(running);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("the peer did not answer within 120 s")
    }

    /// Its memory now and at its peak.
    pub fn memory(&self) -> String {
        let id = match &self.process {
            Process::Tenon(server) => server.id(),
            Process::Peer(child) => child.id(),
        };
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let mb = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key))?;
            let kb: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
            Some(kb * 1024 / 1_000_000)
        };
        match (mb("VmRSS:"), mb("VmHWM:")) {
            (Some(now), Some(peak)) => format!("{now} MB, peak {peak} MB"),
            _ => "unknown: this system has no /proc".into(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Process::Peer(child) = &mut self.process {
            // It may have ended by itself: nothing else is left to do then.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Installs the peers and exports the model for ONNX Runtime, where that is not done yet.
pub fn prepare_peers() -> Result<()> {
    let python = peer_python()?;
    let folder = peer_model();
    let graph = folder.join("model.onnx");
    if graph.is_file() {
        return Ok(());
    }
    fs::create_dir_all(&folder)?;
    fs::copy(
        default_model().join("tokenizer.json"),
        folder.join("tokenizer.json"),
    )?;
    let unfinished = folder.join("unfinished.onnx");
    let status = Command::new(python)
        .arg(root().join("tests/bench/peers/export_onnx.py"))
        .args([default_model(), Path::new(&unfinished)])
        .status()?;
    if !status.success() {
        bail!("export_onnx.py ended with {status}");
    }
    Ok(fs::rename(unfinished, graph)?)
}

/// The Python of the peers' environment: `$TENON_BENCH_PYTHON`, or one made in target/peers.
pub fn peer_python() -> Result<PathBuf> {
    if let Some(python) = std::env::var_os("TENON_BENCH_PYTHON") {
        return Ok(python.into());
    }
    python("peers", "bench/peers/requirements.txt").map_err(|reason| anyhow!(reason))
}

fn peer_model() -> PathBuf {
    root().join("target/peers-model")
}

/// The processor's name.
pub fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or("unknown CPU".into(), |(_, name)| name.trim().to_owned())
}
