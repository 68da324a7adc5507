//! The server over real sockets, with a fake service behind it.

mod limits;
mod routes;
mod shutdown;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::service::{Answer, BoxFuture, Call, EmbedService, ModelCard};
use super::{HttpOptions, Lifecycle, Server, StopSignals};
use crate::error::ApiError;
use crate::observability::Metrics;
use crate::tenants::Keys;

const PATIENCE: Duration = Duration::from_secs(10);

/// Does what the body of the call says.
#[derive(Default)]
struct Fake {
    /// Calls that have begun, and calls that were dropped before their answer.
    begun: AtomicUsize,
    cancelled: AtomicUsize,
}

/// Counts a call as cancelled unless it is told otherwise.
struct Unanswered<'a>(&'a Fake);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.cancelled.fetch_add(1, Ordering::SeqCst);
    }
}

impl EmbedService for Fake {
    fn embed(&self, call: Call) -> BoxFuture<'_, Result<Answer, ApiError>> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let unanswered = Unanswered(self);
            let mut answer = Answer {
                status: 200,
                content_type: "application/json".into(),
                chunks: vec![call.body.clone()],
                retry_after_s: None,
                request_id: call.request_id,
            };
            match &*call.body {
                b"hang" => std::future::pending().await,
                b"slow" => tokio::time::sleep(Duration::from_millis(200)).await,
                b"panic" => panic!("the fake service panics"),
                b"chunks" => {
                    answer.chunks = ["{\"a\":", "", "1", "}"].map(Bytes::from_static_str).into();
                }
                b"big" => answer.chunks = vec![Bytes::from(vec![b'x'; 1 << 20]); 32],
                b"endpoint" => answer.chunks = vec![call.endpoint.into()],
                b"own id" => answer.request_id = "from-the-body".into(),
                b"bad id" => answer.request_id = "two\nlines".into(),
                b"bad type" => answer.content_type = "a\r\nb".into(),
                b"bad status" => answer.status = 101,
                b"dialect error" => {
                    answer.status = 429;
                    answer.retry_after_s = Some(7);
                }
                b"error" => {
                    std::mem::forget(unanswered);
                    return Err(ApiError::invalid("The input is empty.", Some("input")));
                }
                _ => {}
            }
            std::mem::forget(unanswered);
            Ok(answer)
        })
    }

    fn models(&self) -> Vec<ModelCard> {
        vec![ModelCard {
            name: "mini".into(),
            aliases: vec!["sentence-transformers/all-MiniLM-L6-v2".into()],
            created_s: 1_700_000_000,
            max_tokens: 256,
            dimensions: 384,
            source: "./model".into(),
            dtype: "f32".into(),
            matryoshka: false,
        }]
    }
}

/// `Bytes::from_static` of a text, as a function that `map` takes.
trait FromStaticStr {
    fn from_static_str(text: &'static str) -> Self;
}

impl FromStaticStr for Bytes {
    fn from_static_str(text: &'static str) -> Self {
        Self::from_static(text.as_bytes())
    }
}

/// A running server.
struct Running {
    address: SocketAddr,
    service: Arc<Fake>,
    lifecycle: Lifecycle,
    metrics: Arc<Metrics>,
    server: JoinHandle<()>,
}

/// A server that is ready.
async fn start(options: HttpOptions) -> Running {
    let running = start_with(options, Keys::default()).await;
    running.lifecycle.ready(running.service.clone());
    running
}

/// A server that is still starting.
async fn start_with(options: HttpOptions, keys: Keys) -> Running {
    let lifecycle = Lifecycle::new();
    let metrics = Arc::new(Metrics::new());
    let any = ("127.0.0.1", 0);
    let server = Server::bind(any, options, keys, lifecycle.clone(), metrics.clone());
    let server = server.await.unwrap();
    Running {
        address: server.address(),
        service: Arc::new(Fake::default()),
        lifecycle,
        metrics,
        server: tokio::spawn(server.run()),
    }
}

impl Running {
    async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// One request on its own connection.
    async fn send(&self, request: &str) -> Reply {
        let mut client = self.connect().await;
        client.write(request.as_bytes()).await;
        client.read().await
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"))
            .await
    }

    async fn post(&self, body: &str) -> Reply {
        self.send(&post(body)).await
    }
}

/// An embedding call.
fn post(body: &str) -> String {
    post_with("content-type: application/json\r\n", body)
}

fn post_with(headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
}

/// Waits until `condition` holds.
async fn until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A bare connection.
struct Client(TcpStream);

impl Client {
    async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads one response, with as much body as `content-length` says.
    async fn read(&mut self) -> Reply {
        tokio::time::timeout(PATIENCE, self.read_reply())
            .await
            .expect("a response in time")
    }

    async fn read_reply(&mut self) -> Reply {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.expect("a whole response head"));
        }
        let head = String::from_utf8(head).unwrap();
        let mut reply = Reply {
            status: head[9..12].parse().unwrap(),
            head: head.to_lowercase(),
            body: Vec::new(),
        };
        let length = reply.header("content-length").unwrap_or("0").parse();
        reply.body = vec![0; length.unwrap()];
        self.0.read_exact(&mut reply.body).await.unwrap();
        reply
    }

    /// Whether the server closes the connection without another byte.
    async fn is_closed(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.0.read_u8()).await;
        read.expect("an end in time").is_err()
    }
}

struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("json")
    }

    /// Asserts an error of OpenAI's shape, and gives its message.
    fn error(&self, status: u16, code: Option<&str>) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert!(self.header("x-request-id").is_some());
        let error = &self.json()["error"];
        assert_eq!(error["code"].as_str(), code);
        assert!(error["type"].is_string());
        assert!(error.as_object().unwrap().contains_key("param"));
        error["message"].as_str().unwrap().to_owned()
    }
}
