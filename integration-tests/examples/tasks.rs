//! Lives of tasks for the benchmark, through containerd's API, by callers that are connected already: a `ctr` for each
//! would be most of what is measured.
//!
//! `tasks SOCKET NAMESPACE RUNTIME SPEC CALLERS TOTAL`: TOTAL containers of the config.json SPEC, each recorded, its
//! task created, started, awaited and deleted, and the record removed, by CALLERS at once. `{}` in SPEC is the id.
//!
//! `tasks SOCKET NAMESPACE RUNTIME SPEC keep TOTAL`: creates and starts TOTAL and leaves them running.
//!
//! `tasks SOCKET NAMESPACE remove`: kills and removes all containers of the namespace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, anyhow, bail};
use prost_types::Any;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};
use wharf_containerd::containerd::services::containers::v1 as containers;
use wharf_containerd::containerd::services::tasks::v1 as tasks;

use containers::containers_client::ContainersClient;
use tasks::tasks_client::TasksClient;

const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
/// Callers that set up and take down what is kept.
const MANY: u32 = 8;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [socket, namespace, "remove"] => {
            remove_all(&Client::connect(socket, namespace, "", String::new()).await?).await
        }
        [socket, namespace, runtime, spec, callers, total] => {
            let spec = std::fs::read_to_string(spec).with_context(|| spec.to_owned())?;
            let client = Client::connect(socket, namespace, runtime, spec).await?;
            let keep = callers == "keep";
            let callers = if keep { MANY } else { callers.parse()? };
            share(&Arc::new(client), callers, total.parse()?, keep).await
        }
        _ => bail!(
            "usage: tasks SOCKET NAMESPACE RUNTIME SPEC CALLERS|keep TOTAL | tasks SOCKET NAMESPACE remove"
        ),
    }
}

/// Has `callers` take the numbers below `total` one by one.
async fn share(client: &Arc<Client>, callers: u32, total: u32, keep: bool) -> Result<()> {
    let next = Arc::new(AtomicU32::new(0));
    let work = (0..callers).map(|_| {
        let (client, next) = (Arc::clone(client), Arc::clone(&next));
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= total {
                    return anyhow::Ok(());
                }
                let id = format!("task-{number}");
                client.begin(&id).await.with_context(|| id.clone())?;
                if !keep {
                    client.end(&id).await.with_context(|| id.clone())?;
                }
            }
        })
    });
    for caller in work.collect::<Vec<_>>() {
        caller.await.map_err(|e| anyhow!("a caller panicked: {e}"))??;
    }
    Ok(())
}

async fn remove_all(client: &Client) -> Result<()> {
    let list = client.containers().list(client.within(containers::ListContainersRequest::default())).await?;
    for container in list.into_inner().containers {
        let id = container.id;
        let kill =
            tasks::KillRequest { container_id: id.clone(), signal: 9, all: true, ..Default::default() };
        // it may have no task any more
        let _ = client.tasks().kill(client.within(kill)).await;
        let _ = client.end(&id).await;
    }
    Ok(())
}

struct Client {
    channel: Channel,
    namespace: tonic::metadata::MetadataValue<tonic::metadata::Ascii>,
    runtime: String,
    spec: String,
}

impl Client {
    async fn connect(socket: &str, namespace: &str, runtime: &str, spec: String) -> Result<Client> {
        let channel = Endpoint::from_shared(format!("unix:{socket}"))?.connect().await?;
        Ok(Client { channel, namespace: namespace.parse()?, runtime: runtime.to_owned(), spec })
    }

    fn containers(&self) -> ContainersClient<Channel> {
        ContainersClient::new(self.channel.clone())
    }

    fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel.clone())
    }

    fn within<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.namespace.clone());
        request
    }

    /// Records a container, creates its task and starts it.
    async fn begin(&self, id: &str) -> Result<()> {
        let container = containers::Container {
            id: id.to_owned(),
            runtime: Some(containers::container::Runtime { name: self.runtime.clone(), options: None }),
            spec: Some(Any { type_url: SPEC_TYPE.into(), value: self.spec.replace("{}", id).into_bytes() }),
            ..Default::default()
        };
        let record = containers::CreateContainerRequest { container: Some(container) };
        self.containers().create(self.within(record)).await.context("record")?;
        let create = tasks::CreateTaskRequest { container_id: id.to_owned(), ..Default::default() };
        self.tasks().create(self.within(create)).await.context("create")?;
        let start = tasks::StartRequest { container_id: id.to_owned(), ..Default::default() };
        self.tasks().start(self.within(start)).await.context("start")?;
        Ok(())
    }

    /// Waits for the task's end, and removes it and the record.
    async fn end(&self, id: &str) -> Result<()> {
        let wait = tasks::WaitRequest { container_id: id.to_owned(), ..Default::default() };
        let waited = self.tasks().wait(self.within(wait)).await.context("wait");
        let delete = tasks::DeleteTaskRequest { container_id: id.to_owned() };
        let deleted = self.tasks().delete(self.within(delete)).await.context("delete");
        let record = containers::DeleteContainerRequest { id: id.to_owned() };
        self.containers().delete(self.within(record)).await.context("remove the record")?;
        waited?;
        deleted?;
        Ok(())
    }
}
