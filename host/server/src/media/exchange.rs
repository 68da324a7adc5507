//! One request and its answer, over a connection to an address that was checked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::FetchError;
use super::target::Target;

/// How long one address may take to accept a connection, so that others get their turn.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Most bytes of an answer's head, and of its body that are held before they are counted.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// What a server answered.
pub enum Answer {
    /// The file.
    File(Bytes),
    /// Where else to look.
    Elsewhere(String),
}

/// Asks for the target at the first of the addresses that accepts a connection.
pub async fn get(
    target: &Target,
    addresses: &[SocketAddr],
    tls: &Arc<rustls::ClientConfig>,
    max_bytes: usize,
) -> Result<Answer, FetchError> {
    let stream = connect(addresses)
        .await
        .map_err(|error| target.unreachable(error))?;
    if !target.is_https() {
        return exchange(target, stream, max_bytes).await;
    }
    let Some(name) = target.server_name() else {
        return Err(FetchError::Url("its host cannot have a certificate".into()));
    };
    let stream = TlsConnector::from(Arc::clone(tls))
        .connect(name, stream)
        .await;
    let stream = stream.map_err(|error| target.unreachable(error))?;
    exchange(target, stream, max_bytes).await
}

async fn connect(addresses: &[SocketAddr]) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::other("the name has no address");
    for address in addresses {
        let attempt = TcpStream::connect(address);
        match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(elapsed) => last = elapsed.into(),
        }
    }
    Err(last)
}

async fn exchange(
    target: &Target,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    max_bytes: usize,
) -> Result<Answer, FetchError> {
    let broken = |source| FetchError::Answer {
        host: target.host.to_string(),
        source,
    };
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // The connection moves only while it is polled, and ends with this function. When it ends
    // by itself, what it read is still to be taken.
    let drive = async {
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    };
    let ask = async {
        let response = sender
            .send_request(request(target)?)
            .await
            .map_err(broken)?;
        answer(response, max_bytes, broken).await
    };
    tokio::select! {
        answer = ask => answer,
        never = drive => match never {},
    }
}

fn request(target: &Target) -> Result<Request<Empty<Bytes>>, FetchError> {
    Request::get(target.path_and_query())
        .header(header::HOST, target.authority())
        .header(
            header::USER_AGENT,
            concat!("tenon/", env!("CARGO_PKG_VERSION")),
        )
        .header(header::ACCEPT, "image/*, */*;q=0.5")
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| FetchError::Url(error.to_string()))
}

async fn answer(
    response: Response<Incoming>,
    max_bytes: usize,
    broken: impl Fn(hyper::Error) -> FetchError,
) -> Result<Answer, FetchError> {
    let header = |name| {
        let value = response.headers().get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    match response.status() {
        StatusCode::OK => {}
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT
            if let Some(location) = header(header::LOCATION) =>
        {
            return Ok(Answer::Elsewhere(location));
        }
        status => {
            return Err(FetchError::Status {
                status: status.as_u16(),
            });
        }
    }
    if let Some(encoding) = header(header::CONTENT_ENCODING)
        && !encoding.eq_ignore_ascii_case("identity")
    {
        return Err(FetchError::Compressed);
    }
    let too_large = FetchError::TooLarge { limit: max_bytes };
    let mut body = response.into_body();
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(too_large);
    }
    let mut file = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(&broken)?.into_data() else {
            continue;
        };
        if file.len() + data.len() > max_bytes {
            return Err(too_large);
        }
        file.extend_from_slice(&data);
    }
    Ok(Answer::File(file.into()))
}
