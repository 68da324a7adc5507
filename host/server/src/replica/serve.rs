//! The worker process's end of its socket: loads what it is told to, runs batches, and ends
//! when the socket does.

use std::collections::HashMap;
use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use super::message::{DeviceFacts, Lane, Order, Report};
use super::plan::{BackFacts, BackPlan};
use super::wire::{MAX_FRAME_BYTES, read_frame, write_frame};
use crate::batch::{ExecuteError, Executor, PackedBatch};

/// What a worker process is made of; `app` knows it.
pub trait Host: Send + 'static {
    /// Opens the device: the first thing that happens.
    fn open(&mut self) -> Result<DeviceFacts, String>;
    /// Loads the back half of a deployment, and runs a first batch of it.
    fn load(&mut self, plan: &BackPlan) -> Result<Loaded, String>;
}

/// A back half that is loaded.
pub struct Loaded {
    /// What it said of itself.
    pub facts: BackFacts,
    /// As many as the device works on at a time.
    pub executors: Vec<Box<dyn Executor>>,
}

/// Sends reports; clones share the socket.
#[derive(Clone)]
pub struct Reporter {
    socket: Arc<Mutex<UnixStream>>,
}

impl Reporter {
    /// Sends one. Where that fails there is nobody left to tell: [`serve`] ends.
    pub fn send(&self, report: &Report) {
        let mut frame = report.encode();
        if let Report::Ran(lane, _) = report
            && frame.len() > MAX_FRAME_BYTES
        {
            let bytes = frame.len();
            let what = format!(
                "vectors of {bytes} bytes cannot be sent from their device, the limit is \
                 {MAX_FRAME_BYTES}"
            );
            frame = Report::Ran(*lane, Err(ExecuteError::Component(what))).encode();
        }
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if write_frame(&mut *socket, &frame).is_err() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn close(&self) {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = socket.shutdown(Shutdown::Both);
    }
}

/// Where the batches of each lane go.
type Lanes = Arc<Mutex<HashMap<Lane, mpsc::Sender<PackedBatch>>>>;

/// Serves until the other end closes the socket. Threads that still compute are left behind:
/// the process is to end.
pub fn serve<H: Host>(
    socket: UnixStream,
    host: impl FnOnce(Reporter) -> H + Send + 'static,
) -> io::Result<()> {
    let reporter = Reporter {
        socket: Arc::new(Mutex::new(socket.try_clone()?)),
    };
    let lanes = Lanes::default();
    let (order, orders) = mpsc::channel();
    let loading = Loading {
        reporter: reporter.clone(),
        lanes: lanes.clone(),
    };
    // Orders are read while something loads, so that the end of the socket is noticed.
    let thread = thread::Builder::new().name("tenon-load".into());
    thread.spawn(move || loading.run(host, orders))?;
    let mut reader = BufReader::new(socket);
    while let Some(frame) = read_frame(&mut reader)? {
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let gone = || wrong("a thread of the worker process is gone".into());
        match Order::decode(&frame).map_err(|error| wrong(error.to_string()))? {
            Order::Load(deployment, plan) => {
                order.send((deployment, plan)).map_err(|_| gone())?;
            }
            Order::Execute(lane, batch) => {
                let lanes = lanes.lock().unwrap_or_else(PoisonError::into_inner);
                let to = lanes.get(&lane);
                let to = to.ok_or_else(|| wrong(format!("there is no executor {lane:?}")))?;
                to.send(batch).map_err(|_| gone())?;
            }
        }
    }
    Ok(())
}

struct Loading {
    reporter: Reporter,
    lanes: Lanes,
}

impl Loading {
    fn run<H: Host>(
        self,
        host: impl FnOnce(Reporter) -> H,
        orders: mpsc::Receiver<(u32, Box<BackPlan>)>,
    ) {
        let _closes = ClosesOnPanic(self.reporter.clone());
        let mut host = host(self.reporter.clone());
        self.reporter.send(&Report::Opened(host.open()));
        for (deployment, plan) in orders {
            let facts = host.load(&plan).and_then(|loaded| {
                self.start(deployment, loaded.executors)
                    .map_err(|error| format!("starting a thread: {error}"))?;
                Ok(loaded.facts)
            });
            self.reporter.send(&Report::Loaded(deployment, facts));
        }
    }

    fn start(&self, deployment: u32, executors: Vec<Box<dyn Executor>>) -> io::Result<()> {
        for (slot, mut executor) in (0..).zip(executors) {
            let lane = Lane { deployment, slot };
            let (to, batches) = mpsc::channel::<PackedBatch>();
            let reporter = self.reporter.clone();
            let thread = thread::Builder::new().name("tenon-executor".into());
            thread.spawn(move || {
                let _closes = ClosesOnPanic(reporter.clone());
                for batch in batches {
                    let outcome = executor.execute(&batch);
                    reporter.send(&Report::Ran(lane, outcome));
                }
            })?;
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            lanes.insert(lane, to);
        }
        Ok(())
    }
}

/// A thread that dies answers nothing more: better to be replaced than to be waited for.
struct ClosesOnPanic(Reporter);

impl Drop for ClosesOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.close();
        }
    }
}
