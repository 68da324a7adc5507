//! Answers and errors as HTTP responses.

use bytes::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use super::body::{Charge, Chunks};
use super::service::Answer;
use crate::error::ApiError;

/// A response on its way out.
pub(super) type Reply = Response<Chunks>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An error, with the one header that some errors need.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: Box<ApiError>,
    header: Option<(HeaderName, &'static str)>,
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::new(error, None)
    }
}

impl Refusal {
    /// 401. The message holds nothing of what was presented.
    pub(super) fn unauthorized(message: &str) -> Self {
        let error = ApiError {
            status: 401,
            ..ApiError::invalid(message, None).with_code("invalid_api_key")
        };
        Self::new(error, Some((WWW_AUTHENTICATE, "Bearer")))
    }

    /// 405 with the methods that would do.
    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        let message = format!("This path does not allow the method; it allows {allow}.");
        let error = ApiError {
            status: 405,
            ..ApiError::invalid(message, None).with_code("method_not_allowed")
        };
        Self::new(error, Some((ALLOW, allow)))
    }

    fn new(error: ApiError, header: Option<(HeaderName, &'static str)>) -> Self {
        let error = Box::new(error);
        Self { error, header }
    }

    pub(super) fn into_reply(self) -> Reply {
        let status = StatusCode::from_u16(self.error.status);
        let mut reply = json(
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            self.error.openai_json(),
        );
        let headers = reply.headers_mut();
        if let Some((name, value)) = self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(seconds) = self.error.retry_after_s {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        reply
    }
}

/// A response with a JSON body.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    with_type(status, JSON, Chunks::one(body))
}

/// A response with a body of some type.
pub(super) fn with_type(status: StatusCode, content_type: HeaderValue, body: Chunks) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

/// 204 with the methods that a path allows.
pub(super) fn options(allow: &'static str) -> Reply {
    let mut reply = Response::new(Chunks::empty());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    let allow = HeaderValue::from_static(allow);
    reply.headers_mut().insert(ALLOW, allow);
    reply
}

/// The service's answer. Its parts may come from a component, so none is trusted.
pub(super) fn answer(answer: Answer, mut charge: Charge) -> Result<Reply, ApiError> {
    let status = StatusCode::from_u16(answer.status).ok();
    let is_final = |status: &StatusCode| *status == StatusCode::OK || status.as_u16() >= 400;
    let Some(status) = status.filter(is_final) else {
        return Err(ApiError::internal(
            "The response encoder gave no usable status.",
        ));
    };
    let Ok(content_type) = HeaderValue::from_str(&answer.content_type) else {
        return Err(ApiError::internal(
            "The response encoder gave no usable content type.",
        ));
    };
    // Over the budget or not, the work is done: only new request bodies are refused.
    charge.add(answer.chunks.iter().map(Bytes::len).sum());
    let body = Chunks::new(answer.chunks, Some(charge));
    let mut reply = with_type(status, content_type, body);
    if let Some(seconds) = answer.retry_after_s {
        reply.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    Ok(reply)
}
