//! Whether the server is starting, ready or draining, and what tells it to drain.

use std::io;
use std::sync::{Arc, OnceLock};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::service::EmbedService;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Ready,
    /// No device is usable for now; requests wait.
    Recovering,
    /// A deployment cannot work any more; the rest still may.
    Failed,
    Draining,
}

/// The state that `/ready` reports; clones share it.
#[derive(Clone)]
pub struct Lifecycle {
    shared: Arc<Shared>,
}

struct Shared {
    phase: watch::Sender<Phase>,
    service: OnceLock<Arc<dyn EmbedService>>,
}

impl Lifecycle {
    /// Starting: alive, not ready, and every embedding call is answered with 503.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                phase: watch::Sender::new(Phase::Starting),
                service: OnceLock::new(),
            }),
        }
    }

    /// Ready: calls go to `service` from now on. Only the first service counts.
    pub fn ready(&self, service: Arc<dyn EmbedService>) {
        self.shared.service.get_or_init(|| service);
        self.turn(Phase::Ready, |phase| phase == Phase::Starting);
    }

    /// Not ready for now: what computes is being replaced.
    pub fn recover(&self) {
        self.turn(Phase::Recovering, |phase| phase == Phase::Ready);
    }

    /// Ready again.
    pub fn recovered(&self) {
        self.turn(Phase::Ready, |phase| phase == Phase::Recovering);
    }

    /// No longer ready: something is broken that only a restart repairs.
    pub fn fail(&self) {
        self.turn(Phase::Failed, |phase| phase != Phase::Draining);
    }

    /// No longer ready, and [`Server::run`](super::Server::run) ends when requests in
    /// progress have.
    pub fn drain(&self) {
        self.turn(Phase::Draining, |phase| phase != Phase::Draining);
    }

    /// Whether new work is welcome.
    pub fn is_ready(&self) -> bool {
        *self.shared.phase.borrow() == Phase::Ready
    }

    /// The phase in a word, for `/ready`.
    pub(super) fn name(&self) -> &'static str {
        match *self.shared.phase.borrow() {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Recovering => "recovering",
            Phase::Failed => "failed",
            Phase::Draining => "draining",
        }
    }

    pub(super) fn service(&self) -> Option<&Arc<dyn EmbedService>> {
        self.shared.service.get()
    }

    /// Returns once draining has begun.
    pub async fn draining(&self) {
        let mut phase = self.shared.phase.subscribe();
        // An error says that the sender is gone, but `self` holds it.
        let _ = phase.wait_for(|phase| *phase == Phase::Draining).await;
    }

    fn turn(&self, next: Phase, from: impl Fn(Phase) -> bool) {
        let turned = self.shared.phase.send_if_modified(|phase| {
            let turns = from(*phase);
            if turns {
                *phase = next;
            }
            turns
        });
        if turned {
            tracing::info!(phase = self.name(), "server phase");
        }
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

/// SIGTERM and SIGINT.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes both over from their default, which is to kill the process.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next of either.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
