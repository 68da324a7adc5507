//! torch_peer.py: torch on the same device, asked for one figure at a time.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tenon_tests::tools::root;

use crate::servers::peer_python;

/// How long an answer may take beyond the time that it measures; torch is imported meanwhile, and
/// gigabytes are read.
const PATIENCE: Duration = Duration::from_secs(90);

/// The running peer; dropping it ends it.
pub struct Peer {
    child: Child,
    jobs: ChildStdin,
    answers: Receiver<std::io::Result<String>>,
}

impl Peer {
    /// Starts it.
    pub fn start() -> Result<Self> {
        let mut child = Command::new(peer_python()?)
            .arg(root().join("tests/bench/cuda/torch_peer.py"))
            // Nothing is to be fetched, and nobody to be asked whether it should be.
            .env("HF_HUB_OFFLINE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the peer")?;
        let jobs = child.stdin.take().context("the peer's standard input")?;
        let stdout = child.stdout.take().context("the peer's standard output")?;
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            child,
            jobs,
            answers,
        })
    }

    /// Loads a checkpoint in place of the one before; what computes it, in words.
    pub fn load(&mut self, folder: &Path) -> Result<String> {
        let answer = self.ask(&json!({"do": "load", "folder": folder}), Duration::ZERO)?;
        Ok(answer["name"].as_str().unwrap_or("torch").to_owned())
    }

    /// Tokens a second of batches of `count` inputs of `tokens`.
    pub fn tokens_per_s(&mut self, count: usize, tokens: usize, time: Duration) -> Result<f64> {
        let job = json!({
            "do": "throughput", "batch": count, "tokens": tokens, "seconds": time.as_secs_f64(),
        });
        self.figure(&job, "tokens_per_s", time)
    }

    /// The median of the milliseconds that one input takes.
    pub fn latency_ms(&mut self, tokens: usize, time: Duration) -> Result<f64> {
        let job = json!({"do": "latency", "tokens": tokens, "seconds": time.as_secs_f64()});
        self.figure(&job, "p50_ms", time)
    }

    /// Texts a second through sentence-transformers' `encode`, `batch` at a time.
    pub fn texts_per_s(&mut self, texts: &[String], batch: usize, time: Duration) -> Result<f64> {
        let job = json!({
            "do": "encode", "texts": texts, "batch": batch, "seconds": time.as_secs_f64(),
        });
        self.figure(&job, "texts_per_s", time)
    }

    fn figure(&mut self, job: &Value, key: &str, time: Duration) -> Result<f64> {
        let answer = self.ask(job, time)?;
        answer[key].as_f64().with_context(|| format!("no {key}"))
    }

    fn ask(&mut self, job: &Value, time: Duration) -> Result<Value> {
        writeln!(self.jobs, "{job}").context("the peer is gone")?;
        self.jobs.flush()?;
        let answer = self.answers.recv_timeout(time * 2 + PATIENCE);
        let answer: Value = serde_json::from_str(&answer.context("the peer did not answer")??)?;
        match answer["error"].as_str() {
            Some(error) => bail!("the peer: {error}"),
            None => Ok(answer),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself: nothing else is left to do then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
