//! The server's end of the socket to one worker process.

use std::collections::HashMap;
use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::message::{DeviceFacts, Lane, Order, Report};
use super::plan::{BackFacts, BackPlan};
use super::wire::{MAX_FRAME_BYTES, read_frame, write_frame};
use crate::batch::{BatchOutput, ExecuteError, PackedBatch};
use crate::sandbox::OnFailure;

/// A worker process reads all the time; one that takes nothing for so long hangs.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// What became of a batch.
type Outcome = Result<BatchOutput, ExecuteError>;

/// The link is broken, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

/// A connection that carries orders and reports until it breaks, once and for all.
pub struct Link {
    writer: Mutex<UnixStream>,
    /// To shut the connection down while another thread writes.
    socket: UnixStream,
    state: Mutex<State>,
    /// Signalled when the link breaks.
    broken: Condvar,
    /// Answers to loads, and the first report.
    answers: Mutex<mpsc::Receiver<Report>>,
}

struct State {
    broken: Option<Broken>,
    /// Who waits for a batch.
    waiting: HashMap<Lane, mpsc::SyncSender<Outcome>>,
}

impl Link {
    /// Begins to read reports.
    pub fn new(socket: UnixStream, on_failure: OnFailure) -> io::Result<Arc<Self>> {
        socket.set_write_timeout(Some(WRITE_LIMIT))?;
        let reader = BufReader::new(socket.try_clone()?);
        let (answer, answers) = mpsc::channel();
        let link = Arc::new(Self {
            writer: Mutex::new(socket.try_clone()?),
            socket,
            state: Mutex::new(State {
                broken: None,
                waiting: HashMap::new(),
            }),
            broken: Condvar::new(),
            answers: Mutex::new(answers),
        });
        let thread = thread::Builder::new().name("tenon-reports".into());
        let reading = link.clone();
        thread.spawn(move || reading.read(reader, &answer, &on_failure))?;
        Ok(link)
    }

    fn read(
        &self,
        mut reader: BufReader<UnixStream>,
        answer: &mpsc::Sender<Report>,
        on_failure: &OnFailure,
    ) {
        let reason = loop {
            let frame = match read_frame(&mut reader) {
                Ok(Some(frame)) => frame,
                Ok(None) => break "the worker process ended".to_owned(),
                Err(error) => break format!("reading from the worker process: {error}"),
            };
            match Report::decode(&frame) {
                Ok(Report::Failed(failure)) => on_failure(&failure),
                Ok(Report::Ran(_, Err(ExecuteError::Lost(reason)))) => break reason,
                Ok(Report::Ran(lane, outcome)) => {
                    let waiting = self.lock().waiting.remove(&lane);
                    let Some(waiting) = waiting else {
                        break format!("the worker process answers what nobody asked: {lane:?}");
                    };
                    // Who asked may have given up meanwhile.
                    let _ = waiting.send(outcome);
                }
                Ok(report) => {
                    let _ = answer.send(report);
                }
                Err(error) => break format!("reading from the worker process: {error}"),
            }
        };
        self.cut(&reason);
    }

    /// Breaks the link, if it is not broken; everybody who waits is told `reason`.
    pub fn cut(&self, reason: &str) {
        let mut state = self.lock();
        if state.broken.is_none() {
            state.broken = Some(Broken(reason.to_owned()));
        }
        state.waiting.clear();
        drop(state);
        // It may be shut down already.
        let _ = self.socket.shutdown(Shutdown::Both);
        self.broken.notify_all();
    }

    /// Waits until the link is broken.
    pub fn wait(&self) -> Broken {
        let mut state = self.lock();
        loop {
            if let Some(broken) = &state.broken {
                return broken.clone();
            }
            let waited = self.broken.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The first report: whether the device is open.
    pub fn opened(&self, limit: Duration) -> Result<Result<DeviceFacts, String>, Broken> {
        match self.answer("opening the device", limit)? {
            Report::Opened(result) => Ok(result),
            _ => Err(self.cut_with("the worker process answers out of turn")),
        }
    }

    /// Has a deployment loaded, or says why it cannot be.
    pub fn load(
        &self,
        deployment: u32,
        plan: &BackPlan,
        limit: Duration,
    ) -> Result<Result<BackFacts, String>, Broken> {
        self.send(&Order::load(deployment, plan))?;
        match self.answer("loading", limit)? {
            Report::Loaded(number, result) if number == deployment => Ok(result),
            _ => Err(self.cut_with("the worker process answers out of turn")),
        }
    }

    /// Runs a batch; of each lane one at a time. The link breaks while it runs, or it never began.
    pub fn run(&self, lane: Lane, batch: &PackedBatch, limit: Duration) -> Result<Outcome, Broken> {
        let order = Order::execute(lane, batch);
        if order.len() > MAX_FRAME_BYTES {
            let bytes = order.len();
            return Ok(Err(ExecuteError::Component(format!(
                "a batch of {bytes} bytes cannot be sent to its device, the limit is \
                 {MAX_FRAME_BYTES}"
            ))));
        }
        let (outcome, arrives) = mpsc::sync_channel(1);
        let mut state = self.lock();
        if let Some(Broken(reason)) = &state.broken {
            return Ok(Err(never_began(reason)));
        }
        state.waiting.insert(lane, outcome);
        drop(state);
        // What was sent in part is never run.
        if let Err(Broken(reason)) = self.send(&order) {
            return Ok(Err(never_began(&reason)));
        }
        match arrives.recv_timeout(limit) {
            Ok(outcome) => Ok(outcome),
            Err(RecvTimeoutError::Timeout) => {
                let limit_s = limit.as_secs();
                Err(self.cut_with(&format!("a batch did not end within {limit_s} s")))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.wait()),
        }
    }

    fn answer(&self, what: &str, limit: Duration) -> Result<Report, Broken> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        match answers.recv_timeout(limit) {
            Ok(report) => Ok(report),
            Err(RecvTimeoutError::Timeout) => {
                let limit_s = limit.as_secs();
                Err(self.cut_with(&format!("{what} did not end within {limit_s} s")))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.wait()),
        }
    }

    fn send(&self, order: &[u8]) -> Result<(), Broken> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        write_frame(&mut *writer, order).map_err(|error| {
            // Whatever was written of it, nothing can follow.
            self.cut_with(&format!("writing to the worker process: {error}"))
        })
    }

    fn cut_with(&self, reason: &str) -> Broken {
        self.cut(reason);
        self.wait()
    }

    /// A panic elsewhere leaves the state usable: no code here panics halfway.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn never_began(reason: &str) -> ExecuteError {
    ExecuteError::Interrupted {
        reason: reason.to_owned(),
        started: false,
    }
}
