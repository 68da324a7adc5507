//! What an operator can set about HTTP.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Limits of the HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOptions {
    /// Largest request body; more is a 413. The largest request that the OpenAI API
    /// allows, 2048 inputs of 8192 tokens, is larger still, but its 300,000 tokens a
    /// request are below 2 MiB: 32 MiB leaves room for images.
    pub max_body_bytes: usize,
    /// Request bodies and answers held in memory at once, over all requests; a body that
    /// would go over is a 503. Without it `max_concurrent_requests` bodies of full size
    /// could be.
    pub max_buffered_bytes: usize,
    /// How much of a refused request's body is read and thrown away, so that the client
    /// gets to see the answer; closing with bytes unread resets the connection.
    pub max_discarded_bytes: usize,
    /// Largest request head, request line included; more is a 431.
    pub max_header_bytes: usize,
    /// Most headers in a request; more is a 431.
    pub max_headers: usize,
    /// How long a request's head may take, and how long a connection may idle between
    /// requests. Above the 60 s after which common load balancers close an idle
    /// connection, so that it is not us who close one that they are about to use.
    pub header_read_timeout: Duration,
    /// How long a request's body may take; more is a 408.
    pub body_read_timeout: Duration,
    /// How long an embedding call may take once its body is there; more is a 504, and
    /// its work is cancelled.
    pub request_timeout: Duration,
    /// How long a client may accept no byte of an answer before its connection is dropped.
    /// An HTTP/2 client that has asked for nothing more since the connection counted as
    /// idle has this long to read what it was sent.
    pub write_timeout: Duration,
    /// Connections open at once. Further ones wait in the kernel's backlog until one
    /// closes: a balancer's probe that comes a little late is better than one refused,
    /// and idle connections do close.
    pub max_connections: usize,
    /// Streams of one HTTP/2 connection. A request holds memory and one connection should
    /// not claim `max_concurrent_requests` for itself.
    pub max_streams_per_connection: u32,
    /// Embedding calls in progress; more is a 429. Everything else the server answers from
    /// memory, so probes and metrics never queue behind work.
    pub max_concurrent_requests: usize,
    /// How long connections are still accepted once draining began, `/ready` answering
    /// 503, for balancers that need to see that first.
    pub drain_delay: Duration,
    /// How long requests in progress may take to finish after that.
    pub drain_timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            max_body_bytes: 32 * MIB,
            max_buffered_bytes: 512 * MIB,
            max_discarded_bytes: 64 * MIB,
            max_header_bytes: 32 * KIB,
            max_headers: 100,
            header_read_timeout: Duration::from_secs(75),
            body_read_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(300),
            write_timeout: Duration::from_secs(60),
            max_connections: 4096,
            max_streams_per_connection: 128,
            max_concurrent_requests: 512,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
        }
    }
}
