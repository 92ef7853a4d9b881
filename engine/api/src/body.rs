//! JSON bodies in and out.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// Largest JSON body taken.
const LIMIT: usize = 8 << 20;

/// Reads a whole body of at most 8 MiB.
pub async fn read(body: Body) -> Result<Bytes, ApiError> {
    match Limited::new(body, LIMIT).collect().await {
        Ok(all) => Ok(all.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(ApiError::invalid(format!("request body is larger than {LIMIT} bytes")))
        }
        Err(error) => Err(ApiError::invalid(format!("read the request body: {error}"))),
    }
}

/// Reads and decodes a body as tolerantly as Go does.
pub async fn json<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    Ok(wharf_docker::decode::from_slice(&read(body).await?)?)
}

/// Like [`json`], but no body at all is the default.
pub async fn json_or_default<T: DeserializeOwned + Default>(body: Body) -> Result<T, ApiError> {
    let bytes = read(body).await?;
    match wharf_docker::decode::from_slice(&bytes) {
        Err(error) if error.is_empty_body() => Ok(T::default()),
        other => Ok(other?),
    }
}

/// Answers JSON, with the line end that Go's encoder writes.
pub fn reply<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response()
        }
        Err(error) => {
            ApiError::new(wharf_kinds::Kind::Internal, format!("encode the answer: {error}")).into_response()
        }
    }
}

/// `204 No Content`.
pub fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
