//! A lifecycle daemon of its own, and calls of its services.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use prost::Message;
use prost_types::Any;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use wharf_containerd::containerd::services::content::v1 as content;
use wharf_containerd::containerd::services::images::v1 as images;
use wharf_containerd::containerd::services::leases::v1 as leases;
use wharf_containerd::containerd::services::snapshots::v1 as snapshots;
use wharf_containerd::containerd::services::streaming::v1 as streaming;
use wharf_containerd::containerd::services::transfer::v1 as transfer;
use wharf_containerd::to_any;
use wharf_integration_tests::{eventually, program};

/// Generous: the machine may be busy with other tests.
pub const SOON: Duration = Duration::from_secs(20);

pub struct Daemon {
    pub dir: TempDir,
    child: Child,
    channel: Channel,
}

/// A request in a namespace.
fn within<M>(namespace: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", namespace.parse().expect("a name"));
    request
}

impl Daemon {
    pub async fn start() -> Daemon {
        assert!(rustix::process::geteuid().is_root(), "this test needs root: run `make test`");
        let dir = tempfile::Builder::new().prefix("wt").rand_bytes(6).tempdir().expect("a temporary folder");
        let socket = dir.path().join("d.sock");
        let mut command = Command::new(program("wharf-lifecycled"));
        command.arg("--root").arg(dir.path().join("lib")).arg("--state").arg(dir.path().join("run"));
        command.arg("--address").arg(&socket);
        let log = File::create(dir.path().join("daemon.log")).expect("a log file");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.expect("the daemon starts");
        eventually("the daemon serves", SOON, || std::os::unix::net::UnixStream::connect(&socket).ok());
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).expect("an address");
        let channel = endpoint.connect().await.expect("a connection");
        Daemon { dir, child, channel }
    }

    pub async fn transfer(
        &self,
        namespace: &str,
        (from_name, from): (&str, impl Message),
        (to_name, to): (&str, impl Message),
    ) -> Result<(), Status> {
        let full = |name: &str| format!("containerd.types.transfer.{name}");
        let request = transfer::TransferRequest {
            source: Some(to_any(&full(from_name), &from)),
            destination: Some(to_any(&full(to_name), &to)),
            options: None,
        };
        let mut client = transfer::transfer_client::TransferClient::new(self.channel.clone());
        client.transfer(within(namespace, request)).await.map(drop)
    }

    /// Opens a stream under a name; it is known when this returns.
    pub async fn stream(&self, namespace: &str, name: &str) -> (mpsc::Sender<Any>, Streaming<Any>) {
        let (send, outgoing) = mpsc::channel(16);
        let init = streaming::StreamInit { id: name.to_owned() };
        send.send(to_any("containerd.services.streaming.v1.StreamInit", &init)).await.expect("room");
        let mut client = streaming::streaming_client::StreamingClient::new(self.channel.clone());
        let request = within(namespace, ReceiverStream::new(outgoing));
        let mut incoming = client.stream(request).await.expect("a stream").into_inner();
        incoming.message().await.expect("an answer").expect("it is acknowledged");
        (send, incoming)
    }

    /// Names and digests of the images.
    pub async fn images(&self, namespace: &str) -> Vec<(String, String)> {
        let mut client = images::images_client::ImagesClient::new(self.channel.clone());
        let request = within(namespace, images::ListImagesRequest::default());
        let found = client.list(request).await.expect("a list").into_inner().images;
        found.into_iter().map(|image| (image.name, image.target.expect("a target").digest)).collect()
    }

    /// Names of the snapshots with those of their parents.
    pub async fn snapshots(&self, namespace: &str, snapshotter: &str) -> Vec<(String, String)> {
        let mut client = snapshots::snapshots_client::SnapshotsClient::new(self.channel.clone());
        let request =
            snapshots::ListSnapshotsRequest { snapshotter: snapshotter.to_owned(), ..Default::default() };
        let mut answers = client.list(within(namespace, request)).await.expect("a list").into_inner();
        let mut found = Vec::new();
        while let Some(answer) = answers.message().await.expect("a list") {
            found.extend(answer.info.into_iter().map(|info| (info.name, info.parent)));
        }
        found
    }

    pub async fn ingests(&self, namespace: &str) -> Vec<(String, i64)> {
        let mut client = content::content_client::ContentClient::new(self.channel.clone());
        let request = within(namespace, content::ListStatusesRequest::default());
        let found = client.list_statuses(request).await.expect("a list").into_inner().statuses;
        found.into_iter().map(|status| (status.r#ref, status.offset)).collect()
    }

    pub async fn leases(&self, namespace: &str) -> Vec<String> {
        let mut client = leases::leases_client::LeasesClient::new(self.channel.clone());
        let request = within(namespace, leases::ListRequest::default());
        let found = client.list(request).await.expect("a list").into_inner().leases;
        found.into_iter().map(|lease| lease.id).collect()
    }

    /// Waits until nothing of an operation is left.
    pub async fn await_nothing_left(&self, namespace: &str) {
        let deadline = std::time::Instant::now() + SOON;
        loop {
            let mut left = self.leases(namespace).await;
            left.extend(self.ingests(namespace).await.into_iter().map(|(name, _)| name));
            for kind in ["overlayfs", "native"] {
                left.extend(self.snapshots(namespace, kind).await.into_iter().map(|(name, _)| name));
            }
            if left.is_empty() {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "left behind: {left:?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Calls `check` with the tree of the only image that is unpacked in the namespace.
    pub async fn with_tree(
        &self,
        namespace: &str,
        snapshotter: &str,
        layers: usize,
        check: impl FnOnce(&Path),
    ) {
        let found = self.snapshots(namespace, snapshotter).await;
        assert_eq!(found.len(), layers, "{found:?}");
        let is_parent = |name: &String| found.iter().any(|(_, parent)| parent == name);
        let mut tops = found.iter().map(|(name, _)| name).filter(|name| !is_parent(name));
        let (top, more) = (tops.next().expect("a top"), tops.next());
        assert!(more.is_none(), "{found:?}");
        let mut client = snapshots::snapshots_client::SnapshotsClient::new(self.channel.clone());
        let request = snapshots::ViewSnapshotRequest {
            snapshotter: snapshotter.to_owned(),
            key: "check".to_owned(),
            parent: top.clone(),
            // nothing else keeps it from being collected
            labels: [("containerd.io/gc.root".to_owned(), "now".to_owned())].into(),
        };
        let mounts = client.view(within(namespace, request)).await.expect("a view").into_inner().mounts;
        let [one] = mounts.as_slice() else { panic!("{mounts:?}") };
        if one.r#type == "bind" {
            check(Path::new(&one.source));
        } else {
            let target = self.dir.path().join(format!("tree-{namespace}"));
            fs::create_dir(&target).expect("a folder");
            let options = std::ffi::CString::new(one.options.join(",")).expect("options");
            mount(&one.source, &target, &one.r#type, MountFlags::RDONLY, options.as_c_str()).expect("mount");
            check(&target);
            unmount(&target, UnmountFlags::DETACH).expect("unmount");
        }
        let request =
            snapshots::RemoveSnapshotRequest { snapshotter: snapshotter.to_owned(), key: "check".to_owned() };
        client.remove(within(namespace, request)).await.expect("the view goes");
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("daemon.log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
