//! One connection: HTTP/1 or HTTP/2, its timeouts, and its end.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, server::conn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::handle::{Context, handle};
use super::write_timeout::WriteTimeout;

/// What connections are told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    /// Go on.
    No,
    /// Finish the requests in progress and close.
    Gracefully,
    /// Close.
    Now,
}

/// HTTP/2 receive window of a stream, and of a connection: a body of that size comes
/// without waiting for the server's leave.
const HTTP2_STREAM_WINDOW: u32 = 1 << 20;
const HTTP2_CONNECTION_WINDOW: u32 = 4 << 20;

/// Serves a connection until it ends or is told to stop.
pub(super) async fn serve(context: Arc<Context>, stream: TcpStream, stop: watch::Receiver<Stop>) {
    let mut told = stop.clone();
    let first_bytes = timeout(context.options.header_read_timeout, is_http2(&stream));
    let is_http2 = tokio::select! {
        sniffed = first_bytes => match sniffed {
            Ok(Ok(is_http2)) => is_http2,
            _ => return, // too slow, or gone
        },
        _ = told.wait_for(|stop| *stop != Stop::No) => return,
    };
    // Answers are written whole; waiting for more to send would only delay them.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let stream = WriteTimeout::new(stream, context.options.write_timeout);
    let io = TokioIo::new(stream);
    let ended = match is_http2 {
        true => serve_http2(context, io, stop).await,
        false => serve_http1(context, io, stop).await,
    };
    // A client that leaves or talks nonsense is no concern of the operator.
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Whether the connection begins as HTTP/2 does. Four bytes tell: no HTTP/1 method starts
/// like its preface.
async fn is_http2(stream: &TcpStream) -> io::Result<bool> {
    const PREFACE: &[u8] = b"PRI ";
    /// How often to look again while the bytes so far could be either.
    const LOOK_AGAIN: Duration = Duration::from_millis(10);
    let mut first = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut first).await?;
        let Some(first) = first.get(..length).filter(|first| !first.is_empty()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        if first == PREFACE || !PREFACE.starts_with(first) {
            return Ok(first == PREFACE);
        }
        sleep(LOOK_AGAIN).await;
    }
}

async fn serve_http1(
    context: Arc<Context>,
    io: TokioIo<WriteTimeout<TcpStream>>,
    stop: watch::Receiver<Stop>,
) -> hyper::Result<()> {
    let options = &context.options;
    let mut builder = conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_read_timeout)
        .max_header_size(options.max_header_bytes);
    // Hyper keeps as many as its default without allocating, so do not name that one.
    if options.max_headers != 100 {
        builder.max_headers(options.max_headers);
    }
    let service = service_fn(move |request| handle(context.clone(), request));
    let connection = builder.serve_connection(io, service);
    let shut_down = conn::http1::Connection::graceful_shutdown;
    // Hyper closes an idle HTTP/1 connection itself, by the header timeout.
    let idle = std::future::pending();
    until_stopped(connection, shut_down, idle, Duration::MAX, stop).await
}

async fn serve_http2(
    context: Arc<Context>,
    io: TokioIo<WriteTimeout<TcpStream>>,
    stop: watch::Receiver<Stop>,
) -> hyper::Result<()> {
    let options = &context.options;
    let mut builder = conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.max_streams_per_connection)
        .max_header_list_size(u32::try_from(options.max_header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW);
    let (idle_timeout, write_timeout) = (options.header_read_timeout, options.write_timeout);
    let activity = Arc::new(Activity::default());
    let service = service_fn({
        let activity = activity.clone();
        move |request: Request<Incoming>| {
            let busy = activity.begin();
            let answer = handle(context.clone(), request);
            async move {
                let reply = answer.await;
                drop(busy);
                reply
            }
        }
    });
    let connection = builder.serve_connection(io, service);
    let shut_down = conn::http2::Connection::graceful_shutdown;
    let idle = activity.idle(idle_timeout);
    until_stopped(connection, shut_down, idle, write_timeout, stop).await
}

/// Polls a connection to its end, starting `shut_down` when it is idle or told to stop.
/// An idle one is dropped after `linger`: its client leaves an HTTP/2 stream unread, of
/// which [`WriteTimeout`] sees nothing, and would hold the answer in memory for ever.
async fn until_stopped<C>(
    connection: C,
    shut_down: fn(Pin<&mut C>),
    idle: impl Future<Output = ()>,
    linger: Duration,
    mut stop: watch::Receiver<Stop>,
) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let was_idle = tokio::select! {
        ended = connection.as_mut() => return ended,
        () = idle => true,
        // An error says that the server is gone, which is a stop as well.
        _ = stop.wait_for(|stop| *stop != Stop::No) => false,
    };
    shut_down(connection.as_mut());
    tokio::select! {
        ended = connection => ended,
        _ = stop.wait_for(|stop| *stop == Stop::Now) => Ok(()),
        () = sleep(linger), if was_idle => Ok(()),
    }
}

/// Which requests a connection has begun, and not yet answered.
#[derive(Debug, Default)]
struct Activity {
    begun: AtomicU64,
    in_progress: AtomicU64,
}

/// A request in progress.
struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Activity {
    fn begin(self: &Arc<Self>) -> Busy {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.in_progress.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Returns when there was nothing to do for at least `time`.
    async fn idle(&self, time: Duration) {
        let mut begun_before = None;
        loop {
            sleep(time).await;
            let begun = self.begun.load(Ordering::Relaxed);
            let is_busy = self.in_progress.load(Ordering::Relaxed) > 0;
            if !is_busy && begun_before == Some(begun) {
                return;
            }
            begun_before = (!is_busy).then_some(begun);
        }
    }
}
