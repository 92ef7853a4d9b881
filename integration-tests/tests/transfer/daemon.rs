//! A lifecycle daemon of its own, and calls of its services.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
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
use wharf_failpoints::VARIABLE;
pub use wharf_integration_tests::SOON;
use wharf_integration_tests::{eventually, program};

pub struct Daemon {
    pub dir: TempDir,
    child: Child,
    channel: Channel,
    with_failpoints: bool,
}

/// A request in a namespace.
fn within<M>(namespace: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", namespace.parse().expect("a name"));
    request
}

impl Daemon {
    pub async fn start() -> Daemon {
        let dir = folder();
        let (child, channel) = spawn(dir.path(), &program("wharf-lifecycled"), None).await;
        Daemon { dir, child, channel, with_failpoints: false }
    }

    /// One built with failpoints, armed with a setting.
    pub async fn start_armed(setting: &str) -> Daemon {
        let dir = folder();
        let (child, channel) = spawn(dir.path(), &failpoints(), Some(setting)).await;
        Daemon { dir, child, channel, with_failpoints: true }
    }

    /// Starts the daemon on the same folders after it died, without any setting.
    pub async fn start_again(&mut self) {
        let program = if self.with_failpoints { failpoints() } else { program("wharf-lifecycled") };
        (self.child, self.channel) = spawn(self.dir.path(), &program, None).await;
    }

    /// Ends the daemon as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Waits for the daemon's end: the signal that it died of.
    pub fn await_death(&mut self) -> Option<i32> {
        let ended = eventually("the daemon dies", SOON, || self.child.try_wait().expect("wait"));
        ended.signal()
    }

    pub async fn remove_image(&self, namespace: &str, name: &str) {
        let mut client = images::images_client::ImagesClient::new(self.channel.clone());
        let request = images::DeleteImageRequest { name: name.to_owned(), ..Default::default() };
        client.delete(within(namespace, request)).await.expect("the image goes");
    }

    /// Deletes every lease and waits for the collection that follows.
    pub async fn remove_leases(&self, namespace: &str) {
        let mut client = leases::leases_client::LeasesClient::new(self.channel.clone());
        // a collection happens even if there is none
        let request = leases::CreateRequest { id: "last".to_owned(), ..Default::default() };
        client.create(within(namespace, request)).await.expect("a lease");
        for id in self.leases(namespace).await {
            let request = leases::DeleteRequest { id, sync: true };
            match client.delete(within(namespace, request)).await {
                // a transfer that has just ended takes its leases with it
                Err(gone) if gone.code() == tonic::Code::NotFound => {}
                outcome => drop(outcome.expect("the lease goes")),
            }
        }
    }

    /// Digests of the content store's records.
    pub async fn content(&self, namespace: &str) -> BTreeSet<String> {
        let mut client = content::content_client::ContentClient::new(self.channel.clone());
        let request = within(namespace, content::ListContentRequest::default());
        let mut answers = client.list(request).await.expect("a list").into_inner();
        let mut found = BTreeSet::new();
        while let Some(answer) = answers.message().await.expect("a list") {
            found.extend(answer.info.into_iter().map(|info| info.digest));
        }
        found
    }

    /// Every record has its file, every file its record, and each blob is what its name says. What a lease held that
    /// has just ended may be on its way out.
    pub async fn assert_consistent(&self, namespace: &str) {
        let lib = self.dir.path().join("lib");
        let deadline = std::time::Instant::now() + SOON;
        loop {
            let blobs = names(&lib.join("content/blobs/sha256"));
            for name in &blobs {
                let Ok(bytes) = fs::read(lib.join("content/blobs/sha256").join(name)) else { continue };
                assert_eq!(wharf_vocab::Digest::sha256(&bytes).hex(), name, "a blob is damaged");
            }
            let blobs: BTreeSet<String> = blobs.into_iter().map(|name| format!("sha256:{name}")).collect();
            let folders = names(&lib.join("snapshots/overlay"));
            let folders = folders.iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit())).count();
            let content = self.content(namespace).await;
            let snapshots = self.snapshots(namespace, "overlayfs").await.len();
            if content == blobs && snapshots == folders {
                return;
            }
            let found = format!("{content:?} and {blobs:?}, {snapshots} and {folders} snapshots");
            assert!(std::time::Instant::now() < deadline, "{found}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Neither records nor files are left.
    pub async fn assert_empty(&self, namespace: &str) {
        self.await_nothing_left(namespace).await;
        let lib = self.dir.path().join("lib");
        for folder in ["content/blobs/sha256", "content/ingest", "snapshots/overlay"] {
            eventually(&format!("{folder} is empty"), SOON, || {
                names(&lib.join(folder)).is_empty().then_some(())
            });
        }
        assert_eq!(self.content(namespace).await, BTreeSet::new());
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
            fs::create_dir_all(&target).expect("a folder");
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

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn folder() -> TempDir {
    assert!(rustix::process::geteuid().is_root(), "this test needs root: run `make test`");
    tempfile::Builder::new().prefix("wt").rand_bytes(6).tempdir().expect("a temporary folder")
}

/// The daemon with failpoints, which stands beside the one without.
fn failpoints() -> PathBuf {
    let ours = program("wharf-lifecycled");
    let daemon = ours.parent().expect("a folder").with_file_name("failpoints").join("wharf-lifecycled");
    assert!(daemon.exists(), "{} does not exist: run `make test`", daemon.display());
    daemon
}

async fn spawn(dir: &Path, program: &Path, armed: Option<&str>) -> (Child, Channel) {
    let socket = dir.join("d.sock");
    let mut command = Command::new(program);
    command.arg("--root").arg(dir.join("lib")).arg("--state").arg(dir.join("run"));
    command.arg("--address").arg(&socket).env_remove(VARIABLE);
    if let Some(setting) = armed {
        command.env(VARIABLE, setting);
    }
    let log = File::options().create(true).append(true).open(dir.join("daemon.log")).expect("a log file");
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
    let child = child.expect("the daemon starts");
    eventually("the daemon serves", SOON, || std::os::unix::net::UnixStream::connect(&socket).ok());
    let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).expect("an address");
    (child, endpoint.connect().await.expect("a connection"))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
