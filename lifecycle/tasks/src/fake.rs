//! A shim for tests: a ttrpc server in this process, and a script in the shim's place that says where it is.

mod execs;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use std::convert::Infallible;
use std::task::{Context, Poll};

use async_trait::async_trait;
use lifecycle_events::Exchange;
use prost::Message;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, http};
use tonic::server::{NamedService, UnaryService};
use ttrpc::asynchronous::{MethodHandler, Server, Service, TtrpcContext};
use ttrpc::proto::{Code, Request, Response, Status as TtrpcStatus};
use wharf_containerd::containerd::task::v3 as wire;
use wharf_containerd::containerd::v1::types::Status;
use wharf_kinds::Kind;

use crate::bootstrap::Daemon;
use crate::client::Encoded;
use crate::error::LookupError;
use crate::runtime::Runtimes;
use crate::tasks::{Config, Container, Containers, Tasks};

use self::execs::Execs;

/// What a fake shim does; shared with the test.
#[derive(Clone)]
pub(crate) struct Behaviour {
    /// Answers nothing while set.
    pub(crate) silent: Arc<AtomicBool>,
    /// Does not answer `Shutdown` while set.
    pub(crate) lingers: Arc<AtomicBool>,
    /// Fails `Create`.
    pub(crate) refuses_create: Arc<AtomicBool>,
    /// Knows of no task.
    pub(crate) has_no_task: Arc<AtomicBool>,
    /// The exit of init, once it has one.
    pub(crate) exit: watch::Sender<Option<u32>>,
    /// Its execs.
    pub(crate) execs: Execs,
    /// Methods called.
    pub(crate) calls: Arc<Mutex<Vec<String>>>,
}

impl Behaviour {
    pub(crate) fn new() -> Self {
        Behaviour {
            silent: Arc::default(),
            lingers: Arc::default(),
            refuses_create: Arc::default(),
            has_no_task: Arc::default(),
            exit: watch::Sender::new(None),
            execs: Execs::default(),
            calls: Arc::default(),
        }
    }

    pub(crate) fn was_called(&self, method: &str) -> bool {
        self.calls.lock().expect("lock").iter().any(|call| call == method)
    }
}

#[derive(Clone)]
struct Method {
    name: &'static str,
    behaviour: Behaviour,
}

#[async_trait]
impl MethodHandler for Method {
    async fn handler(&self, context: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        assert_eq!(context.metadata["containerd-namespace-ttrpc"], ["ns"]);
        self.called().await;
        let (mut response, mut status) = (Response::new(), TtrpcStatus::new());
        match self.answer(&request.payload).await {
            Ok(payload) => response.payload = payload,
            Err((code, text)) => {
                status.set_code(code);
                status.set_message(text.into());
            }
        }
        response.set_status(status);
        Ok(response)
    }
}

impl Method {
    async fn called(&self) {
        let behaviour = &self.behaviour;
        behaviour.calls.lock().expect("lock").push(self.name.into());
        let lingers = || self.name == "Shutdown" && behaviour.lingers.load(Ordering::SeqCst);
        while behaviour.silent.load(Ordering::SeqCst) || lingers() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    async fn answer(&self, payload: &[u8]) -> Result<Vec<u8>, (Code, &'static str)> {
        if let Some(answer) = self.behaviour.execs.answer(self.name, payload).await {
            return answer;
        }
        let exit = *self.behaviour.exit.borrow();
        Ok(match self.name {
            "Create" if self.behaviour.refuses_create.load(Ordering::SeqCst) => {
                return Err((Code::UNKNOWN, "OCI runtime create failed: no such file: unknown"));
            }
            "Create" => wire::CreateTaskResponse { pid: 42 }.encode_to_vec(),
            "Start" => wire::StartResponse { pid: 42 }.encode_to_vec(),
            "Connect" => {
                wire::ConnectResponse { shim_pid: 1, task_pid: 42, version: "2".into() }.encode_to_vec()
            }
            "State" if self.behaviour.has_no_task.load(Ordering::SeqCst) => {
                return Err((Code::NOT_FOUND, "container not created: not found"));
            }
            "State" => {
                let request = wire::StateRequest::decode(payload).expect("request");
                if !request.exec_id.is_empty() && request.exec_id != "old-exec" {
                    return Err((Code::NOT_FOUND, "process does not exist: not found"));
                }
                let status = if exit.is_some() { Status::Stopped } else { Status::Running };
                wire::StateResponse {
                    id: request.id,
                    pid: 42,
                    status: status.into(),
                    exit_status: exit.unwrap_or_default(),
                    ..Default::default()
                }
                .encode_to_vec()
            }
            "Wait" => {
                let mut changes = self.behaviour.exit.subscribe();
                let status = changes.wait_for(Option::is_some).await.map(|status| *status);
                let exit_status = status.ok().flatten().unwrap_or_default();
                wire::WaitResponse { exit_status, exited_at: None }.encode_to_vec()
            }
            "Delete" => match exit {
                Some(exit_status) => {
                    wire::DeleteResponse { pid: 42, exit_status, exited_at: None }.encode_to_vec()
                }
                None => return Err((Code::FAILED_PRECONDITION, "cannot delete a running process")),
            },
            _ => Vec::new(),
        })
    }
}

/// A folder with a stack of its own: records, bundles, one shim program.
pub(crate) struct Stack {
    pub(crate) at: tempfile::TempDir,
    pub(crate) exchange: Exchange,
}

struct Records {
    program: String,
    /// There are no records while this file exists.
    forgotten: PathBuf,
}

impl Containers for Records {
    fn container(&self, namespace: &str, id: &str) -> Result<Container, LookupError> {
        if id.starts_with("no-") || self.forgotten.exists() {
            let text = format!("container {id:?} in namespace {namespace:?}: not found");
            return Err(LookupError { kind: Kind::NotFound, text });
        }
        Ok(Container { runtime: self.program.clone(), ..Container::default() })
    }
}

impl Stack {
    pub(crate) fn new() -> Self {
        let stack = Stack { at: tempfile::tempdir().expect("folder"), exchange: Exchange::new() };
        let program = stack.program();
        let sockets = stack.at.path().display();
        // start: the socket is named after the container; delete: DeleteResponse { pid: 42, exit_status: 9 }
        let script = format!(
            r#"#!/bin/sh
for last; do :; done
id=$8
case $last in
start)
  case $id in
  grpc*) echo '{{"version":3,"address":"{sockets}/'$id'.sock","protocol":"grpc"}}' ;;
  *) echo unix://{sockets}/$id.sock ;;
  esac ;;
delete)
  : > {sockets}/deleting-$id
  while [ -e {sockets}/hold-$id ]; do sleep 0.01; done
  rm {sockets}/busy-$id 2>/dev/null && exit 1
  : > {sockets}/deleted-$id; printf '\010\052\020\011' ;;
esac
"#
        );
        fs::write(&program, script).expect("write script");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("make executable");
        stack
    }

    fn program(&self) -> PathBuf {
        self.at.path().join("containerd-shim-fake-v2")
    }

    /// Another daemon on the same folders.
    pub(crate) fn tasks(&self) -> Tasks {
        let config = Config {
            root: self.at.path().join("root"),
            state: self.at.path().join("state"),
            daemon: Daemon {
                address: "/run/d.sock".into(),
                ttrpc_address: "/run/d.sock.ttrpc".into(),
                socket_dir: self.at.path().into(),
                debug: false,
                version: "0.1.0".into(),
            },
            runtimes: Runtimes::in_folders([]),
        };
        let program = self.program().to_string_lossy().into_owned();
        Tasks::new(
            config,
            self.exchange.clone(),
            Arc::new(Records { program, forgotten: self.at.path().join("forgotten") }),
        )
    }

    /// Serves the shim of a container. It dies with the returned server.
    pub(crate) async fn shim(&self, id: &str, behaviour: &Behaviour) -> Server {
        let socket = self.at.path().join(format!("{id}.sock"));
        let _ = fs::remove_file(&socket);
        serve(&socket, behaviour).await
    }

    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.at.path().join("state/ns").join(id)
    }

    /// The next clean-up after a shim fails.
    pub(crate) fn fail_clean_up(&self, id: &str) {
        fs::write(self.at.path().join(format!("busy-{id}")), "").expect("write");
    }

    /// Clean-ups after a shim take until this is undone.
    pub(crate) fn hold_clean_up(&self, id: &str) {
        fs::write(self.at.path().join(format!("hold-{id}")), "").expect("write");
    }

    pub(crate) fn let_clean_up_end(&self, id: &str) {
        fs::remove_file(self.at.path().join(format!("hold-{id}"))).expect("held");
    }

    pub(crate) fn is_being_cleaned_up(&self, id: &str) -> bool {
        self.at.path().join(format!("deleting-{id}")).exists()
    }

    pub(crate) fn was_cleaned_up(&self, id: &str) -> bool {
        self.at.path().join(format!("deleted-{id}")).exists()
    }
}

const METHODS: [&str; 9] =
    ["Create", "Start", "Connect", "State", "Wait", "Delete", "Shutdown", "Kill", "Exec"];

async fn serve(socket: &Path, behaviour: &Behaviour) -> Server {
    let methods = METHODS.into_iter().map(|name| {
        let method: Box<dyn MethodHandler + Send + Sync> =
            Box::new(Method { name, behaviour: behaviour.clone() });
        (name.to_owned(), method)
    });
    let service = Service { methods: methods.collect(), streams: HashMap::new() };
    let mut server = Server::new()
        .bind(&format!("unix://{}", socket.display()))
        .expect("bind")
        .register_service(HashMap::from([("containerd.task.v2.Task".into(), service)]));
    server.start().await.expect("start");
    server
}

/// The same over gRPC, until the returned task is aborted.
pub(crate) fn serve_grpc(socket: &Path, behaviour: &Behaviour) -> AbortHandle {
    let listener = UnixListener::bind(socket).expect("bind");
    let server = tonic::transport::Server::builder()
        .add_service(OverGrpc(behaviour.clone()))
        .serve_with_incoming(UnixListenerStream::new(listener));
    tokio::spawn(async move { server.await.expect("serve") }).abort_handle()
}

/// The task service by its methods' names.
#[derive(Clone)]
struct OverGrpc(Behaviour);

impl NamedService for OverGrpc {
    const NAME: &'static str = "containerd.task.v3.Task";
}

impl tower::Service<http::Request<Body>> for OverGrpc {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let name = request.uri().path().rsplit('/').next().unwrap_or_default();
        let name = METHODS.into_iter().find(|method| *method == name).expect("a method");
        let method = Method { name, behaviour: self.0.clone() };
        Box::pin(async move { Ok(tonic::server::Grpc::new(Encoded).unary(method, request).await) })
    }
}

impl UnaryService<Vec<u8>> for Method {
    type Response = Vec<u8>;
    type Future = BoxFuture<tonic::Response<Vec<u8>>, tonic::Status>;

    fn call(&mut self, request: tonic::Request<Vec<u8>>) -> Self::Future {
        assert_eq!(request.metadata().get("containerd-namespace").expect("a namespace"), "ns");
        let method = self.clone();
        Box::pin(async move {
            method.called().await;
            match method.answer(&request.into_inner()).await {
                Ok(payload) => Ok(tonic::Response::new(payload)),
                Err((code, text)) => Err(tonic::Status::new(tonic::Code::from_i32(code as i32), text)),
            }
        })
    }
}
