//! From one request to one response: route, key, limits, id, metrics.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Body;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, StatusCode};
use tokio::sync::Semaphore;

use super::body::{self, ByteBudget, Charge, Chunks};
use super::lifecycle::Lifecycle;
use super::model_info;
use super::options::HttpOptions;
use super::panic::{CatchPanic, Panicked};
use super::request_id::{self, RequestIds, X_REQUEST_ID};
use super::respond::{self, Refusal, Reply};
use super::routes::Route;
use super::service::Call;
use crate::error::ApiError;
use crate::observability::{METRICS_CONTENT_TYPE, Metrics};
use crate::tenants::Keys;

const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");

/// The `retry-after` of a server that is starting, draining or at its limit.
const RETRY_AFTER_S: u64 = 1;

/// The name of all paths that are no route, for metrics.
const NO_ROUTE: &str = "other";

/// The status that metrics show for a request whose client left: nginx's, for want of a
/// standard one.
const CLIENT_LEFT: u16 = 499;

/// What all requests share.
pub(super) struct Context {
    pub(super) options: HttpOptions,
    pub(super) keys: Keys,
    pub(super) lifecycle: Lifecycle,
    pub(super) metrics: Arc<Metrics>,
    pub(super) ids: RequestIds,
    /// One permit an embedding call.
    pub(super) work: Semaphore,
    pub(super) buffered: Arc<ByteBudget>,
}

/// Answers one request. Dropping the future, which is what happens when the client
/// leaves, cancels its work.
pub(super) async fn handle<B>(
    context: Arc<Context>,
    request: Request<B>,
) -> Result<Reply, Infallible>
where
    B: Body<Data = Bytes> + Unpin,
{
    let arrived = Instant::now();
    let mut exchange = Exchange {
        request_id: context.ids.of(request.headers()),
        endpoint: NO_ROUTE,
        status: CLIENT_LEFT,
        arrived,
        metrics: &context.metrics,
    };
    exchange.metrics.in_flight().inc();
    let is_head = request.method() == Method::HEAD;
    let routed = CatchPanic::new(route(&context, request, &mut exchange)).await;
    let mut reply = match routed {
        Ok(Ok(reply)) => reply,
        Ok(Err(refusal)) => refusal.into_reply(),
        Err(Panicked) => {
            let (endpoint, request_id) = (exchange.endpoint, &exchange.request_id);
            tracing::error!(endpoint, request_id, "a request's handler panicked");
            let message = "The server failed to process the request.";
            Refusal::from(ApiError::internal(message)).into_reply()
        }
    };
    exchange.status = reply.status().as_u16();
    if is_head {
        let length = reply.body().size_hint().lower();
        reply.headers_mut().insert(CONTENT_LENGTH, length.into());
        *reply.body_mut() = Chunks::empty();
    }
    let headers = reply.headers_mut();
    if let Some(id) = request_id::header(&exchange.request_id) {
        headers.insert(X_REQUEST_ID, id);
    }
    let took_ms = u64::try_from(arrived.elapsed().as_millis()).unwrap_or(u64::MAX);
    headers.insert(PROCESSING_MS, took_ms.into());
    Ok(reply)
}

/// One request and its answer, as logs and metrics see them; recorded on drop.
struct Exchange<'a> {
    request_id: String,
    endpoint: &'static str,
    status: u16,
    arrived: Instant,
    metrics: &'a Metrics,
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        let took = self.arrived.elapsed();
        self.metrics.in_flight().dec();
        self.metrics.request(self.endpoint, self.status, took);
        tracing::debug!(
            request_id = self.request_id,
            endpoint = self.endpoint,
            status = self.status,
            took_us = took.as_micros() as u64,
            "request"
        );
    }
}

async fn route<B>(
    context: &Context,
    request: Request<B>,
    exchange: &mut Exchange<'_>,
) -> Result<Reply, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (head, mut body) = request.into_parts();
    let answer = match Route::of(head.uri.path()) {
        Some(route) => {
            exchange.endpoint = route.name();
            match (&route, &head.method) {
                (_, &Method::OPTIONS) => Ok(respond::options(route.allow())),
                (Route::Embed(endpoint), &Method::POST) => {
                    embed(context, endpoint, &head.headers, &mut body, exchange).await
                }
                (Route::Embed(_), _) => Err(Refusal::method_not_allowed(route.allow())),
                (_, &Method::GET | &Method::HEAD) => look_up(context, &route, &head.headers),
                _ => Err(Refusal::method_not_allowed(route.allow())),
            }
        }
        None => Err(no_route(head.uri.path())),
    };
    let unsent = head.headers.contains_key(EXPECT);
    if let Err(refusal) = &answer
        && !body.is_end_stream()
        && !unsent
        && refusal.error.status != 408
    {
        let HttpOptions {
            max_discarded_bytes,
            body_read_timeout,
            ..
        } = context.options;
        body::discard(&mut body, max_discarded_bytes, body_read_timeout).await;
    }
    answer
}

/// Answers a GET from what is known already.
fn look_up(context: &Context, route: &Route<'_>, headers: &HeaderMap) -> Result<Reply, Refusal> {
    if !route.is_open() {
        authorize(&context.keys, headers)?;
    }
    let cards = || {
        context
            .lifecycle
            .service()
            .map(|s| s.models())
            .unwrap_or_default()
    };
    match route {
        Route::Models => Ok(model_info::list(&cards())),
        Route::Model(id) => Ok(model_info::find(&cards(), id)?),
        Route::ModelInfo(_) => Ok(model_info::info(&cards())?),
        Route::Health => Ok(respond::json(StatusCode::OK, r#"{"status":"ok"}"#)),
        Route::Ready => Ok(ready(&context.lifecycle)),
        Route::Metrics => metrics(&context.metrics),
        Route::Embed(_) => Err(Refusal::method_not_allowed(route.allow())),
    }
}

fn ready(lifecycle: &Lifecycle) -> Reply {
    let status = match lifecycle.is_ready() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    respond::json(status, format!(r#"{{"status":"{}"}}"#, lifecycle.name()))
}

fn metrics(metrics: &Metrics) -> Result<Reply, Refusal> {
    let Ok(text) = metrics.render() else {
        return Err(ApiError::internal("The metrics could not be written.").into());
    };
    let content_type = HeaderValue::from_static(METRICS_CONTENT_TYPE);
    let body = Chunks::one(text);
    Ok(respond::with_type(StatusCode::OK, content_type, body))
}

async fn embed<B>(
    context: &Context,
    endpoint: &'static str,
    headers: &HeaderMap,
    body: &mut B,
    exchange: &mut Exchange<'_>,
) -> Result<Reply, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    authorize(&context.keys, headers)?;
    check_content_type(headers)?;
    let Some(service) = context.lifecycle.service() else {
        let message = "The server is starting.";
        return Err(ApiError::overloaded(503, message, RETRY_AFTER_S).into());
    };
    let Ok(_permit) = context.work.try_acquire() else {
        let limit = context.options.max_concurrent_requests;
        let message = format!("The server is at its limit of {limit} requests at once.");
        return Err(ApiError::overloaded(429, message, RETRY_AFTER_S).into());
    };
    let mut charge = Charge::new(&context.buffered);
    let body = body::read(body, &context.options, &mut charge).await?;
    let call = Call {
        endpoint,
        body,
        request_id: exchange.request_id.clone(),
        arrived: exchange.arrived,
    };
    let timeout = context.options.request_timeout;
    let mut answer = match tokio::time::timeout(timeout, service.embed(call)).await {
        Ok(answered) => answered?,
        Err(_) => return Err(too_slow(timeout).into()),
    };
    if request_id::header(&answer.request_id).is_some() {
        exchange.request_id = std::mem::take(&mut answer.request_id);
    }
    drop(charge);
    let charge = Charge::new(&context.buffered);
    Ok(respond::answer(answer, charge)?)
}

fn authorize(keys: &Keys, headers: &HeaderMap) -> Result<(), Refusal> {
    if !keys.required() {
        return Ok(());
    }
    let Some(header) = headers.get(AUTHORIZATION) else {
        let message = "An API key is needed, in a header \"authorization: Bearer KEY\".";
        return Err(Refusal::unauthorized(message));
    };
    let key = bearer(header.as_bytes());
    match key.and_then(|key| keys.find(key)) {
        Some(_) => Ok(()),
        None => Err(Refusal::unauthorized("The API key is not a valid one.")),
    }
}

/// The key of an `authorization` header: the scheme in any case, then spaces.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = header.split_at_checked("bearer ".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer ");
    is_bearer.then(|| key.trim_ascii())
}

/// Bodies are JSON; one that says nothing of its type is taken for it.
fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(given) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let text = String::from_utf8_lossy(given.as_bytes());
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let shown: String = essence.chars().take(100).collect();
    Err(ApiError {
        status: 415,
        ..ApiError::invalid(
            format!("The content type {shown:?} is not supported; send application/json."),
            None,
        )
        .with_code("unsupported_media_type")
    })
}

fn no_route(path: &str) -> Refusal {
    let shown: String = path.chars().take(100).collect();
    let error = ApiError {
        status: 404,
        ..ApiError::invalid(format!("There is no path {shown:?}."), None).with_code("not_found")
    };
    error.into()
}

fn too_slow(timeout: Duration) -> ApiError {
    ApiError {
        status: 504,
        kind: "timeout_error".into(),
        ..ApiError::internal(format!("The request was not answered within {timeout:?}."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_key_of_a_bearer_header() {
        let check = |header: &str, expected: Option<&str>| {
            assert_eq!(
                bearer(header.as_bytes()),
                expected.map(str::as_bytes),
                "{header}"
            );
        };
        check("Bearer sk-1", Some("sk-1"));
        check("bearer   sk-1 ", Some("sk-1"));
        check("Bearer ", Some(""));
        check("Bearer", None);
        check("Basic sk-1", None);
        check("", None);
    }

    #[test]
    fn takes_json_or_nothing_for_a_content_type() {
        let check = |value: &'static str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            let checked = check_content_type(&headers);
            assert_eq!(checked.is_ok(), expected, "{value}: {checked:?}");
        };
        assert!(check_content_type(&HeaderMap::new()).is_ok());
        check("application/json", true);
        check("Application/JSON ; charset=utf-8", true);
        check("text/plain", false);
        check("application/x-www-form-urlencoded", false);
        check("application/jsonp", false);
        check("", false);
    }
}
