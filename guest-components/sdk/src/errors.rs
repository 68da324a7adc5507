//! Errors that a front component tells the caller.

use crate::types::ApiError;

/// A caller's mistake, and the parameter of the request that it is in.
pub fn invalid_request(param: &str, message: impl Into<String>) -> ApiError {
    ApiError {
        status: 400,
        kind: "invalid_request_error".to_owned(),
        message: message.into(),
        param: Some(param.to_owned()),
        code: None,
    }
}

/// A fault of the component's settings, which no caller can mend.
pub fn server_error(message: impl Into<String>) -> ApiError {
    ApiError {
        status: 500,
        kind: "server_error".to_owned(),
        message: message.into(),
        param: None,
        code: None,
    }
}
