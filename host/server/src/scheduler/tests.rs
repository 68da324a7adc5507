//! A scheduler with a fake executor: what callers see.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::batch::{BatchOutput, ExecuteError, PackedBatch, RowError};

const PATIENCE: Duration = Duration::from_secs(10);
/// A token that makes a component fail, and one whose row is not finite.
const POISON: u32 = 666;
const NOT_FINITE: u32 = 777;

/// The token ids of every sequence of every batch.
type Ran = Arc<Mutex<Vec<Vec<Vec<u32>>>>>;

/// Gives each sequence its own ids as the vector. Waits for the gate, if there is one,
/// before every batch.
#[derive(Default)]
struct Fake {
    gate: Option<mpsc::Receiver<()>>,
    ran: Ran,
    /// Answers of the next batches, before it works.
    failures: Vec<ExecuteError>,
    panics: bool,
}

impl Executor for Fake {
    fn execute(&mut self, batch: &PackedBatch) -> Result<BatchOutput, ExecuteError> {
        if let Some(gate) = &self.gate {
            gate.recv().ok();
        }
        let ends = batch.cu_seqlens.windows(2);
        let ids: Vec<Vec<u32>> = ends
            .map(|w| batch.token_ids[w[0] as usize..w[1] as usize].to_vec())
            .collect();
        self.ran.lock().unwrap().push(ids.clone());
        assert!(!self.panics, "the fake executor panics");
        if !self.failures.is_empty() {
            return Err(self.failures.remove(0));
        }
        if batch.token_ids.contains(&POISON) {
            return Err(ExecuteError::Component("trap: unreachable".into()));
        }
        let row = |ids: Vec<u32>| match ids.contains(&NOT_FINITE) {
            true => Err(RowError::NotFinite),
            false => Ok(ids.into_iter().map(|id| id as f32).collect()),
        };
        Ok(BatchOutput {
            rows: ids.into_iter().map(row).collect(),
            forward: Duration::from_millis(3),
            pooling: Duration::from_millis(2),
            sandbox: Duration::from_millis(1),
        })
    }
}

fn options() -> SchedulerOptions {
    SchedulerOptions {
        max_batch_tokens: 4,
        max_queued_sequences: 8,
        max_retries: 2,
        retry_backoff: Duration::from_millis(1),
    }
}

fn start(fake: Fake) -> Scheduler {
    Scheduler::start(options(), vec![Box::new(fake)], Arc::new(Unobserved))
}

/// A scheduler whose batches run one at a time, each after a `send`.
fn gated() -> (Scheduler, mpsc::Sender<()>, Ran) {
    let (open, gate) = mpsc::channel();
    let fake = Fake {
        gate: Some(gate),
        ..Fake::default()
    };
    let ran = fake.ran.clone();
    (start(fake), open, ran)
}

fn sequences(ids: &[&[u32]]) -> Vec<Sequence> {
    let sequence = |ids: &&[u32]| Sequence {
        token_ids: ids.to_vec(),
        ..Sequence::default()
    };
    ids.iter().map(sequence).collect()
}

fn ok(ids: &[&[u32]]) -> Result<Vec<Result<Vec<f32>, RowError>>, SubmitError> {
    let row = |ids: &&[u32]| Ok(ids.iter().map(|&id| id as f32).collect());
    Ok(ids.iter().map(row).collect())
}

async fn reply(ticket: Ticket) -> Result<Vec<Result<Vec<f32>, RowError>>, SubmitError> {
    tokio::time::timeout(PATIENCE, ticket).await.expect("reply")
}

/// Waits until the worker has taken all but `queued` sequences.
async fn until_queued(scheduler: &Scheduler, queued: usize) {
    let started = Instant::now();
    while scheduler.queued() != queued {
        assert!(started.elapsed() < PATIENCE, "{}", scheduler.queued());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn gives_rows_in_the_order_of_submission_over_many_batches() {
    let scheduler = start(Fake::default());
    let ids: Vec<Vec<u32>> = (0..100).map(|i| vec![i; 1 + i as usize % 6]).collect();
    let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
    let ticket = scheduler.submit(sequences(&ids), 0, None).unwrap();
    assert_eq!(reply(ticket).await, ok(&ids));
    assert_eq!(scheduler.queued(), 0);
}

#[tokio::test]
async fn answers_a_request_without_sequences_at_once() {
    let ticket = start(Fake::default()).submit(Vec::new(), 0, None).unwrap();
    assert_eq!(reply(ticket).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_row_that_is_not_finite_is_an_error_of_that_row() {
    let scheduler = start(Fake::default());
    let ids = sequences(&[&[1], &[NOT_FINITE], &[2]]);
    let rows = reply(scheduler.submit(ids, 0, None).unwrap()).await;
    let expected = vec![Ok(vec![1.0]), Err(RowError::NotFinite), Ok(vec![2.0])];
    assert_eq!(rows, Ok(expected));
}

#[tokio::test]
async fn dropping_a_ticket_cancels_what_has_not_run() {
    let (scheduler, open, ran) = gated();
    let first = scheduler
        .submit(sequences(&[&[1; 4], &[2; 4]]), 0, None)
        .unwrap();
    until_queued(&scheduler, 1).await;
    let second = scheduler.submit(sequences(&[&[3]]), 0, None).unwrap();
    drop(first);
    assert_eq!(scheduler.queued(), 1);
    open.send(()).unwrap();
    open.send(()).unwrap();
    assert_eq!(reply(second).await, ok(&[&[3]]));
    assert_eq!(*ran.lock().unwrap(), [vec![vec![1; 4]], vec![vec![3]]]);
}

#[tokio::test]
async fn higher_priority_overtakes() {
    let (scheduler, open, ran) = gated();
    let first = scheduler.submit(sequences(&[&[1; 4]]), 0, None).unwrap();
    until_queued(&scheduler, 0).await;
    let low = scheduler.submit(sequences(&[&[2; 4]]), 0, None).unwrap();
    let high = scheduler.submit(sequences(&[&[3; 4]]), 9, None).unwrap();
    for _ in 0..3 {
        open.send(()).unwrap();
    }
    for ticket in [first, low, high] {
        assert!(reply(ticket).await.is_ok());
    }
    let order: Vec<u32> = ran.lock().unwrap().iter().map(|b| b[0][0]).collect();
    assert_eq!(order, [1, 3, 2]);
}

#[tokio::test]
async fn refuses_when_the_queue_is_full() {
    let (scheduler, open, _) = gated();
    let first = scheduler
        .submit(sequences(&[&[1u32] as &[u32]; 9]), 0, None)
        .unwrap();
    until_queued(&scheduler, 5).await;
    let second = scheduler
        .submit(sequences(&[&[2u32] as &[u32]; 3]), 0, None)
        .unwrap();
    let refused = scheduler.submit(sequences(&[&[3]]), 0, None).err();
    let expected = AdmissionError::QueueFull {
        queued: 8,
        limit: 8,
        retry_after: Duration::from_secs(1),
    };
    assert_eq!(refused, Some(expected));
    drop(open);
    assert!(reply(first).await.is_ok());
    assert!(reply(second).await.is_ok());
}

#[tokio::test]
async fn a_passed_deadline_is_an_error_and_never_runs() {
    let (scheduler, open, ran) = gated();
    let first = scheduler.submit(sequences(&[&[1; 4]]), 0, None).unwrap();
    until_queued(&scheduler, 0).await;
    let deadline = Some(Instant::now());
    let late = scheduler.submit(sequences(&[&[2]]), 0, deadline).unwrap();
    let deadline = Some(Instant::now() + PATIENCE);
    let timely = scheduler.submit(sequences(&[&[3]]), 0, deadline).unwrap();
    drop(open);
    assert!(reply(first).await.is_ok());
    assert_eq!(reply(late).await, Err(SubmitError::DeadlineExceeded));
    assert_eq!(reply(timely).await, ok(&[&[3]]));
    assert_eq!(ran.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn only_the_culprit_of_a_failed_batch_fails() {
    let (scheduler, open, ran) = gated();
    let first = scheduler.submit(sequences(&[&[1; 4]]), 0, None).unwrap();
    until_queued(&scheduler, 0).await;
    let good = scheduler.submit(sequences(&[&[2], &[3]]), 0, None).unwrap();
    let bad = scheduler.submit(sequences(&[&[POISON]]), 0, None).unwrap();
    let other = scheduler.submit(sequences(&[&[4]]), 0, None).unwrap();
    drop(open);
    assert!(reply(first).await.is_ok());
    assert_eq!(reply(good).await, ok(&[&[2], &[3]]));
    let trap = SubmitError::Component("trap: unreachable".into());
    assert_eq!(reply(bad).await, Err(trap));
    assert_eq!(reply(other).await, ok(&[&[4]]));
    assert_eq!(ran.lock().unwrap()[1].len(), 4);
}

#[tokio::test]
async fn a_failed_request_drops_the_rest_of_its_sequences() {
    let fake = Fake::default();
    let ran = fake.ran.clone();
    let scheduler = start(fake);
    let ids = sequences(&[&[POISON; 4], &[1; 4], &[2; 4]]);
    let ticket = scheduler.submit(ids, 0, None).unwrap();
    assert!(matches!(
        reply(ticket).await,
        Err(SubmitError::Component(_))
    ));
    scheduler.drain().await;
    assert_eq!(ran.lock().unwrap().len(), 1);
}

fn unavailable(times: usize) -> Vec<ExecuteError> {
    vec![ExecuteError::Unavailable("replacing the store".into()); times]
}

#[tokio::test]
async fn tries_again_while_the_executor_is_unavailable() {
    let fake = Fake {
        failures: unavailable(2),
        ..Fake::default()
    };
    let ticket = start(fake).submit(sequences(&[&[1]]), 0, None).unwrap();
    assert_eq!(reply(ticket).await, ok(&[&[1]]));
}

#[tokio::test]
async fn gives_up_after_the_retries_then_at_the_first_try() {
    let fake = Fake {
        failures: unavailable(4),
        ..Fake::default()
    };
    let ran = fake.ran.clone();
    let scheduler = start(fake);
    for expected_tries in [3, 4] {
        let ticket = scheduler.submit(sequences(&[&[1]]), 0, None).unwrap();
        assert!(matches!(
            reply(ticket).await,
            Err(SubmitError::Unavailable { .. })
        ));
        assert_eq!(ran.lock().unwrap().len(), expected_tries);
    }
    let ticket = scheduler.submit(sequences(&[&[1]]), 0, None).unwrap();
    assert_eq!(reply(ticket).await, ok(&[&[1]]));
}

#[tokio::test]
async fn a_request_cancelled_between_retries_is_not_run_again() {
    let (open, gate) = mpsc::channel();
    let fake = Fake {
        gate: Some(gate),
        failures: unavailable(1),
        ..Fake::default()
    };
    let ran = fake.ran.clone();
    let scheduler = start(fake);
    let ticket = scheduler.submit(sequences(&[&[1]]), 0, None).unwrap();
    until_queued(&scheduler, 0).await;
    drop(ticket);
    drop(open);
    scheduler.drain().await;
    assert_eq!(ran.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_panic_of_the_executor_answers_everyone() {
    let (open, gate) = mpsc::channel();
    let fake = Fake {
        gate: Some(gate),
        panics: true,
        ..Fake::default()
    };
    let scheduler = start(fake);
    let running = scheduler.submit(sequences(&[&[1; 4]]), 0, None).unwrap();
    until_queued(&scheduler, 0).await;
    let waiting = scheduler.submit(sequences(&[&[2; 4]]), 0, None).unwrap();
    drop(open);
    assert_eq!(reply(running).await, Err(SubmitError::Stopped));
    assert_eq!(reply(waiting).await, Err(SubmitError::Stopped));
    scheduler.stopped().await;
    let refused = scheduler.submit(sequences(&[&[3]]), 0, None).err();
    assert_eq!(refused, Some(AdmissionError::ShuttingDown));
    scheduler.drain().await;
}

#[tokio::test]
async fn drains_what_it_has_and_admits_no_more() {
    let (scheduler, open, _) = gated();
    let ids: [&[u32]; 5] = [&[1; 4]; 5];
    let ticket = scheduler.submit(sequences(&ids), 0, None).unwrap();
    let draining = tokio::spawn({
        let scheduler = scheduler.clone();
        async move { scheduler.drain().await }
    });
    let started = Instant::now();
    loop {
        match scheduler.submit(Vec::new(), 0, None) {
            Err(error) => break assert_eq!(error, AdmissionError::ShuttingDown),
            Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
        assert!(started.elapsed() < PATIENCE);
    }
    assert!(!draining.is_finished());
    drop(open);
    assert_eq!(reply(ticket).await, ok(&ids));
    draining.await.unwrap();
}

#[tokio::test]
async fn tickets_outlive_the_last_handle() {
    let (scheduler, open, _) = gated();
    let ticket = scheduler.submit(sequences(&[&[1]]), 0, None).unwrap();
    drop(scheduler);
    drop(open);
    assert_eq!(reply(ticket).await, ok(&[&[1]]));
}

#[derive(Default)]
struct Recorder(Mutex<(usize, usize, usize, usize)>); // sequences, waits, failures, queued

impl BatchObserver for Recorder {
    fn batch(&self, report: &BatchReport<'_>) {
        let mut seen = self.0.lock().unwrap();
        seen.0 += report.sequences;
        seen.1 += report.waits.len();
        assert!(report.tokens <= 4 && report.forward > report.pooling);
    }
    fn queued(&self, sequences: usize) {
        self.0.lock().unwrap().3 = sequences;
    }
    fn failed(&self) {
        self.0.lock().unwrap().2 += 1;
    }
}

#[tokio::test]
async fn tells_the_observer_of_batches_and_failures() {
    let recorder = Arc::new(Recorder::default());
    let fake = Fake {
        failures: unavailable(1),
        ..Fake::default()
    };
    let scheduler = Scheduler::start(options(), vec![Box::new(fake)], recorder.clone());
    let ids = sequences(&[&[1; 3], &[2; 3], &[3; 3]]);
    assert!(reply(scheduler.submit(ids, 0, None).unwrap()).await.is_ok());
    assert_eq!(*recorder.0.lock().unwrap(), (3, 1, 1, 0));
}

/// Runs a batch only while another executor runs one too.
struct Together(Arc<std::sync::Barrier>);

impl Executor for Together {
    fn execute(&mut self, batch: &PackedBatch) -> Result<BatchOutput, ExecuteError> {
        self.0.wait();
        Fake::default().execute(batch)
    }
}

#[tokio::test]
async fn several_executors_run_batches_at_the_same_time() {
    let barrier = Arc::new(std::sync::Barrier::new(2));
    let executor = || Box::new(Together(barrier.clone())) as Box<dyn Executor>;
    let executors = vec![executor(), executor()];
    let scheduler = Scheduler::start(options(), executors, Arc::new(Unobserved));
    let submit = |ids: &[u32]| scheduler.submit(sequences(&[ids]), 0, None).unwrap();
    // Each fills a batch.
    let (first, second) = (submit(&[1, 2, 3, 4]), submit(&[5, 6, 7, 8]));
    let answers = tokio::time::timeout(PATIENCE, async { (first.await, second.await) }).await;
    let (first, second) = answers.expect("both run");
    assert_eq!(first.unwrap(), [Ok(vec![1.0, 2.0, 3.0, 4.0])]);
    assert_eq!(second.unwrap(), [Ok(vec![5.0, 6.0, 7.0, 8.0])]);
    scheduler.drain().await;
}

#[tokio::test]
async fn an_executor_that_panics_ends_the_others() {
    let dying = Fake {
        panics: true,
        ..Fake::default()
    };
    let (open, gate) = mpsc::channel();
    let waiting = Fake {
        gate: Some(gate),
        ..Fake::default()
    };
    let executors: Vec<Box<dyn Executor>> = vec![Box::new(dying), Box::new(waiting)];
    let scheduler = Scheduler::start(options(), executors, Arc::new(Unobserved));
    // Two batches: whichever of them the waiting one holds, the dying one takes the other.
    let two = sequences(&[&[1, 2, 3, 4], &[5, 6, 7, 8]]);
    let ticket = scheduler.submit(two, 0, None).unwrap();
    let answer = tokio::time::timeout(PATIENCE, ticket)
        .await
        .expect("an answer");
    assert!(matches!(answer, Err(SubmitError::Stopped)));
    drop(open);
    scheduler.stopped().await;
}

#[tokio::test]
async fn a_lost_executor_ends_the_scheduler() {
    let lost = Fake {
        failures: vec![ExecuteError::Lost("the device is gone".into())],
        ..Fake::default()
    };
    let scheduler = start(lost);
    let ticket = scheduler.submit(sequences(&[&[1], &[2]]), 0, None).unwrap();
    let answer = tokio::time::timeout(PATIENCE, ticket)
        .await
        .expect("an answer");
    assert!(matches!(answer, Err(SubmitError::Stopped)));
    scheduler.stopped().await;
    let refused = scheduler.submit(sequences(&[&[3]]), 0, None);
    assert!(refused.is_err());
}
