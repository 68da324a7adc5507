//! The error that a caller is told about.

/// An error in the terms of an API dialect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status} {kind}: {message}")]
pub struct ApiError {
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// The dialect's error class, e.g. `invalid_request_error`.
    pub kind: String,
    /// One or two sentences for the caller.
    pub message: String,
    /// The request field at fault.
    pub param: Option<String>,
    /// A machine-readable code.
    pub code: Option<String>,
    /// Seconds after which trying again makes sense (the `retry-after` header).
    pub retry_after_s: Option<u64>,
}

impl ApiError {
    /// A client's mistake: 400 `invalid_request_error`.
    pub fn invalid(message: impl Into<String>, param: Option<&str>) -> Self {
        Self {
            status: 400,
            kind: "invalid_request_error".into(),
            message: message.into(),
            param: param.map(Into::into),
            code: None,
            retry_after_s: None,
        }
    }

    /// The server's own fault: 500 `server_error`. The message holds no internal detail.
    pub fn internal(message: impl Into<String>) -> Self {
        Self {
            status: 500,
            kind: "server_error".into(),
            ..Self::invalid(message, None)
        }
    }

    /// No capacity for now: `status` 429 or 503, with the seconds to wait.
    pub fn overloaded(status: u16, message: impl Into<String>, retry_after_s: u64) -> Self {
        Self {
            status,
            kind: "overloaded_error".into(),
            retry_after_s: Some(retry_after_s),
            ..Self::invalid(message, None)
        }
    }

    /// The same error with a machine-readable code.
    pub fn with_code(mut self, code: &str) -> Self {
        self.code = Some(code.into());
        self
    }

    /// The OpenAI body of this error, for errors before a bundle's own encoder is known.
    pub fn openai_json(&self) -> String {
        serde_json::json!({"error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        }})
        .to_string()
    }
}
