//! A device whose processes are threads: what becomes of its executors.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tenon_tensor::DType;

use super::*;
use crate::batch::{BatchOutput, ExecuteError, Executor, PackedBatch, Sequence};
use crate::bundles::{ComponentSource, ServedDtype};
use crate::role::Role;
use crate::sandbox::{ComponentFailure, ModelInfo, PoolingInfo};

const PATIENCE: Duration = Duration::from_secs(10);
/// Tokens at which the device is lost, a component fails, and nothing ever ends.
const POISON: u32 = 666;
const TRAP: u32 = 667;
const HANG: u32 = 668;

/// A process of threads. The number of those started so far is the vector of every sequence.
#[derive(Clone, Default)]
struct Threads {
    started: Arc<AtomicUsize>,
    /// From this start on nothing can be loaded; 0: ever.
    fails_from: usize,
    /// From this start on the model says something else of itself.
    changes_from: usize,
}

struct FakeHost {
    number: usize,
    fake: Threads,
    reporter: Reporter,
}

struct FakeExecutor {
    number: usize,
    reporter: Reporter,
}

impl Start for Threads {
    fn start(&self) -> io::Result<Started> {
        let number = self.started.fetch_add(1, SeqCst) + 1;
        let (socket, theirs) = UnixStream::pair()?;
        let fake = self.clone();
        thread::spawn(move || {
            serve(theirs, move |reporter| FakeHost {
                number,
                fake,
                reporter,
            })
        });
        Ok(Started {
            socket,
            child: None,
        })
    }
}

fn reached(number: usize, from: usize) -> bool {
    from > 0 && number >= from
}

impl Host for FakeHost {
    fn open(&mut self) -> Result<DeviceFacts, String> {
        Ok(DeviceFacts {
            name: "cuda:0 (threads)".into(),
            batches_in_flight: 2,
        })
    }

    fn load(&mut self, plan: &BackPlan) -> Result<Loaded, String> {
        if plan.bundle == "broken" || reached(self.number, self.fake.fails_from) {
            return Err("a tensor is missing".into());
        }
        let executor = || -> Box<dyn Executor> {
            Box::new(FakeExecutor {
                number: self.number,
                reporter: self.reporter.clone(),
            })
        };
        let changed = reached(self.number, self.fake.changes_from);
        let facts = BackFacts {
            model: ModelInfo {
                hidden_size: 8,
                max_tokens: None,
                vocab_size: if changed { 11 } else { 10 },
                images: false,
                pooled: false,
            },
            pooling: PoolingInfo {
                dimensions: 8,
                matryoshka: false,
                matryoshka_dimensions: Vec::new(),
            },
            dtype: DType::F32,
        };
        let executors = vec![executor(), executor()];
        Ok(Loaded { facts, executors })
    }
}

impl Executor for FakeExecutor {
    fn execute(&mut self, batch: &PackedBatch) -> Result<BatchOutput, ExecuteError> {
        match batch.token_ids.first() {
            Some(&POISON) => return Err(ExecuteError::Lost("an illegal access".into())),
            Some(&TRAP) => {
                let reason = "unreachable".to_owned();
                self.reporter.send(&Report::Failed(ComponentFailure {
                    bundle: "a bundle".into(),
                    role: Role::Model,
                    component: "bert".into(),
                    reason: reason.clone(),
                }));
                return Err(ExecuteError::Component(reason));
            }
            Some(&HANG) => thread::sleep(PATIENCE),
            _ => {}
        }
        Ok(BatchOutput {
            rows: vec![Ok(vec![self.number as f32]); batch.sequences()],
            forward: Duration::ZERO,
            pooling: Duration::ZERO,
            sandbox: Duration::ZERO,
        })
    }
}

/// What a replica tells.
#[derive(Default)]
struct Told {
    usable: Mutex<Vec<bool>>,
    restarts: AtomicUsize,
}

impl ReplicaObserver for Told {
    fn usable(&self, _: &str, usable: bool) {
        self.usable.lock().unwrap().push(usable);
    }

    fn restarted(&self, _: &str) {
        self.restarts.fetch_add(1, SeqCst);
    }
}

fn limits() -> ReplicaLimits {
    ReplicaLimits {
        batch_time: Duration::from_secs(1),
        max_restarts: 3,
        restart_backoff: Duration::from_millis(1),
        ..ReplicaLimits::default()
    }
}

fn plan(bundle: &str) -> BackPlan {
    let role = PlannedRole {
        component: ComponentSource::Builtin("bert".into()),
        config: "{}".into(),
    };
    BackPlan {
        bundle: bundle.into(),
        weights_dir: "/models".into(),
        dtype: ServedDtype::Auto,
        checkpoint_is_bf16: false,
        checkpoint_config: "{}".into(),
        model: role.clone(),
        pooling: role,
    }
}

fn batch(token: u32) -> PackedBatch {
    let sequence = Sequence {
        token_ids: vec![token],
        ..Sequence::default()
    };
    PackedBatch::pack([&sequence])
}

/// A replica with one deployment, its first executor, and what it tells.
fn loaded(threads: Threads) -> (Replica, Box<dyn Executor>, Arc<Told>) {
    let told = Arc::new(Told::default());
    let on_failure = Arc::new(|_: &ComponentFailure| {});
    let replica = Replica::start("cuda:0", threads, limits(), told.clone(), on_failure).unwrap();
    let (_, mut executors) = replica.load(&plan("a bundle")).unwrap();
    assert_eq!(executors.len(), 2);
    replica.supervise().unwrap();
    (replica, executors.remove(0), told)
}

/// Which process ran a batch.
fn ran_in(executor: &mut dyn Executor) -> f32 {
    loop {
        assert!(executor.await_ready(PATIENCE).unwrap());
        match executor.execute(&batch(1)) {
            // Its supervisor has not noticed yet.
            Err(ExecuteError::Interrupted { started: false, .. }) => {}
            output => return output.unwrap().rows[0].clone().unwrap()[0],
        }
    }
}

/// What is said of a device that is given up.
fn given_up(executor: &mut dyn Executor) -> String {
    let since = Instant::now();
    loop {
        match executor.await_ready(PATIENCE) {
            Err(ExecuteError::Lost(reason)) => return reason,
            // As above.
            Ok(true) if since.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(1)),
            other => panic!("{other:?}"),
        }
    }
}

fn is_interrupted(result: Result<BatchOutput, ExecuteError>, why: &str) {
    match result {
        Err(ExecuteError::Interrupted { reason, started }) => {
            assert!(started && reason.contains(why), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lost_process_is_replaced_and_everything_is_loaded_again() {
    let (replica, mut executor, told) = loaded(Threads::default());
    assert_eq!(replica.name(), "cuda:0 (threads)");
    assert_eq!(ran_in(&mut *executor), 1.0);
    is_interrupted(executor.execute(&batch(POISON)), "an illegal access");
    assert_eq!(ran_in(&mut *executor), 2.0);
    assert_eq!(told.restarts.load(SeqCst), 1);
    assert_eq!(*told.usable.lock().unwrap(), [true, false, true]);
}

#[test]
fn a_batch_for_a_process_that_is_lost_already_has_not_begun() {
    let told = Arc::new(Told::default());
    let on_failure = Arc::new(|_: &ComponentFailure| {});
    let threads = Threads::default();
    let replica = Replica::start("cuda:0", threads, limits(), told, on_failure).unwrap();
    let (_, mut executors) = replica.load(&plan("a bundle")).unwrap();
    // Nobody watches yet, so that the device seems to be up.
    is_interrupted(executors[0].execute(&batch(POISON)), "an illegal access");
    for executor in &mut executors {
        let result = executor.execute(&batch(1));
        let unbegun = matches!(
            result,
            Err(ExecuteError::Interrupted { started: false, .. })
        );
        assert!(unbegun, "{result:?}");
    }
}

#[test]
fn a_process_that_hangs_is_replaced() {
    let (_replica, mut executor, _) = loaded(Threads::default());
    is_interrupted(executor.execute(&batch(HANG)), "within 1 s");
    assert_eq!(ran_in(&mut *executor), 2.0);
}

#[test]
fn a_device_that_is_lost_again_and_again_is_given_up() {
    let (_replica, mut executor, told) = loaded(Threads::default());
    for number in 1..=4 {
        assert_eq!(ran_in(&mut *executor), number as f32);
        is_interrupted(executor.execute(&batch(POISON)), "an illegal access");
    }
    let reason = given_up(&mut *executor);
    assert!(reason.contains("3 restarts"), "{reason}");
    assert_eq!(told.restarts.load(SeqCst), 3);
}

#[test]
fn a_device_that_cannot_be_loaded_again_is_given_up() {
    for threads in [
        Threads {
            fails_from: 2,
            ..Threads::default()
        },
        Threads {
            changes_from: 2,
            ..Threads::default()
        },
    ] {
        let (_replica, mut executor, told) = loaded(threads);
        is_interrupted(executor.execute(&batch(POISON)), "an illegal access");
        given_up(&mut *executor);
        assert_eq!(told.restarts.load(SeqCst), 3);
        assert_eq!(*told.usable.lock().unwrap(), [true, false]);
    }
}

#[test]
fn failures_of_components_and_of_loading_arrive_in_their_words() {
    let failures = Arc::new(Mutex::new(Vec::new()));
    let told = failures.clone();
    let on_failure = Arc::new(move |failure: &ComponentFailure| {
        told.lock().unwrap().push(failure.to_string());
    });
    let threads = Threads::default();
    let observer = Arc::new(Told::default());
    let replica = Replica::start("cuda:0", threads, limits(), observer, on_failure).unwrap();
    let refused = replica.load(&plan("broken")).err();
    assert_eq!(refused.as_deref(), Some("a tensor is missing"));
    let (_, mut executors) = replica.load(&plan("a bundle")).unwrap();
    let failed = executors[1].execute(&batch(TRAP));
    assert!(
        matches!(failed, Err(ExecuteError::Component(_))),
        "{failed:?}"
    );
    let failures = failures.lock().unwrap();
    assert_eq!(failures.len(), 1);
    assert!(failures[0].contains("unreachable"), "{failures:?}");
}

#[test]
fn a_stopped_device_runs_nothing_and_does_not_come_back() {
    let threads = Threads::default();
    let (replica, mut executor, told) = loaded(threads.clone());
    replica.stop();
    let since = Instant::now();
    let gone = executor.execute(&batch(1));
    assert!(matches!(gone, Err(ExecuteError::Lost(_))), "{gone:?}");
    thread::sleep(Duration::from_millis(50));
    assert_eq!(threads.started.load(SeqCst), 1);
    assert_eq!(told.restarts.load(SeqCst), 0);
    assert!(since.elapsed() < PATIENCE);
}
