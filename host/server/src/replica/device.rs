//! A device whose process is replaced when it is lost.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use super::executor::ReplicaExecutor;
use super::link::Broken;
use super::message::{DeviceFacts, Lane};
use super::plan::{BackFacts, BackPlan};
use super::process::{Process, Start};
use crate::batch::Executor;
use crate::sandbox::OnFailure;

/// How long a worker process may take, and how often it is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaLimits {
    /// To open its device. The first start compiles kernels.
    pub open_time: Duration,
    /// To load one deployment: a bound on a hang, not on a slow disk.
    pub load_time: Duration,
    /// To run one batch. A request may take 300 s unless the operator says otherwise, and a
    /// batch that loses its device is tried again.
    pub batch_time: Duration,
    /// Starts of a new process within `restart_window`; with one more the device is given up.
    pub max_restarts: usize,
    /// As above.
    pub restart_window: Duration,
    /// The wait before the second start within the window; it doubles with each.
    pub restart_backoff: Duration,
    /// The longest such wait.
    pub max_restart_backoff: Duration,
}

impl Default for ReplicaLimits {
    /// An input that loses the device each time costs three processes, so that two such inputs
    /// are survived within the window.
    fn default() -> Self {
        Self {
            open_time: Duration::from_secs(600),
            load_time: Duration::from_secs(1800),
            batch_time: Duration::from_secs(90),
            max_restarts: 8,
            restart_window: Duration::from_secs(600),
            restart_backoff: Duration::from_millis(100),
            max_restart_backoff: Duration::from_secs(10),
        }
    }
}

/// Told what becomes of devices, on whatever thread that is noticed; must not block.
pub trait ReplicaObserver: Send + Sync + 'static {
    /// The device can be used now, or cannot.
    fn usable(&self, device: &str, usable: bool);
    /// A process of the device is started because the last one was lost.
    fn restarted(&self, device: &str);
}

/// One device with every deployment loaded; clones are handles of the same one.
#[derive(Clone)]
pub struct Replica {
    shared: Arc<Shared>,
}

/// What the executors of a device share.
pub(super) struct Shared {
    device: String,
    limits: ReplicaLimits,
    start: Box<dyn Start>,
    observer: Arc<dyn ReplicaObserver>,
    on_failure: OnFailure,
    state: Mutex<State>,
    /// Signalled when `phase` changes.
    changed: Condvar,
    /// Held by everybody who runs a batch, by one alone who is not to share the blame.
    pub(super) in_flight: RwLock<()>,
}

struct State {
    phase: Phase,
    /// The process that is up, or is about to be.
    process: Option<Arc<Process>>,
    facts: Option<DeviceFacts>,
    deployments: Vec<(BackPlan, BackFacts)>,
}

/// Whether the device can be used.
#[derive(Clone)]
pub(super) enum Phase {
    /// It can.
    Up(Arc<Process>),
    /// Not now.
    Down,
    /// Never again, and why.
    Gone(String),
}

impl Replica {
    /// Starts a process that opens its device. `device` is the short name, e.g. `cuda:0`.
    pub fn start(
        device: &str,
        start: impl Start,
        limits: ReplicaLimits,
        observer: Arc<dyn ReplicaObserver>,
        on_failure: OnFailure,
    ) -> Result<Self, String> {
        let shared = Arc::new(Shared {
            device: device.to_owned(),
            limits,
            start: Box::new(start),
            observer,
            on_failure,
            state: Mutex::new(State {
                phase: Phase::Down,
                process: None,
                facts: None,
                deployments: Vec::new(),
            }),
            changed: Condvar::new(),
            in_flight: RwLock::new(()),
        });
        let process = shared.bring_up()?;
        shared.turn(Phase::Up(process));
        Ok(Self { shared })
    }

    /// The short name, e.g. `cuda:0`.
    pub fn device(&self) -> &str {
        &self.shared.device
    }

    /// What it is, e.g. `cuda:0 (NVIDIA H100)`.
    pub fn name(&self) -> String {
        let state = self.shared.lock();
        let facts = state.facts.as_ref();
        facts.map_or_else(|| self.shared.device.clone(), |facts| facts.name.clone())
    }

    /// The number of its process, where there is one now.
    pub fn process_id(&self) -> Option<u32> {
        self.shared.lock().process.as_ref()?.id()
    }

    /// Loads a back half, now and into every later process; its executors.
    pub fn load(&self, plan: &BackPlan) -> Result<(BackFacts, Vec<Box<dyn Executor>>), String> {
        let shared = &self.shared;
        let process = match shared.phase() {
            Phase::Up(process) => process,
            Phase::Down => return Err(format!("{}: it is not usable now", shared.device)),
            Phase::Gone(reason) => return Err(format!("{}: {reason}", shared.device)),
        };
        let deployment = shared.lock().deployments.len() as u32;
        let loaded = process
            .link()
            .load(deployment, plan, shared.limits.load_time);
        let facts =
            loaded.unwrap_or_else(|Broken(reason)| Err(format!("{}: {reason}", shared.device)))?;
        let mut state = shared.lock();
        state.deployments.push((plan.clone(), facts.clone()));
        let lanes = state.facts.as_ref().map_or(1, |it| it.batches_in_flight);
        let executor = |slot| {
            let lane = Lane { deployment, slot };
            Box::new(ReplicaExecutor::new(shared.clone(), lane)) as Box<dyn Executor>
        };
        Ok((facts, (0..lanes).map(executor).collect()))
    }

    /// From here on a process that is lost is replaced.
    pub fn supervise(&self) -> std::io::Result<()> {
        let shared = self.shared.clone();
        let thread = thread::Builder::new().name("tenon-supervisor".into());
        thread.spawn(move || shared.supervise())?;
        Ok(())
    }

    /// Ends the process for good.
    pub fn stop(&self) {
        self.shared.turn(Phase::Gone("the server stops".into()));
        let process = self.shared.lock().process.take();
        if let Some(process) = process {
            process.close();
        }
    }
}

impl Shared {
    /// The device's short name.
    pub(super) fn device(&self) -> &str {
        &self.device
    }

    /// How long a batch may take.
    pub(super) fn batch_time(&self) -> Duration {
        self.limits.batch_time
    }

    /// Whether the device can be used.
    pub(super) fn phase(&self) -> Phase {
        self.lock().phase.clone()
    }

    /// As [`Shared::phase`], after waiting while it is down, for `patience` at most.
    pub(super) fn phase_in_time(&self, patience: Duration) -> Phase {
        let down = |state: &mut State| matches!(state.phase, Phase::Down);
        let waited = self.changed.wait_timeout_while(self.lock(), patience, down);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.phase.clone()
    }

    fn supervise(&self) {
        let mut restarts = VecDeque::new();
        while let Phase::Up(process) = self.phase() {
            let Broken(reason) = process.link().wait();
            // Nobody is told that it is up while it is taken down.
            if !self.turn(Phase::Down) {
                return;
            }
            tracing::error!(device = %self.device, %reason, "a worker process is lost");
            process.kill();
            while self.wait_to_restart(&mut restarts) {
                self.observer.restarted(&self.device);
                match self.bring_up() {
                    Ok(process) => {
                        if self.turn(Phase::Up(process)) {
                            tracing::info!(device = %self.device, "a worker process is replaced");
                        }
                        break;
                    }
                    Err(reason) => {
                        let device = &self.device;
                        tracing::error!(%device, %reason, "a worker process cannot be replaced");
                    }
                }
            }
        }
    }

    /// Waits until the process may be replaced; not if it was too often, or is not to be.
    fn wait_to_restart(&self, restarts: &mut VecDeque<Instant>) -> bool {
        let limits = &self.limits;
        let window = |since: &Instant| since.elapsed() <= limits.restart_window;
        restarts.retain(window);
        if restarts.len() >= limits.max_restarts {
            let window_s = limits.restart_window.as_secs();
            let times = restarts.len();
            let reason =
                format!("its process was lost again after {times} restarts within {window_s} s");
            tracing::error!(device = %self.device, %reason, "a device is given up");
            self.turn(Phase::Gone(reason));
            return false;
        }
        let wait = match restarts.len() {
            0 => Duration::ZERO,
            times => limits
                .restart_backoff
                .saturating_mul(1 << (times - 1).min(20))
                .min(limits.max_restart_backoff),
        };
        restarts.push_back(Instant::now());
        matches!(self.phase_in_time(wait), Phase::Down)
    }

    /// A process with the device open and every deployment loaded.
    fn bring_up(&self) -> Result<Arc<Process>, String> {
        let process = Process::start(&*self.start, self.on_failure.clone());
        let process = process.map_err(|error| format!("starting a worker process: {error}"))?;
        let process = Arc::new(process);
        let deployments = {
            let mut state = self.lock();
            if let Phase::Gone(reason) = &state.phase {
                return Err(reason.clone());
            }
            state.process = Some(process.clone());
            state.deployments.clone()
        };
        let loaded = self.load_all(&process, &deployments);
        if loaded.is_err() {
            process.kill();
        }
        loaded.map(|()| process)
    }

    fn load_all(
        &self,
        process: &Process,
        deployments: &[(BackPlan, BackFacts)],
    ) -> Result<(), String> {
        let broken = |Broken(reason)| reason;
        let link = process.link();
        let facts = link.opened(self.limits.open_time).map_err(broken)??;
        self.lock().facts = Some(facts);
        for (number, (plan, facts)) in (0..).zip(deployments) {
            let loaded = link.load(number, plan, self.limits.load_time);
            let loaded = loaded.map_err(broken)??;
            // Callers were told what the deployment is when it was loaded first.
            if loaded != *facts {
                let bundle = &plan.bundle;
                return Err(format!(
                    "the bundle {bundle:?} has changed since it was loaded"
                ));
            }
        }
        Ok(())
    }

    /// Turns to the next phase, unless the device is given up.
    fn turn(&self, next: Phase) -> bool {
        let usable = matches!(next, Phase::Up(_));
        let mut state = self.lock();
        if matches!(state.phase, Phase::Gone(_)) {
            return false;
        }
        let was_usable = matches!(state.phase, Phase::Up(_));
        state.phase = next;
        drop(state);
        self.changed.notify_all();
        if usable != was_usable {
            self.observer.usable(&self.device, usable);
        }
        true
    }

    /// A panic elsewhere leaves the state usable: no code here panics halfway.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
