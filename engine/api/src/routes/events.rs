//! `GET /events`.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use engine_core::events::EventFilter;
use http::StatusCode;
use wharf_docker::event::Message;

use crate::error::ApiError;
use crate::query::Query;
use crate::state::AppState;
use crate::streams::{Feed, streamed};
use crate::times;

pub fn routes() -> Router<AppState> {
    Router::new().route("/events", get(events))
}

async fn events(State(state): State<AppState>, query: Query) -> Result<Response, ApiError> {
    let since = times::parse("since", query.text("since"))?;
    let until = times::parse("until", query.text("until"))?;
    if let (Some(since), Some(until)) = (since, until)
        && until < since
    {
        return Err(ApiError::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            since / 1_000_000_000,
            until / 1_000_000_000
        )));
    }
    let filter = EventFilter::new(query.filters()?)?;
    let (past, mut live) = state.events.subscribe(since, until);
    let (feed, response) = streamed(StatusCode::OK, "application/json");
    tokio::spawn(async move {
        for event in past.iter().filter(|event| filter.matches(event)) {
            if !send(&feed, event).await {
                return;
            }
        }
        let end = until.map(|until| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let left = i128::from(until) - i128::try_from(now.as_nanos()).unwrap_or(i128::MAX);
            tokio::time::Instant::now() + Duration::from_nanos(u64::try_from(left).unwrap_or(0))
        });
        loop {
            let ended = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = live.next() => match event {
                    Some(event) => if filter.matches(&event) && !send(&feed, &event).await { return },
                    None => return,
                },
                () = ended => return,
                () = feed.closed() => return,
            }
        }
    });
    Ok(response)
}

async fn send(feed: &Feed, event: &Message) -> bool {
    match serde_json::to_vec(event) {
        Ok(mut line) => {
            line.push(b'\n');
            feed.send(line).await
        }
        Err(_) => true,
    }
}
