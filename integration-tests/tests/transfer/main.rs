//! The Transfer service of wharf-lifecycled, driven by the generated gRPC client against Debian's registry.

mod daemon;
mod interop;
mod killed;
mod kinds;
mod layout;
mod proxy;
mod registries;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use prost::Message as _;
use tonic::Code;
use wharf_containerd::containerd::types::Platform;
use wharf_containerd::containerd::types::transfer::{
    Data, ImageExportStream, ImageImportStream, ImageReference, ImageStore, OciRegistry, RegistryResolver,
    UnpackConfiguration, WindowUpdate,
};
use wharf_containerd::to_any;
use wharf_integration_tests::registry::Registry;

use self::daemon::{Daemon, SOON};
use self::layout::Layout;
use self::proxy::Proxy;

const NAMESPACE: &str = "one";
const LAYERS: usize = 4;

/// A daemon and a registry that has the image as `wharf/layers:latest`.
struct Setup {
    daemon: Daemon,
    registry: Registry,
    layout: Layout,
}

impl Setup {
    async fn start(is_wrong: bool) -> Setup {
        Setup::with(Daemon::start().await, is_wrong)
    }

    /// With a daemon that has failpoints.
    async fn start_armed(setting: &str) -> Setup {
        Setup::with(Daemon::start_armed(setting).await, false)
    }

    fn with(daemon: Daemon, is_wrong: bool) -> Setup {
        let dir = daemon.dir.path();
        let registry = Registry::start(dir);
        let layout = layout::write(&dir.join("layout"), is_wrong);
        let copied = Command::new("skopeo")
            .args(["copy", "--insecure-policy", "--dest-tls-verify=false", "--preserve-digests"])
            .arg(format!("oci:{}:latest", dir.join("layout").display()))
            .arg(format!("docker://127.0.0.1:{}/wharf/layers:latest", registry.port))
            .output()
            .expect("skopeo is installed");
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        Setup { daemon, registry, layout }
    }

    fn reference(&self) -> String {
        format!("127.0.0.1:{}/wharf/layers:latest", self.registry.port)
    }

    async fn pull(
        &self,
        reference: &str,
        resolver: RegistryResolver,
        kind: &str,
    ) -> Result<(), tonic::Status> {
        let from = OciRegistry { reference: reference.to_owned(), resolver: Some(resolver) };
        self.daemon.transfer(NAMESPACE, ("OCIRegistry", from), ("ImageStore", store(reference, kind))).await
    }
}

/// Gives what an archive holds the names that it has there, below those of this reference.
fn prefixed(reference: &str) -> ImageStore {
    let prefix = ImageReference {
        name: reference.trim_end_matches(":latest").to_owned(),
        is_prefix: true,
        ..Default::default()
    };
    ImageStore { extra_references: vec![prefix], ..store("", "") }
}

fn store(name: &str, snapshotter: &str) -> ImageStore {
    let unpack = UnpackConfiguration { platform: None, snapshotter: snapshotter.to_owned() };
    ImageStore { name: name.to_owned(), unpacks: vec![unpack], ..Default::default() }
}

/// What the registry says the tag's digest is.
fn inspected(reference: &str) -> String {
    let output = Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"])
        .arg(format!("docker://{reference}"))
        .output()
        .expect("skopeo is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What of an image goes into an archive.
#[derive(Clone, Debug)]
enum Exported {
    /// The host's platform.
    Host,
    All,
    Only(Platform),
    WithoutForeign,
    /// All of it and of these images.
    With(Vec<String>),
}

/// Takes an archive off a stream while the daemon writes it.
async fn export(setup: &Setup, name: &str) -> Vec<u8> {
    export_as(setup, NAMESPACE, name, Exported::Host).await
}

async fn export_as(setup: &Setup, namespace: &str, name: &str, what: Exported) -> Vec<u8> {
    let (leave, mut pieces) = setup.daemon.stream(namespace, "export").await;
    let receive = async {
        let mut archive = Vec::new();
        let mut window = 0;
        loop {
            if window <= 0 {
                let update = WindowUpdate { update: 256 << 10 };
                let _ = leave.send(to_any("containerd.types.transfer.WindowUpdate", &update)).await;
                window += 256 << 10;
            }
            let Some(piece) = pieces.message().await.expect("a piece") else { return archive };
            let data = Data::decode(piece.value.as_slice()).expect("data").data;
            window -= i64::try_from(data.len()).expect("small");
            assert!(window >= 0, "no more is sent than there is leave for");
            archive.extend(data);
        }
    };
    let mut from = ImageStore { name: name.to_owned(), ..Default::default() };
    let mut to = ImageExportStream { stream: "export".to_owned(), ..Default::default() };
    match what {
        Exported::Host => {}
        Exported::All => to.all_platforms = true,
        Exported::Only(platform) => to.platforms.push(platform),
        Exported::WithoutForeign => (to.all_platforms, to.skip_non_distributable) = (true, true),
        Exported::With(names) => {
            to.all_platforms = true;
            let extra = |name| ImageReference { name, ..Default::default() };
            from.extra_references = names.into_iter().map(extra).collect();
        }
    }
    let sending = setup.daemon.transfer(namespace, ("ImageStore", from), ("ImageExportStream", to));
    let (sent, archive) = tokio::join!(sending, receive);
    sent.expect("the export");
    archive
}

async fn import(setup: &Setup, namespace: &str, archive: &[u8], to: ImageStore) -> Result<(), tonic::Status> {
    import_as(setup, namespace, archive, to, false).await
}

/// Plain layers are compressed if that is asked for.
async fn import_as(
    setup: &Setup,
    namespace: &str,
    archive: &[u8],
    to: ImageStore,
    compress: bool,
) -> Result<(), tonic::Status> {
    let (pieces, mut updates) = setup.daemon.stream(namespace, "import").await;
    let send = async move {
        let mut window = 0;
        for piece in archive.chunks(32 << 10) {
            while window < i64::try_from(piece.len()).expect("small") {
                let Ok(Some(update)) = updates.message().await else { return };
                window += i64::from(WindowUpdate::decode(update.value.as_slice()).expect("an update").update);
            }
            window -= i64::try_from(piece.len()).expect("small");
            let data = to_any("containerd.types.transfer.Data", &Data { data: piece.to_vec() });
            if pieces.send(data).await.is_err() {
                return;
            }
        }
        // letting go of the answers cancels the stream, and with it what has not been transmitted yet
        drop(pieces);
        while let Ok(Some(_)) = updates.message().await {}
    };
    let from =
        ImageImportStream { stream: "import".to_owned(), force_compress: compress, ..Default::default() };
    let receiving = setup.daemon.transfer(namespace, ("ImageImportStream", from), ("ImageStore", to));
    tokio::join!(send, receiving).1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_an_image_goes_from_registry_to_registry_and_through_an_archive() {
    let setup = Setup::start(false).await;
    let (daemon, digest) = (&setup.daemon, setup.layout.manifest.clone());
    let reference = setup.reference();
    setup.pull(&reference, RegistryResolver::default(), "").await.expect("the pull");
    assert_eq!(daemon.images(NAMESPACE).await, [(reference.clone(), digest.clone())]);
    assert_eq!(daemon.ingests(NAMESPACE).await, []);
    daemon.with_tree(NAMESPACE, "overlayfs", LAYERS, layout::check).await;

    let other = format!("127.0.0.1:{}/other/name:v1", setup.registry.port);
    let from = ImageStore { name: reference.clone(), ..Default::default() };
    let to = OciRegistry { reference: other.clone(), resolver: None };
    daemon.transfer(NAMESPACE, ("ImageStore", from), ("OCIRegistry", to)).await.expect("the push");
    assert_eq!(inspected(&other), digest);

    let archive = export(&setup, &reference).await;
    import(&setup, "two", &archive, prefixed(&reference)).await.expect("the import");
    assert_eq!(daemon.images("two").await, [(reference, digest)]);
    daemon.with_tree("two", "overlayfs", LAYERS, layout::check).await;
    let cut = import(&setup, "three", &archive[..archive.len() / 2], store("cut", "")).await;
    assert!(cut.is_err(), "half an archive is none");
    daemon.await_nothing_left("three").await;
    assert_eq!(daemon.images("three").await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_one_image_is_pulled_under_several_names_at_once() {
    let setup = Setup::start(false).await;
    let digest = setup.layout.manifest.clone();
    let tagged = setup.reference();
    let pinned = format!("127.0.0.1:{}/wharf/layers@{digest}", setup.registry.port);
    let resolver = RegistryResolver::default;
    let pulls = tokio::join!(
        setup.pull(&tagged, resolver(), ""),
        setup.pull(&pinned, resolver(), ""),
        setup.pull(&tagged, resolver(), ""),
        setup.pull(&pinned, resolver(), ""),
    );
    for pulled in [pulls.0, pulls.1, pulls.2, pulls.3] {
        pulled.expect("each pull");
    }
    let mut images = setup.daemon.images(NAMESPACE).await;
    images.sort();
    assert_eq!(images, [(tagged, digest.clone()), (pinned, digest)]);
    setup.daemon.with_tree(NAMESPACE, "overlayfs", LAYERS, layout::check).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_native_snapshots_are_unpacked_one_upon_the_other() {
    let setup = Setup::start(false).await;
    setup.pull(&setup.reference(), RegistryResolver::default(), "native").await.expect("the pull");
    assert_eq!(setup.daemon.snapshots(NAMESPACE, "overlayfs").await, []);
    setup.daemon.with_tree(NAMESPACE, "native", LAYERS, layout::check).await;
    // the same content into the other kind, from what is here
    let name = setup.reference();
    let from = ImageStore { name: name.clone(), ..Default::default() };
    let tagged =
        setup.daemon.transfer(NAMESPACE, ("ImageStore", from), ("ImageStore", store("again", "overlayfs")));
    tagged.await.expect("the second unpacking");
    setup.daemon.with_tree(NAMESPACE, "overlayfs", LAYERS, layout::check).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_layers_that_are_not_what_they_should_be_leave_nothing() {
    let wrong = Setup::start(true).await;
    for kind in ["overlayfs", "native"] {
        let refused = wrong
            .pull(&wrong.reference(), RegistryResolver::default(), kind)
            .await
            .expect_err("a wrong DiffID");
        assert!(refused.message().contains(&wrong.layout.last_layer), "{refused:?}");
        wrong.daemon.await_nothing_left(NAMESPACE).await;
        assert_eq!(wrong.daemon.images(NAMESPACE).await, []);
    }

    let cut = Setup::start(false).await;
    let hex = &cut.layout.last_layer["sha256:".len()..];
    let blobs = "registry/docker/registry/v2/blobs/sha256";
    let blob = cut.daemon.dir.path().join(blobs).join(&hex[..2]).join(hex).join("data");
    let whole = fs::read(&blob).expect("the registry's blob");
    fs::write(&blob, &whole[..whole.len() / 2]).expect("half of it");
    cut.pull(&cut.reference(), RegistryResolver::default(), "").await.expect_err("half a blob");
    cut.daemon.await_nothing_left(NAMESPACE).await;
    assert_eq!(cut.daemon.images(NAMESPACE).await, []);
    fs::write(&blob, &whole).expect("all of it");
    cut.pull(&cut.reference(), RegistryResolver::default(), "").await.expect("the blob is mended");
    cut.daemon.with_tree(NAMESPACE, "overlayfs", LAYERS, layout::check).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_a_cancelled_pull_can_be_repeated() {
    let setup = Setup::start(false).await;
    let proxy = Proxy::start(setup.registry.port, 2 << 20);
    let reference = format!("127.0.0.1:{}/wharf/layers:latest", proxy.port);
    {
        let pull = setup.pull(&reference, RegistryResolver::default(), "");
        let held = async {
            let large = format!("layer-{}", setup.layout.last_layer);
            let deadline = std::time::Instant::now() + SOON;
            while !(proxy.holds()
                && setup.daemon.ingests(NAMESPACE).await.iter().any(|(name, _)| *name == large))
            {
                assert!(std::time::Instant::now() < deadline, "{:?}", setup.daemon.ingests(NAMESPACE).await);
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            ended = pull => panic!("it ended while the layer was held back: {ended:?}"),
            () = held => {}
        }
    }
    // what came is kept for the next
    let large = format!("layer-{}", setup.layout.last_layer);
    let left = setup.daemon.ingests(NAMESPACE).await;
    assert!(left.iter().any(|(name, _)| *name == large), "{left:?}");
    assert_eq!(setup.daemon.images(NAMESPACE).await, []);
    proxy.open();
    setup.pull(&reference, RegistryResolver::default(), "").await.expect("the second pull");
    assert_eq!(setup.daemon.images(NAMESPACE).await, [(reference, setup.layout.manifest.clone())]);
    registries::assert_resumed(&proxy, &setup.layout);
    registries::await_no_lease(&setup.daemon).await;
    setup.daemon.with_tree(NAMESPACE, "overlayfs", LAYERS, layout::check).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_what_a_request_says_is_honoured_or_refused_by_name() {
    let setup = Setup::start(false).await;
    let proxy = Proxy::start(setup.registry.port, i64::MAX);
    let reference = format!("127.0.0.1:{}/wharf/layers:latest", proxy.port);
    let plain = RegistryResolver::default;
    let header = |name: &str, value: &str| HashMap::from([(name.to_owned(), value.to_owned())]);
    let hosts = setup.daemon.dir.path().join("hosts");
    let host = hosts.join(format!("127.0.0.1:{}", proxy.port));
    fs::create_dir_all(&host).expect("a folder");
    let folder = |path: &Path| path.to_string_lossy().into_owned();

    let refused = |resolver, kind| {
        let (setup, reference) = (&setup, &reference);
        async move { setup.pull(reference, resolver, kind).await.expect_err("a refusal") }
    };
    let error = refused(plain(), "zfs").await;
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("snapshotter") && error.message().contains("zfs"), "{error:?}");
    let error = refused(RegistryResolver { headers: header("not a header", "x"), ..plain() }, "").await;
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("headers"), "{error:?}");
    let error = refused(RegistryResolver { default_scheme: "ftp".into(), ..plain() }, "").await;
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("default_scheme"), "{error:?}");
    let error = refused(RegistryResolver { host_dir: "relative".into(), ..plain() }, "").await;
    assert_eq!(error.code(), Code::InvalidArgument);
    fs::write(host.join("hosts.toml"), "server = [").expect("a file");
    let error = refused(RegistryResolver { host_dir: folder(&hosts), ..plain() }, "").await;
    assert!(error.message().contains("hosts.toml"), "{error:?}");
    assert_eq!(proxy.asked(), "", "nothing was sent before it was refused");
    fs::remove_file(host.join("hosts.toml")).expect("the file goes");

    let headers = header("X-Wharf-Test", "seen");
    let resolver = RegistryResolver { headers, host_dir: folder(&hosts), ..plain() };
    setup.pull(&reference, resolver, "").await.expect("the pull");
    let asked = proxy.asked();
    let (requests, headers) =
        (asked.matches(" http/1.1\r\n").count(), asked.matches("x-wharf-test: seen\r\n").count());
    assert!(requests > LAYERS, "{asked}");
    assert_eq!(headers, requests, "{asked}");
}
