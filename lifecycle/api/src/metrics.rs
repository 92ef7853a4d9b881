//! What Prometheus reads at `/v1/metrics`, under containerd's names.

mod cgroups;
mod collections;
mod exposition;
mod frames;
mod process;
mod rpc;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::join_all;
use lifecycle_tasks::Tasks;
use wharf_vocab::Filter;

pub(crate) use collections::Collections;
pub(crate) use exposition::{CONTENT_TYPE, Exposition, Kind};
pub use rpc::Adopt;
pub(crate) use rpc::{Calls, Observe};

use crate::storage::Storage;
use crate::version::{REVISION, VERSION};

/// Everything that is measured.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) storage: Storage,
    pub(crate) tasks: Tasks,
    pub(crate) calls: Arc<Calls>,
    pub(crate) collections: Arc<Collections>,
    pub(crate) since: SystemTime,
}

impl Metrics {
    /// One reading, as Prometheus' text format. Asks every shim at the same time; one that does not answer in time is
    /// left out.
    pub(crate) async fn read(&self) -> String {
        let mut to = Exposition::default();
        let build = [("revision", REVISION), ("version", VERSION)];
        to.sample("containerd_build_info_total", "containerd build information", Kind::Counter, &build, 1.0);
        process::read(&mut to, self.since);
        self.calls.write(&mut to);
        self.collections.write(&mut to);
        self.read_tasks(&mut to).await;
        to.render()
    }

    async fn read_tasks(&self, to: &mut Exposition) {
        let namespaces = self.namespaces().await;
        let every = Filter::default();
        let read = namespaces.iter().map(async |namespace| self.tasks.metrics(namespace, &every).await);
        let read = join_all(read).await;
        for (namespace, metrics) in namespaces.iter().zip(read) {
            let runtimes = self.runtimes(namespace.clone()).await;
            for metric in metrics {
                let Some(data) = metric.data else { continue };
                let runtime = runtimes.get(&metric.id).map_or("", String::as_str);
                let task = cgroups::Labels { container: &metric.id, namespace, runtime };
                cgroups::write(&data, &task, to);
            }
        }
    }

    async fn namespaces(&self) -> Vec<String> {
        let metadata = self.storage.metadata.clone();
        let listed = tokio::task::spawn_blocking(move || metadata.namespaces().list()).await;
        match listed {
            Ok(Ok(all)) => all.into_iter().map(|namespace| namespace.name).collect(),
            Ok(Err(error)) => {
                tracing::warn!(%error, "failed to list namespaces for metrics");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    /// Container to runtime.
    async fn runtimes(&self, namespace: String) -> HashMap<String, String> {
        let metadata = self.storage.metadata.clone();
        let scope = lifecycle_metadata::Scope::new(namespace, None);
        let listed = tokio::task::spawn_blocking(move || metadata.containers().list(&scope, &[])).await;
        let Ok(Ok(listed)) = listed else { return HashMap::new() };
        listed.into_iter().map(|container| (container.id, container.runtime.name)).collect()
    }
}
