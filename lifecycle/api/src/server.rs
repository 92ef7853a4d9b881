//! The server as a whole: opens the state, finds the tasks again, serves both sockets.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt as _;
use lifecycle_events::Exchange;
use lifecycle_metadata::AnyValue;
use lifecycle_tasks::{Config, Container, Containers, Daemon, LookupError, RecoverError, Runtimes, Tasks};
use prost_types::Any;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::RoutesBuilder;
use tonic::transport::Server;
use tower::layer::util::{Identity, Stack};
use wharf_containerd::containerd::services::events::v1::events_server::EventsServer;
use wharf_containerd::containerd::services::introspection::v1::introspection_server::IntrospectionServer;
use wharf_containerd::containerd::services::sandbox::v1::controller_server::ControllerServer;
use wharf_containerd::containerd::services::sandbox::v1::store_server::StoreServer;
use wharf_containerd::containerd::services::tasks::v1::tasks_server::TasksServer;
use wharf_containerd::containerd::services::version::v1::version_server::VersionServer;

use crate::authority::Tolerant;
use crate::events::EventsService;
use crate::identity::{self, IdentityError};
use crate::introspection::IntrospectionService;
use crate::listen::{ListenError, SocketConfig, listen};
use crate::metrics::{Adopt, Calls, Collections, Metrics, Observe};
use crate::monitor::{self, MetricsConfig, MonitorError};
use crate::reflection;
use crate::request::MessageLimits;
use crate::restart;
use crate::sandboxes::{SandboxController, SandboxStore};
use crate::shim_sockets;
use crate::storage::{OpenError, Storage, StoragePolicy};
use crate::tasks::TasksService;
use crate::tcp::{self, TcpConfig, TcpError};
use crate::ttrpc;
use crate::version::{VERSION, VersionService};
use crate::wording::Wording;

/// Under the root and the state folder, as in containerd.
const TASKS_FOLDER: &str = "io.containerd.runtime.v2.task";

/// Requests under way on one connection. A client waits for each of its containers with one of them.
const MAX_STREAMS: u32 = 65_536;
/// Bytes in flight before the receiver has to confirm: blobs and events pass in fewer round trips.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// How long a connection over TCP may be silent before it is asked for a sign of life, and what that may take.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(20);

/// What the server is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Survives the machine's restart.
    pub root: PathBuf,
    /// Does not.
    pub state: PathBuf,
    pub grpc: SocketConfig,
    /// Where shims send events.
    pub ttrpc: SocketConfig,
    pub messages: MessageLimits,
    /// Shims are to be talkative too.
    pub debug: bool,
    pub storage: StoragePolicy,
    /// The folder that says how registries are reached, for transfers that name none.
    pub registry_hosts: Option<PathBuf>,
    /// The API for other machines, if any.
    pub tcp: Option<TcpConfig>,
    pub metrics: Option<MetricsConfig>,
    /// Where a person can look into the process.
    pub debug_socket: Option<SocketConfig>,
    /// How often the restart monitor looks.
    pub restart_interval: Duration,
    /// Makes a span of every call a child of the caller's; none where traces are not wanted.
    pub adopt: Option<Adopt>,
}

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Storage(#[from] OpenError),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error("make folder {path}: {source}")]
    Folder { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Tcp(#[from] TcpError),
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    #[error("serve grpc: {0}")]
    Grpc(#[source] tonic::transport::Error),
}

/// Serves until `shutdown` resolves, which it may do at any time; `ready` is called once requests are answered.
///
/// Tasks go on when the server ends, however it ends.
pub async fn serve(
    settings: Settings,
    ready: impl FnOnce(),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    // not a graceful shutdown: waits and subscriptions would hold it up for as long as containers run
    tokio::select! {
        // who asks for the end while the start waits for a shim never sees it serve
        biased;
        () = shutdown => Ok(()),
        served = serve_for_ever(settings, ready) => served,
    }
}

async fn serve_for_ever(settings: Settings, ready: impl FnOnce()) -> Result<(), ServeError> {
    let since = SystemTime::now();
    let exchange = Exchange::new();
    // takes the lock on the root folder: everything after is this process's alone
    folder(&settings.state, 0o711)?;
    let storage = open(&settings, exchange.clone()).await?;
    // also while the tasks are found again: that is when it is needed
    let _debug = settings.debug_socket.as_ref().map(monitor::serve_debug).transpose()?;
    let made = shim_sockets::make(&settings.state);
    let sockets = made.map_err(|source| ServeError::Folder { path: settings.state.join("s"), source })?;
    let uuid = identity::of(&settings.root)?;
    let config = Config {
        root: settings.root.join(TASKS_FOLDER),
        state: settings.state.join(TASKS_FOLDER),
        daemon: Daemon {
            address: settings.grpc.path.to_string_lossy().into_owned(),
            ttrpc_address: settings.ttrpc.path.to_string_lossy().into_owned(),
            socket_dir: sockets,
            debug: settings.debug,
            version: VERSION.into(),
        },
        runtimes: Runtimes::of_this_program(),
    };
    let records = Arc::new(Records(storage.clone()));
    let tasks = Tasks::new(config, exchange.clone(), records);
    // shims that kept events for us are heard from the first moment
    let events = listen(&settings.ttrpc)?;
    let events = ttrpc::serve(events, tasks.clone());
    // clients that come before the tasks are found again wait instead of being refused
    let requests = listen(&settings.grpc)?;
    let found = tasks.recover().await?;
    tracing::info!(tasks = found.tasks, dead = found.dead, swept = found.swept, "tasks recovered");
    let calls = settings.metrics.as_ref().map(|metrics| {
        let descriptors = [wharf_containerd::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];
        Arc::new(Calls::new(&descriptors, metrics.grpc_histogram))
    });
    let _metrics = match (&settings.metrics, &calls) {
        (Some(config), Some(calls)) => {
            let (storage, tasks, calls) = (storage.clone(), tasks.clone(), calls.clone());
            let collections = Arc::new(Collections::default());
            let counted = collections.clone();
            storage.collector.observe(move |outcome| counted.count(outcome));
            let metrics = Metrics { storage, tasks, calls, collections, since };
            Some(monitor::serve_metrics(config.address, metrics).await?)
        }
        _ => None,
    };
    let remote = match &settings.tcp {
        Some(config) => Some(tcp::listen(config).await?),
        None => None,
    };
    let introspection = IntrospectionService::new(tasks.clone(), uuid, &settings.root, &settings.storage);
    let mut routes = RoutesBuilder::default();
    let limits = settings.messages;
    storage.add_to(&mut routes, settings.registry_hosts.clone(), limits);
    let controller = SandboxController { tasks: tasks.clone(), storage: storage.clone() };
    routes
        .add_service(
            StoreServer::new(SandboxStore(storage.clone()))
                .max_decoding_message_size(limits.receive)
                .max_encoding_message_size(limits.send),
        )
        .add_service(
            ControllerServer::new(controller)
                .max_decoding_message_size(limits.receive)
                .max_encoding_message_size(limits.send),
        );
    let looked_after = (storage.clone(), tasks.clone());
    add_running(&mut routes, tasks, storage, exchange, introspection, limits).await;
    reflection::add_to(&mut routes);
    let (routes, observe) = (routes.routes(), Observe { calls, adopt: settings.adopt });
    let _restarts = restart::watch(looked_after.0, looked_after.1, settings.restart_interval);
    ready();
    let local = server(&observe).add_routes(routes.clone());
    let local = local.serve_with_incoming(UnixListenerStream::new(requests).map_ok(Tolerant::new));
    let served = match remote {
        Some(connections) => {
            let remote = server(&observe)
                // a client whose machine is gone says nothing
                .http2_keepalive_interval(Some(KEEPALIVE))
                .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER))
                .add_routes(routes)
                .serve_with_incoming(connections);
            tokio::try_join!(local, remote).map(|_| ())
        }
        None => local.await,
    };
    drop(events);
    served.map_err(ServeError::Grpc)
}

fn server(observe: &Observe) -> Server<Stack<Wording, Stack<Observe, Identity>>> {
    Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .layer(observe.clone())
        .layer(Wording)
}

/// Away from the threads that serve: what a crash left may take a while to clear, and the end can be asked for.
async fn open(settings: &Settings, exchange: Exchange) -> Result<Storage, ServeError> {
    let (root, targets) = (settings.root.clone(), settings.state.join("mounts"));
    let policy = settings.storage.clone();
    match tokio::task::spawn_blocking(move || Storage::open(&root, &targets, policy, exchange)).await {
        Ok(opened) => Ok(opened?),
        Err(broken) => std::panic::resume_unwind(broken.into_panic()),
    }
}

async fn add_running(
    routes: &mut RoutesBuilder,
    tasks: Tasks,
    storage: Storage,
    exchange: Exchange,
    introspection: IntrospectionService,
    limits: MessageLimits,
) {
    let events = EventsService { exchange, tasks: tasks.clone() };
    let (_, health) = tonic_health::server::health_reporter();
    routes
        .add_service(
            TasksServer::new(TasksService { tasks, storage })
                .max_decoding_message_size(limits.receive)
                .max_encoding_message_size(limits.send),
        )
        .add_service(
            EventsServer::new(events)
                .max_decoding_message_size(limits.receive)
                .max_encoding_message_size(limits.send),
        )
        .add_service(
            IntrospectionServer::new(introspection)
                .max_decoding_message_size(limits.receive)
                .max_encoding_message_size(limits.send),
        )
        .add_service(VersionServer::new(VersionService))
        .add_service(health);
}

fn folder(path: &Path, mode: u32) -> Result<(), ServeError> {
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), mode)
        .recursive(true)
        .create(path)
        .map_err(|source| ServeError::Folder { path: path.into(), source })
}

/// Container records as tasks read them.
struct Records(Storage);

impl Containers for Records {
    fn container(&self, namespace: &str, id: &str) -> Result<Container, LookupError> {
        let record = self
            .0
            .container(namespace, id)
            .map_err(|error| LookupError { kind: error.kind(), text: error.to_string() })?;
        Ok(Container {
            runtime: record.runtime.name,
            runtime_options: record.runtime.options.map(any),
            spec: record.spec.map(any),
            sandbox: record.sandbox,
        })
    }
}

fn any(value: AnyValue) -> Any {
    Any { type_url: value.type_url, value: value.value }
}
