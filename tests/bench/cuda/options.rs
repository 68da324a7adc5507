//! What the command line of the benchmark on a GPU asks for.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tenon_tests::tools::root;

use super::models::{self, Model};

/// How long a figure is measured.
const DEFAULT_SECONDS: u64 = 1;
/// When nothing further is begun, so that all ends some seconds later.
const DEFAULT_LIMIT_S: u64 = 180;

/// What to measure, where and for how long.
pub struct Options {
    /// The models.
    pub models: Vec<Model>,
    /// Where their checkpoints are, or are made.
    pub checkpoints: PathBuf,
    /// How long a figure is measured.
    pub time: Duration,
    /// What is left out.
    pub without: Vec<Part>,
    started: Instant,
    limit: Duration,
}

/// A part of the benchmark that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The server, over HTTP.
    Http,
    /// The peer on torch.
    Torch,
    /// Its encoder of texts, sentence-transformers.
    Encode,
    /// Inputs that are alone.
    Latency,
    /// The same code without its sandbox.
    Tax,
}

impl Part {
    const ALL: [(&'static str, Self); 5] = [
        ("http", Self::Http),
        ("torch", Self::Torch),
        ("encode", Self::Encode),
        ("latency", Self::Latency),
        ("tax", Self::Tax),
    ];
}

impl Options {
    /// Reads the arguments.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            models: models::named(models::DEFAULT)?,
            checkpoints: root().join("target/cuda-models"),
            time: Duration::from_secs(DEFAULT_SECONDS),
            without: Vec::new(),
            started: Instant::now(),
            limit: Duration::from_secs(DEFAULT_LIMIT_S),
        };
        for argument in arguments {
            let seconds = |value: &str| {
                let seconds = value.parse().ok().filter(|seconds| *seconds > 0);
                let seconds = seconds.with_context(|| format!("{argument}: no whole number"))?;
                anyhow::Ok(Duration::from_secs(seconds))
            };
            match argument.split_once('=') {
                Some(("--device", "cuda")) => {}
                Some(("--models", list)) => options.models = models::named(list)?,
                Some(("--checkpoints", folder)) => options.checkpoints = folder.into(),
                Some(("--seconds", value)) => options.time = seconds(value)?,
                Some(("--limit-s", value)) => options.limit = seconds(value)?,
                Some(("--without", list)) => {
                    options.without = list.split(',').map(part).collect::<Result<_>>()?;
                }
                _ => bail!(
                    "unknown argument {argument:?}: with --device=cuda wanted --models=NAME,..., \
                     --checkpoints=FOLDER, --seconds=N, --limit-s=N, --without=PART,... or \
                     --families"
                ),
            }
        }
        Ok(options)
    }

    /// Whether a part is to be measured, and there is time left.
    pub fn wants(&self, part: Part) -> bool {
        !self.without.contains(&part) && self.has_time()
    }

    /// Whether there is time left.
    pub fn has_time(&self) -> bool {
        self.started.elapsed() < self.limit
    }

    /// How long the benchmark has been running.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

fn part(name: &str) -> Result<Part> {
    let found = Part::ALL.iter().find(|(known, _)| *known == name);
    let names = Part::ALL.map(|(known, _)| known).join(", ");
    let (_, part) =
        found.with_context(|| format!("--without has no {name:?}: there are {names}"))?;
    Ok(*part)
}
