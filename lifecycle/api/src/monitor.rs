//! The addresses beside the API: metrics for Prometheus, debug for a person.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::debug::Debug;
use crate::listen::{ListenError, SocketConfig, listen};
use crate::metrics::{CONTENT_TYPE, Metrics};
use crate::pages::{self, Page, Pages};

/// Where containerd's metrics are.
const METRICS: &str = "/v1/metrics";

/// `[metrics]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Plain HTTP: what is read here says nothing that is secret.
    pub address: SocketAddr,
    /// Whether calls' durations are kept.
    pub grpc_histogram: bool,
}

/// The address for metrics could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listen for readers of metrics on {address}: {source}")]
pub struct MonitorError {
    address: SocketAddr,
    source: io::Error,
}

/// Answers readers of metrics until the server ends.
pub(crate) async fn serve_metrics(address: SocketAddr, metrics: Metrics) -> Result<Guard, MonitorError> {
    let failed = |source| MonitorError { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let accept = async move || listener.accept().await.map(|(stream, _)| stream);
    Ok(Guard(tokio::spawn(pages::serve(MetricsPages(metrics), accept))))
}

/// Answers at the debug socket until the server ends.
pub(crate) fn serve_debug(config: &SocketConfig) -> Result<Guard, ListenError> {
    let listener = listen(config)?;
    let accept = async move || listener.accept().await.map(|(stream, _)| stream);
    Ok(Guard(tokio::spawn(pages::serve(Debug, accept))))
}

/// Ends what it stands for when it is dropped.
pub(crate) struct Guard(tokio::task::JoinHandle<()>);

impl Guard {
    pub(crate) fn of(task: tokio::task::JoinHandle<()>) -> Self {
        Guard(task)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct MetricsPages(Metrics);

impl Pages for MetricsPages {
    async fn page(&self, path: &str) -> Option<Page> {
        (path == METRICS).then_some(())?;
        Some(Page { kind: CONTENT_TYPE, text: self.0.read().await })
    }
}
