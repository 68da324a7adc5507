//! The real binary, started on a free port and stopped with the test.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{Connection, Response};

/// The hub id of the default model.
pub const DEFAULT_MODEL: &str = "sentence-transformers/all-MiniLM-L6-v2";
/// The name under which [`Server::minilm`] serves it.
pub const MINILM: &str = "all-MiniLM-L6-v2";
/// How long a start may take: components are compiled then.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    watchdog: Child,
    /// Where it listens.
    pub address: SocketAddr,
    log: PathBuf,
    _directory: TempDir,
}

/// A server that ended before it was ready.
#[derive(Debug)]
pub struct Refusal {
    /// How it ended; none: it was still starting when the time was up.
    pub status: Option<ExitStatus>,
    /// All that it wrote.
    pub log: String,
}

impl Server {
    /// Starts `tenon serve` with further arguments; the test fails if it does not get ready.
    #[track_caller]
    pub fn start(arguments: &[&str]) -> Self {
        match Self::try_start(arguments) {
            Ok(server) => server,
            Err(Refusal { status, log }) => panic!("server did not start ({status:?}):\n{log}"),
        }
    }

    /// Starts the default model.
    #[track_caller]
    pub fn minilm(arguments: &[&str]) -> Self {
        let model = default_model().to_str().expect("UTF-8 path");
        let model = ["--model", model, "--served-model-name", MINILM];
        Self::start(&[&model, arguments].concat())
    }

    /// One server of the default model for all the tests of a file. It is ended by a watchdog
    /// when the test process is gone.
    pub fn shared_minilm() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Self::minilm(&[]))
    }

    /// Starts `tenon serve` with further arguments, or says why it ended.
    pub fn try_start(arguments: &[&str]) -> Result<Self, Refusal> {
        Self::try_start_in(&[], arguments)
    }

    /// As [`Server::try_start`], with these variables in its environment.
    pub fn try_start_in(
        environment: &[(&str, &OsStr)],
        arguments: &[&str],
    ) -> Result<Self, Refusal> {
        let directory = tempfile::tempdir().expect("temporary directory");
        let log = directory.path().join("log.txt");
        let output = File::create(&log).expect("log file");
        let port = free_port();
        let mut command = tenon();
        command
            .args(["serve", "--host", "127.0.0.1", "--port", &port.to_string()])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("second handle of the log"))
            .stderr(output);
        let child = command.spawn().expect("start tenon");
        let watchdog = watch(child.id());
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut server = Self {
            child,
            watchdog,
            address,
            log,
            _directory: directory,
        };
        let started = Instant::now();
        while started.elapsed() < START_TIMEOUT {
            if let Some(status) = server.child.try_wait().expect("wait for tenon") {
                let status = Some(status);
                let log = server.log();
                return Err(Refusal { status, log });
            }
            if server.is_ready() {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = server.log();
        Err(Refusal { status: None, log })
    }

    /// Whether `/ready` answers 200.
    pub fn is_ready(&self) -> bool {
        let answer =
            Connection::open(self.address).and_then(|mut c| c.send("GET", "/ready", &[], b""));
        answer.is_ok_and(|answer| answer.status == 200)
    }

    /// A new connection.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::open(self.address).expect("connect")
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let answer = self.connect().send(method, path, headers, body);
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()))
    }

    /// GET.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], b"")
    }

    /// POST of JSON text.
    #[track_caller]
    pub fn post(&self, path: &str, body: &str) -> Response {
        let headers = [("content-type", "application/json")];
        self.send("POST", path, &headers, body.as_bytes())
    }

    /// POST of a JSON value to `/v1/embeddings`.
    #[track_caller]
    pub fn embeddings(&self, body: &Value) -> Response {
        self.post("/v1/embeddings", &body.to_string())
    }

    /// The vectors of `input`, sent as the SDKs send it; the test fails unless the answer is 200.
    #[track_caller]
    pub fn embed(&self, model: &str, input: impl Into<Value>) -> Vec<Vec<f32>> {
        let input: Value = input.into();
        let answer = self.embeddings(&json!({
            "model": model, "input": input, "encoding_format": "base64",
        }));
        assert_eq!(answer.status, 200, "{}", answer.text());
        vectors(&answer.json())
    }

    /// All that the server wrote so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Fails the test if the server logged an error or a panic.
    #[track_caller]
    pub fn assert_log_is_clean(&self) {
        let log = self.log();
        let bad = |line: &&str| line.contains("ERROR") || line.contains("panicked");
        let found: Vec<&str> = log.lines().filter(bad).collect();
        assert!(found.is_empty(), "logged: {found:#?}");
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop (SIGTERM).
    pub fn terminate(&self) {
        let kill = Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", self.id())])
            .status();
        assert!(kill.expect("sh").success(), "kill -TERM");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let started = Instant::now();
        while started.elapsed() < timeout {
            if let Some(status) = self.child.try_wait().expect("wait for tenon") {
                return status;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("still running after {timeout:?}:\n{}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either may have ended by itself: nothing else is left to do then.
        for child in [&mut self.watchdog, &mut self.child] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The vectors of an answer of `/v1/embeddings`, in either encoding, ordered by index.
#[track_caller]
pub fn vectors(answer: &Value) -> Vec<Vec<f32>> {
    let data = answer["data"].as_array().expect("data");
    let vector = |(position, item): (usize, &Value)| {
        assert_eq!(
            item["index"], position,
            "items are in the order of the inputs"
        );
        vector(&item["embedding"])
    };
    data.iter().enumerate().map(vector).collect()
}

/// One vector: an array of numbers, or base64 of little-endian f32.
#[track_caller]
pub fn vector(value: &Value) -> Vec<f32> {
    if let Some(text) = value.as_str() {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text)
            .expect("base64");
        assert_eq!(bytes.len() % 4, 0, "base64 of f32 values");
        let floats = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        return floats.collect();
    }
    let numbers = value.as_array().expect("a list of numbers or base64");
    numbers
        .iter()
        .map(|n| n.as_f64().expect("number") as f32)
        .collect()
}

/// `tenon`, with no settings of the caller's environment, on the processor unless an argument
/// says otherwise.
pub fn tenon() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TENON_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").env("NO_COLOR", "1");
    command.env("TENON_DEVICE", "cpu");
    command
}

/// The directory of the default model, fetched by `tenon pull` where it is not cached.
pub fn default_model() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let output = tenon()
            .args(["pull", DEFAULT_MODEL])
            .output()
            .expect("run tenon pull");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "tenon pull {DEFAULT_MODEL}:\n{error}"
        );
        let stdout = String::from_utf8_lossy(&output.stdout);
        let path = stdout.lines().rfind(|line| !line.trim().is_empty());
        let path = PathBuf::from(path.expect("tenon pull prints the directory").trim());
        assert!(
            path.is_dir(),
            "tenon pull printed {path:?}, which is no directory"
        );
        path
    })
}

/// The binary under test: `$TENON_BIN`, or the one that cargo built beside this test.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("TENON_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("path of this test");
    let candidates = test.ancestors().map(|folder| folder.join("tenon"));
    let found = candidates.into_iter().find(|path| path.is_file());
    found.expect("no `tenon` beside this test: run `cargo build --release -p tenon` first")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Kills `server` once this process is gone, however it ended: servers shared by the tests of a
/// file are never dropped.
fn watch(server: u32) -> Child {
    let script = "while kill -0 $1; do sleep 1; done; kill -9 $2";
    let test = std::process::id().to_string();
    let spawned = Command::new("sh")
        .args(["-c", script, "watch", &test, &server.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    spawned.expect("sh")
}
