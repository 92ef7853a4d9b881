//! Errors as Docker answers them: a status and `{"message": …}`.

use axum::response::{IntoResponse, Response};
use engine_backend::BackendError;
use engine_core::EngineError;
use engine_core::filter::FilterError;
use engine_core::image::ImageError;
use http::{StatusCode, header};
use wharf_docker::decode::DecodeError;
use wharf_docker::error::ErrorResponse;
use wharf_kinds::Kind;

/// What a route answers when it fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    kind: Kind,
    message: String,
}

impl ApiError {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The client's fault.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidArgument, message)
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// Puts words before the message.
    pub fn within(mut self, prefix: &str) -> Self {
        self.message = format!("{prefix}: {}", self.message);
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            tracing::error!(status = status.as_u16(), error = self.message, "request failed");
        } else {
            tracing::debug!(status = status.as_u16(), error = self.message, "request refused");
        }
        if status == StatusCode::NOT_MODIFIED {
            return status.into_response();
        }
        let body = serde_json::to_vec(&ErrorResponse { message: self.message }).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/json")], [body, b"\n".to_vec()].concat())
            .into_response()
    }
}

macro_rules! by_kind {
    ($($error:ty),*) => {$(
        impl From<$error> for ApiError {
            fn from(error: $error) -> Self {
                Self::new(error.kind(), error.to_string())
            }
        }
    )*};
}
by_kind!(EngineError, BackendError, FilterError, ImageError);

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        Self::invalid(error.to_string())
    }
}
