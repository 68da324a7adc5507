//! A scheduler whose executors lose their device: what callers see.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::batch::{BatchOutput, ExecuteError, PackedBatch, RowError};

const PATIENCE: Duration = Duration::from_secs(10);
/// A token that loses the device.
const POISON: u32 = 666;

/// What happens when an executor is asked whether it is ready, and then runs a batch.
enum Event {
    NotReady,
    Interrupted { started: bool },
    Lost,
}

/// Gives each sequence its own ids as the vector, when nothing else is to happen.
#[derive(Clone, Default)]
struct Fake {
    events: Arc<Mutex<VecDeque<Event>>>,
    /// How many sequences each batch had, and whether it ran alone.
    ran: Arc<Mutex<Vec<(usize, bool)>>>,
}

impl Fake {
    fn with(events: impl IntoIterator<Item = Event>) -> Self {
        let fake = Self::default();
        fake.events.lock().unwrap().extend(events);
        fake
    }

    fn run(&self, batch: &PackedBatch, alone: bool) -> Result<BatchOutput, ExecuteError> {
        self.ran.lock().unwrap().push((batch.sequences(), alone));
        let reason = "the device is lost".to_owned();
        match self.events.lock().unwrap().pop_front() {
            Some(Event::Interrupted { started }) => {
                return Err(ExecuteError::Interrupted { reason, started });
            }
            Some(Event::Lost) => return Err(ExecuteError::Lost(reason)),
            Some(Event::NotReady) | None => {}
        }
        if batch.token_ids.contains(&POISON) {
            let started = true;
            return Err(ExecuteError::Interrupted { reason, started });
        }
        let ends = batch.cu_seqlens.windows(2);
        let rows = ends.map(|w| {
            let ids = &batch.token_ids[w[0] as usize..w[1] as usize];
            Ok(ids.iter().map(|&id| id as f32).collect())
        });
        Ok(BatchOutput {
            rows: rows.collect(),
            forward: Duration::ZERO,
            pooling: Duration::ZERO,
            sandbox: Duration::ZERO,
        })
    }
}

impl Executor for Fake {
    fn execute(&mut self, batch: &PackedBatch) -> Result<BatchOutput, ExecuteError> {
        self.run(batch, false)
    }

    fn execute_alone(&mut self, batch: &PackedBatch) -> Result<BatchOutput, ExecuteError> {
        self.run(batch, true)
    }

    fn await_ready(&mut self, patience: Duration) -> Result<bool, ExecuteError> {
        let mut events = self.events.lock().unwrap();
        match events.front() {
            Some(Event::NotReady) => events.pop_front(),
            _ => return Ok(true),
        };
        drop(events);
        std::thread::sleep(patience.min(Duration::from_millis(20)));
        Ok(false)
    }
}

fn start(fakes: &[&Fake]) -> Scheduler {
    let executors = fakes
        .iter()
        .map(|&fake| Box::new(fake.clone()) as Box<dyn Executor>);
    let options = SchedulerOptions::default();
    Scheduler::start(options, executors.collect(), Arc::new(Unobserved))
}

fn sequences(ids: &[u32]) -> Vec<Sequence> {
    let sequence = |&id: &u32| Sequence {
        token_ids: vec![id],
        ..Sequence::default()
    };
    ids.iter().map(sequence).collect()
}

fn ok(ids: &[u32]) -> Result<Vec<Result<Vec<f32>, RowError>>, SubmitError> {
    Ok(ids.iter().map(|&id| Ok(vec![id as f32])).collect())
}

async fn reply(ticket: Ticket) -> Result<Vec<Result<Vec<f32>, RowError>>, SubmitError> {
    tokio::time::timeout(PATIENCE, ticket).await.expect("reply")
}

#[tokio::test]
async fn a_batch_whose_device_is_lost_runs_again_whole() {
    let fake = Fake::with([Event::Interrupted { started: true }]);
    let ticket = start(&[&fake]).submit(sequences(&[1, 2]), 0, None).unwrap();
    assert_eq!(reply(ticket).await, ok(&[1, 2]));
    assert_eq!(*fake.ran.lock().unwrap(), [(2, false), (2, false)]);
}

#[tokio::test]
async fn a_batch_that_never_began_has_lost_nothing_however_often() {
    let fake = Fake::with((0..5).map(|_| Event::Interrupted { started: false }));
    let ticket = start(&[&fake]).submit(sequences(&[1, 2]), 0, None).unwrap();
    assert_eq!(reply(ticket).await, ok(&[1, 2]));
    assert_eq!(*fake.ran.lock().unwrap(), [(2, false); 6]);
}

#[tokio::test]
async fn the_request_that_loses_the_device_each_time_fails_alone() {
    // Not ready until both requests wait, so that they share a batch.
    let fake = Fake::with((0..5).map(|_| Event::NotReady));
    let scheduler = start(&[&fake]);
    let innocent = scheduler.submit(sequences(&[1, 2]), 0, None).unwrap();
    let guilty = scheduler.submit(sequences(&[POISON]), 0, None).unwrap();
    assert_eq!(reply(innocent).await, ok(&[1, 2]));
    let Err(SubmitError::Component(reason)) = reply(guilty).await else {
        panic!("the request that loses the device is answered");
    };
    assert!(reason.contains("device is lost"), "{reason}");
    let ran = fake.ran.lock().unwrap();
    assert_eq!(*ran, [(3, false), (3, false), (2, true), (1, true)]);
}

#[tokio::test]
async fn a_batch_whose_executor_is_gone_runs_on_another() {
    let gone = Fake::with([Event::Lost]);
    let slow = Fake::with((0..5).map(|_| Event::NotReady));
    let scheduler = start(&[&gone, &slow]);
    let ticket = scheduler.submit(sequences(&[1]), 0, None).unwrap();
    assert_eq!(reply(ticket).await, ok(&[1]));
    let more = scheduler.submit(sequences(&[2]), 0, None).unwrap();
    assert_eq!(reply(more).await, ok(&[2]));
    assert_eq!(gone.ran.lock().unwrap().len(), 1);
    scheduler.drain().await;
}

#[tokio::test]
async fn deadlines_hold_while_no_executor_is_ready() {
    let fake = Fake::with((0..200).map(|_| Event::NotReady));
    let scheduler = start(&[&fake]);
    let deadline = Instant::now() + Duration::from_millis(50);
    let late = scheduler
        .submit(sequences(&[1]), 0, Some(deadline))
        .unwrap();
    assert_eq!(reply(late).await, Err(SubmitError::DeadlineExceeded));
    assert!(fake.ran.lock().unwrap().is_empty());
    assert_eq!(scheduler.queued(), 0);
}

#[tokio::test]
async fn drains_while_no_executor_is_ready_and_nothing_waits() {
    let fake = Fake::with((0..10_000).map(|_| Event::NotReady));
    let scheduler = start(&[&fake]);
    let drained = tokio::time::timeout(PATIENCE, scheduler.drain()).await;
    assert!(drained.is_ok());
}
