//! A containerd of its own for each test: the image service runs on anything that speaks its API.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine_backend::{Backend, BackendConfig};
use engine_core::events::EventBus;
use engine_core::usage::ImageUsage;
use engine_images::{Images, ImagesConfig, LoadError, LoadRequest, Progress};
use tempfile::TempDir;
use tokio::sync::mpsc;
use wharf_registry::Retry;

pub struct Stack {
    pub images: Images,
    pub backend: Backend,
    pub events: EventBus,
    pub usage: ImageUsage,
    child: Child,
    pub dir: TempDir,
}

impl Stack {
    pub async fn start() -> Stack {
        assert!(rustix::process::geteuid().is_root(), "this test needs root: containerd mounts overlays");
        let dir = TempDir::with_prefix("wharf-images-").unwrap();
        let path = dir.path();
        let config = format!(
            "version = 2\nroot = {root:?}\nstate = {state:?}\ndisabled_plugins = [{disabled}]\n[grpc]\naddress = {socket:?}\n",
            root = path.join("root"),
            state = path.join("state"),
            socket = path.join("c.sock"),
            disabled = [
                "io.containerd.grpc.v1.cri",
                "io.containerd.snapshotter.v1.btrfs",
                "io.containerd.snapshotter.v1.zfs"
            ]
            .map(|p| format!("{p:?}"))
            .join(","),
        );
        fs::write(path.join("config.toml"), config).unwrap();
        let log = fs::File::create(path.join("log")).unwrap();
        let child = Command::new("containerd")
            .arg("--config")
            .arg(path.join("config.toml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Debian's containerd is installed");
        let backend = Backend::new(BackendConfig {
            address: path.join("c.sock"),
            namespace: "wharf-test".into(),
            snapshotter: "overlayfs".into(),
            patience: Duration::from_secs(30),
        })
        .unwrap();
        backend.namespace_ensure().await.unwrap();
        let (events, usage) = (EventBus::new(), ImageUsage::default());
        let images = images(&backend, path, &events, &usage);
        Stack { images, backend, events, usage, child, dir }
    }

    /// The service as a daemon that was started again has it.
    pub fn started_again(&self) -> Images {
        images(&self.backend, self.dir.path(), &self.events, &self.usage)
    }

    /// Runs an operation and returns its lines, one JSON object each, as a client gets them.
    pub async fn watch<E>(
        &self,
        run: impl AsyncFnOnce(&Images, &Progress) -> Result<(), E>,
    ) -> (Vec<String>, Result<(), E>) {
        let (progress, mut lines) = Progress::channel();
        let collect = async {
            let mut all = Vec::new();
            while let Some(line) = lines.recv().await {
                all.push(String::from_utf8(line.to_line()).unwrap().trim_end().to_owned());
            }
            all
        };
        let work = async {
            let done = run(&self.images, &progress).await;
            drop(progress);
            done
        };
        tokio::join!(collect, work)
    }

    pub async fn load(&self, archive: &[u8]) -> (Vec<String>, Result<(), LoadError>) {
        let (sender, receiver) = mpsc::channel(4);
        let archive = Bytes::copy_from_slice(archive);
        let feed = async move {
            for at in (0..archive.len()).step_by(60_000) {
                let chunk = archive.slice(at..archive.len().min(at + 60_000));
                if sender.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
        };
        let request = LoadRequest { archive: receiver, platform: None, quiet: true };
        let load = self.watch(async |images, progress| images.load(request, progress).await);
        tokio::join!(feed, load).1
    }

    /// Waits until the collector has taken what nothing holds.
    pub async fn is_empty_of_content(&self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            // an empty lease that goes away makes the collector run
            let lease = self.backend.lease_create("sweep", &Default::default(), None).await.unwrap();
            self.backend.lease_delete(&lease, true).await.unwrap();
            let content = self.backend.content_list(&[]).await.unwrap();
            let snapshots = self.backend.snapshot_list(&[]).await.unwrap();
            if content.is_empty() && snapshots.is_empty() {
                return true;
            }
            if Instant::now() > deadline {
                eprintln!("left: {content:?} {snapshots:?}");
                return false;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn images(backend: &Backend, path: &Path, events: &EventBus, usage: &ImageUsage) -> Images {
    let config = ImagesConfig {
        backend: backend.clone(),
        registry: wharf_registry::Config {
            retry: Retry { attempts: 3, delay: Duration::from_millis(1) },
            ..wharf_registry::Config::default()
        },
        max_downloads: 3,
        state: path.join("images"),
    };
    Images::new(config, events.clone(), usage.clone()).unwrap()
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
