//! Accepts connections until told to drain, then sees them out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::body::ByteBudget;
use super::connection::{self, Stop};
use super::handle::Context;
use super::lifecycle::Lifecycle;
use super::options::HttpOptions;
use super::request_id::RequestIds;
use crate::observability::Metrics;
use crate::tenants::Keys;

/// How long accepting pauses after it failed, as it does when the process has no file
/// descriptor left: until a connection closes there is nothing else to do.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long connections that are told to close at once may take to do so.
const ABORT_TIMEOUT: Duration = Duration::from_secs(1);

/// A bound listener and everything that its requests share.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    context: Arc<Context>,
    /// One permit a connection.
    connections: Arc<Semaphore>,
    max_connections: u32,
    stop: watch::Sender<Stop>,
}

impl Server {
    /// Binds the address. Nothing is accepted before [`run`](Self::run).
    pub async fn bind(
        address: impl ToSocketAddrs,
        options: HttpOptions,
        keys: Keys,
        lifecycle: Lifecycle,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize);
        let max_connections = options.max_connections.clamp(1, most);
        let work = Semaphore::new(options.max_concurrent_requests.min(most));
        let buffered = ByteBudget::new(options.max_buffered_bytes);
        let context = Context {
            options,
            keys,
            lifecycle,
            metrics,
            ids: RequestIds::default(),
            work,
            buffered,
        };
        Ok(Self {
            listener,
            address,
            context: Arc::new(context),
            connections: Arc::new(Semaphore::new(max_connections)),
            max_connections: max_connections as u32,
            stop: watch::Sender::new(Stop::No),
        })
    }

    /// The address bound, with the port that the system chose if none was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until [`Lifecycle::drain`], and then until every request in progress is
    /// answered or `drain_timeout` is over.
    pub async fn run(self) {
        let drained = async {
            self.context.lifecycle.draining().await;
            sleep(self.context.options.drain_delay).await;
        };
        tokio::select! {
            () = drained => {}
            () = self.accept_all() => {}
        }
        self.see_out().await;
    }

    async fn accept_all(&self) {
        loop {
            let Ok(permit) = self.connections.clone().acquire_owned().await else {
                return; // never: the semaphore is not closed
            };
            match self.listener.accept().await {
                Ok((stream, _)) => self.spawn(stream, permit),
                // The client was gone before it was served.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn spawn(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let context = self.context.clone();
        let stop = self.stop.subscribe();
        tokio::spawn(async move {
            let open = OpenConnection::new(context.metrics.clone(), permit);
            connection::serve(context, stream, stop).await;
            drop(open);
        });
    }

    async fn see_out(self) {
        drop(self.listener);
        self.stop.send_replace(Stop::Gracefully);
        let all_closed = || self.connections.acquire_many(self.max_connections);
        let drain_timeout = self.context.options.drain_timeout;
        if timeout(drain_timeout, all_closed()).await.is_ok() {
            return;
        }
        let left = self.context.metrics.connections().get();
        let limit_s = drain_timeout.as_secs_f64();
        tracing::warn!(
            left,
            limit_s,
            "connections were cut off: draining took too long"
        );
        self.stop.send_replace(Stop::Now);
        let _ = timeout(ABORT_TIMEOUT, all_closed()).await;
    }
}

/// Counts a connection for as long as it is open.
struct OpenConnection {
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl OpenConnection {
    fn new(metrics: Arc<Metrics>, permit: OwnedSemaphorePermit) -> Self {
        metrics.connections().inc();
        Self {
            metrics,
            _permit: permit,
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.metrics.connections().dec();
    }
}
