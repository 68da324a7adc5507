//! Starting a worker process, and its end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::link::Link;
use crate::sandbox::OnFailure;

/// This very program, even where its file has been replaced or removed since it started.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// What the server is told in its environment and no worker needs to know.
const SECRETS: [&str; 2] = ["TENON_API_KEY", "HF_TOKEN"];

/// How long a process may take to end by itself, and to be gone once it was killed.
const END_LIMIT: Duration = Duration::from_secs(2);
const END_POLL: Duration = Duration::from_millis(5);

/// Starts what holds a replica. A trait, because tests start threads.
pub trait Start: Send + Sync + 'static {
    /// Starts it, with one end of a socket.
    fn start(&self) -> io::Result<Started>;
}

/// What was started.
pub struct Started {
    /// Our end of its socket.
    pub socket: UnixStream,
    /// The process, where it is one.
    pub child: Option<Child>,
}

/// `tenon worker` with these arguments.
#[derive(Debug, Clone)]
pub struct Program {
    /// What it is to be: device, cache folder, format of its log.
    pub arguments: Vec<std::ffi::OsString>,
}

impl Program {
    /// The worker of a CUDA device.
    pub fn cuda(ordinal: usize, kernels: Option<PathBuf>, log_format: &str) -> Self {
        let mut arguments = vec![
            "--ordinal".into(),
            ordinal.to_string().into(),
            "--log-format".into(),
            log_format.into(),
        ];
        if let Some(folder) = kernels {
            arguments.extend(["--kernels".into(), folder.into()]);
        }
        Self { arguments }
    }
}

impl Start for Program {
    fn start(&self) -> io::Result<Started> {
        let (socket, theirs) = UnixStream::pair()?;
        let mut command = Command::new(THIS_PROGRAM);
        for secret in SECRETS {
            command.env_remove(secret);
        }
        let child = command
            .arg0("tenon")
            .arg("worker")
            .args(&self.arguments)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            // What a terminal sends is for the server, which drains and then closes the socket.
            .process_group(0)
            .spawn()?;
        Ok(Started {
            socket,
            child: Some(child),
        })
    }
}

/// A worker process. Dropping it ends it.
pub struct Process {
    link: Arc<Link>,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Starts one.
    pub fn start(start: &dyn Start, on_failure: OnFailure) -> io::Result<Self> {
        let Started { socket, child } = start.start()?;
        match Link::new(socket, on_failure) {
            Ok(link) => Ok(Self {
                link,
                child: Mutex::new(child),
            }),
            Err(error) => {
                if let Some(mut child) = child {
                    let _ = child.kill();
                    has_ended(&mut child, END_LIMIT);
                }
                Err(error)
            }
        }
    }

    /// What is said to it, and what it says.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Its number, where it is a process and has not been ended.
    pub fn id(&self) -> Option<u32> {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.as_ref().map(Child::id)
    }

    /// Closes its socket, lets it end by itself for a moment, then kills it.
    pub fn close(&self) {
        self.end(END_LIMIT, "the server closed it");
    }

    /// Kills it.
    pub fn kill(&self) {
        self.end(Duration::ZERO, "the server killed it");
    }

    fn end(&self, patience: Duration, reason: &str) {
        self.link.cut(reason);
        let child = self.child.lock();
        let Some(mut child) = child.unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        if has_ended(&mut child, patience) {
            return;
        }
        // An error says that it has ended already.
        let _ = child.kill();
        if !has_ended(&mut child, END_LIMIT) {
            tracing::warn!(pid = child.id(), "a killed worker process does not end");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether it ends in time; it is reaped then.
fn has_ended(child: &mut Child, patience: Duration) -> bool {
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(None) if started.elapsed() < patience => thread::sleep(END_POLL),
            Ok(None) => return false,
            Ok(Some(_)) | Err(_) => return true,
        }
    }
}
