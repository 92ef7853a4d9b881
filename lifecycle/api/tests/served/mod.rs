//! A server in the test's own folder, and clients of it.

#![allow(dead_code, reason = "each test program uses a part")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use hyper_util::rt::TokioIo;
use lifecycle_api::{Settings, SocketConfig, serve};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tonic::Request;
use tonic::transport::{Channel, Endpoint, Uri};

pub fn settings(at: &Path) -> Settings {
    // the tests' own user owns the sockets
    let owner = std::fs::metadata(at).expect("folder");
    let (uid, gid) =
        (std::os::unix::fs::MetadataExt::uid(&owner), std::os::unix::fs::MetadataExt::gid(&owner));
    let socket = |name: &str| SocketConfig { path: at.join(name), uid, gid };
    Settings {
        root: at.join("root"),
        state: at.join("state"),
        grpc: socket("d.sock"),
        ttrpc: socket("d.sock.ttrpc"),
        messages: Default::default(),
        debug: false,
        storage: Default::default(),
        tcp: None,
        metrics: None,
        debug_socket: None,
        adopt: None,
        restart_interval: std::time::Duration::from_secs(10),
        registry_hosts: None,
    }
}

/// Starts a server that ends with the returned sender.
pub async fn start(settings: Settings) -> oneshot::Sender<()> {
    let (stop, stopped) = oneshot::channel();
    let (ready, is_ready) = oneshot::channel();
    tokio::spawn(async move {
        let ready = || ready.send(()).expect("awaited");
        let stopped = async { drop(stopped.await) };
        serve(settings, ready, stopped).await.expect("serves");
    });
    is_ready.await.expect("becomes ready");
    stop
}

pub async fn connect(at: &Path) -> Channel {
    let path = at.join("d.sock");
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    Endpoint::from_static("http://unix").connect_with_connector(connector).await.expect("connect")
}

/// A channel over one stream; None if the other side ends it at once.
pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Option<Channel> {
    let stream = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = stream.lock().expect("lock").take();
        async move { stream.ok_or_else(|| std::io::Error::other("there is one stream only")) }
    });
    Endpoint::from_static("http://one").connect_with_connector(connector).await.ok()
}

pub fn within<T>(namespace: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", namespace.parse().expect("metadata"));
    request
}
