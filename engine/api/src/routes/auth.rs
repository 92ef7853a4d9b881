//! `POST /auth`: whether a registry takes credentials.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use engine_images::credentials;
use http::StatusCode;
use serde_json::json;
use wharf_docker::auth::AuthConfig;

use crate::body;
use crate::error::ApiError;
use crate::state::AppState;

pub fn routes() -> Router<AppState> {
    Router::new().route("/auth", post(login))
}

async fn login(State(state): State<AppState>, body: Body) -> Result<Response, ApiError> {
    let auth: AuthConfig = body::json(body).await?;
    state
        .images
        .login(&auth.server_address, credentials(&auth))
        .await
        .map_err(|e| ApiError::new(e.kind(), e.to_string()))?;
    Ok(body::reply(StatusCode::OK, &json!({"Status": "Login Succeeded", "IdentityToken": ""})))
}
