//! Images of every kind: compressions, foreign layers, attestations, several platforms, several images in one archive.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use serde_json::{Value, json};
use tonic::Code;
use wharf_containerd::containerd::types::Platform;
use wharf_containerd::containerd::types::transfer::{ImageStore, OciRegistry, RegistryResolver};

use crate::interop::{extracted, json_of};
use crate::layout::{Layer, digest, gzip};
use crate::{Exported, NAMESPACE, Setup, export_as, import, import_as, inspected, prefixed, store};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";

/// An OCI layout in the making.
pub struct Blobs(PathBuf);

impl Blobs {
    pub fn new(folder: PathBuf) -> Blobs {
        fs::create_dir_all(folder.join("blobs/sha256")).expect("a folder");
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a file");
        Blobs(folder)
    }

    pub fn put(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        fs::write(self.file(&digest), bytes).expect("a blob");
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    }

    pub fn file(&self, digest: &str) -> PathBuf {
        self.0.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    fn document(&self, kind: &str, document: Value) -> Value {
        self.put(kind, document.to_string().as_bytes())
    }

    /// An image for a platform of these layers, each with its plain bytes.
    fn image(&self, architecture: &str, layers: &[(Value, &[u8])]) -> Value {
        let diff_ids: Vec<String> = layers.iter().map(|(_, plain)| digest(plain)).collect();
        let config = json!({"architecture": architecture, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = self.document(CONFIG, config);
        let layers: Vec<&Value> = layers.iter().map(|(descriptor, _)| descriptor).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let mut manifest = self.document(MANIFEST, manifest);
        manifest["platform"] = json!({"architecture": architecture, "os": "linux"});
        manifest
    }

    /// One layer as it is.
    pub fn plain_image(&self, layer: &[u8]) -> Value {
        let descriptor = self.put("application/vnd.oci.image.layer.v1.tar", layer);
        self.image("amd64", &[(descriptor, layer)])
    }

    /// One gzip layer with a file.
    fn simple(&self, architecture: &str, file: &str) -> Value {
        let plain = Layer::new().file(file, architecture.as_bytes()).bytes();
        self.image(architecture, &[(self.put(GZIP, &gzip(&plain)), &plain)])
    }

    /// Writes the layout's index: entries by tag.
    pub fn finish(&self, entries: &[(&str, &Value)]) {
        let entries = entries.iter().map(|(tag, descriptor)| {
            let mut descriptor = (*descriptor).clone();
            descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
            descriptor
        });
        let index = json!({"schemaVersion": 2, "manifests": entries.collect::<Vec<_>>()});
        fs::write(self.0.join("index.json"), index.to_string()).expect("a file");
    }

    fn tar(&self) -> Vec<u8> {
        let mut out = tar::Builder::new(Vec::new());
        out.append_dir_all("", &self.0).expect("tar");
        out.into_inner().expect("tar")
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().expect("a string")
}

/// Copies a layout's tag into the registry as it is.
fn push(layout: &Path, tag: &str, reference: &str, all: bool) {
    let mut command = Command::new("skopeo");
    command.args(["copy", "--insecure-policy", "--dest-tls-verify=false", "--preserve-digests"]);
    if all {
        command.arg("--all");
    }
    command.arg(format!("oci:{}:{tag}", layout.display())).arg(format!("docker://{reference}"));
    let copied = command.output().expect("skopeo is installed");
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
}

fn amd64() -> Platform {
    Platform { os: "linux".into(), architecture: "amd64".into(), ..Default::default() }
}

/// An index of two platforms, and of what attests the first.
fn several(blobs: &Blobs) -> (Value, Value, Value, Value) {
    let ours = blobs.simple("amd64", "ours");
    let other = blobs.simple("riscv64", "other");
    let statement =
        blobs.put("application/vnd.in-toto+json", br#"{"_type":"https://in-toto.io/Statement/v0.1"}"#);
    let config = blobs.document(
        CONFIG,
        json!({"architecture": "unknown", "os": "unknown", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(b"statement")]}}),
    );
    let attests = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [statement]});
    let mut attests = blobs.document(MANIFEST, attests);
    attests["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    attests["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": ours["digest"]});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [&ours, &other, &attests]});
    (blobs.document(INDEX, index), ours, other, attests)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_one_platform_or_all_of_them_come_and_go() {
    let setup = Setup::start(false).await;
    let blobs = Blobs::new(setup.daemon.dir.path().join("several"));
    let (index, ours, other, attests) = several(&blobs);
    blobs.finish(&[("latest", &index)]);
    let reference = format!("127.0.0.1:{}/several/platforms:latest", setup.registry.port);
    push(&setup.daemon.dir.path().join("several"), "latest", &reference, true);
    assert_eq!(inspected(&reference), text(&index, "digest"));

    // one platform: neither the other nor what attests
    let from = || OciRegistry { reference: reference.clone(), resolver: Some(RegistryResolver::default()) };
    let one = ImageStore { platforms: vec![amd64()], ..store(&reference, "") };
    setup.daemon.transfer("one", ("OCIRegistry", from()), ("ImageStore", one)).await.expect("one platform");
    let here = setup.daemon.content("one").await;
    assert!(here.contains(text(&ours, "digest")) && !here.contains(text(&other, "digest")), "{here:?}");
    assert!(!here.contains(text(&attests, "digest")), "{here:?}");
    assert_eq!(here.len(), 4, "index, manifest, config, layer: {here:?}");
    setup.daemon.with_tree("one", "overlayfs", 1, |tree| assert!(tree.join("ours").exists())).await;
    let none = Platform { architecture: "s390x".into(), ..amd64() };
    let missing = ImageStore { platforms: vec![none], ..store(&reference, "") };
    let refused = setup.daemon.transfer("none", ("OCIRegistry", from()), ("ImageStore", missing)).await;
    assert_eq!(refused.expect_err("no such platform").code(), Code::NotFound);

    // all: everything comes, the host's is unpacked, and what attests never is
    setup
        .daemon
        .transfer("all", ("OCIRegistry", from()), ("ImageStore", store(&reference, "")))
        .await
        .expect("all");
    let all = setup.daemon.content("all").await;
    assert_eq!(all.len(), 10, "{all:?}");
    assert_eq!(setup.daemon.images("all").await, [(reference.clone(), text(&index, "digest").to_owned())]);
    setup.daemon.with_tree("all", "overlayfs", 1, |tree| assert!(tree.join("ours").exists())).await;

    // an index is pushed with everything it names
    let pushed = format!("127.0.0.1:{}/several/again:v1", setup.registry.port);
    let to = OciRegistry { reference: pushed.clone(), resolver: None };
    let image = || ImageStore { name: reference.clone(), ..Default::default() };
    setup.daemon.transfer("all", ("ImageStore", image()), ("OCIRegistry", to)).await.expect("the push");
    assert_eq!(inspected(&pushed), text(&index, "digest"));
    let again = OciRegistry { reference: pushed.clone(), resolver: Some(RegistryResolver::default()) };
    let to = store(&pushed, "");
    setup
        .daemon
        .transfer("back", ("OCIRegistry", again), ("ImageStore", to))
        .await
        .expect("all of it is there");
    assert_eq!(setup.daemon.content("back").await, all);

    // exported with all platforms and with one
    for (exported, blobs) in [(Exported::All, 10), (Exported::Only(amd64()), 4)] {
        let archive = export_as(&setup, "all", &reference, exported.clone()).await;
        let layout = extracted(&archive);
        let found = fs::read_dir(layout.path().join("blobs/sha256")).expect("blobs").count();
        assert_eq!(found, blobs, "{exported:?}");
        let listed = json_of(&layout.path().join("index.json"));
        assert_eq!(listed["manifests"][0]["digest"], index["digest"], "digests stay");
        let namespace = format!("import-{blobs}");
        import(&setup, &namespace, &archive, prefixed(&reference)).await.expect("the import");
        assert_eq!(setup.daemon.content(&namespace).await.len(), blobs + 1, "and the archive's own index");
        setup.daemon.with_tree(&namespace, "overlayfs", 1, |tree| assert!(tree.join("ours").exists())).await;
    }
}

/// Serves one blob to whoever asks, as a publisher does.
fn publisher(bytes: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let mut head = Vec::new();
            let mut byte = [0; 1];
            while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|n| n == 1) {
                head.push(byte[0]);
            }
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
            let _ = client.write_all(answer.as_bytes()).and_then(|()| client.write_all(&bytes));
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_foreign_layers_come_from_their_publisher_and_stay_there() {
    let setup = Setup::start(false).await;
    let folder = setup.daemon.dir.path().join("foreign");
    let blobs = Blobs::new(folder.clone());
    let (base, own) =
        (Layer::new().file("base", b"foreign").bytes(), Layer::new().file("own", b"own").bytes());
    let packed = gzip(&base);
    let port = publisher(packed.clone());
    let mut foreign = blobs.put(FOREIGN, &packed);
    foreign["urls"] = json!([format!("http://127.0.0.1:{port}/base")]);
    let layer = blobs.put(GZIP, &gzip(&own));
    let image = blobs.image("amd64", &[(foreign.clone(), &base), (layer, &own)]);
    blobs.finish(&[("latest", &image)]);
    fs::remove_file(blobs.file(text(&foreign, "digest"))).expect("the publisher alone has it");
    let reference = format!("127.0.0.1:{}/foreign/layers:latest", setup.registry.port);
    push(&folder, "latest", &reference, false);

    setup.pull(&reference, RegistryResolver::default(), "").await.expect("the pull");
    setup
        .daemon
        .with_tree(NAMESPACE, "overlayfs", 2, |tree| {
            assert_eq!(fs::read(tree.join("base")).expect("a file"), b"foreign");
            assert_eq!(fs::read(tree.join("own")).expect("a file"), b"own");
        })
        .await;
    let pushed = format!("127.0.0.1:{}/foreign/again:v1", setup.registry.port);
    let to = OciRegistry { reference: pushed.clone(), resolver: None };
    let from = ImageStore { name: reference.clone(), ..Default::default() };
    setup.daemon.transfer(NAMESPACE, ("ImageStore", from), ("OCIRegistry", to)).await.expect("the push");
    assert_eq!(inspected(&pushed), text(&image, "digest"));
    let hex = text(&foreign, "digest").trim_start_matches("sha256:");
    let stored = setup.daemon.dir.path().join("registry/docker/registry/v2/blobs/sha256");
    assert!(!stored.join(&hex[..2]).join(hex).exists(), "it is not pushed along");
    let count =
        |archive: &[u8]| fs::read_dir(extracted(archive).path().join("blobs/sha256")).expect("blobs").count();
    assert_eq!(count(&export_as(&setup, NAMESPACE, &reference, Exported::All).await), 4);
    let without = export_as(&setup, NAMESPACE, &reference, Exported::WithoutForeign).await;
    assert_eq!(count(&without), 3, "left out when that is asked for");
}

/// An archive as `docker save` wrote it before layouts: plain layers, two images that share one, three names.
fn docker_archive() -> (Vec<u8>, BTreeMap<&'static str, String>) {
    let (shared, own) = (Layer::new().file("shared", b"1").bytes(), Layer::new().file("own", b"2").bytes());
    let config = |layers: &[&[u8]]| {
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}})
            .to_string()
    };
    let (first, second) = (config(&[&shared]), config(&[&shared, &own]));
    let manifest = json!([
        {"Config": "first.json", "RepoTags": ["several/first:1", "several/first:latest"], "Layers": ["a/layer.tar"]},
        {"Config": "second.json", "RepoTags": ["several/second:2"], "Layers": ["b/layer.tar", "c/layer.tar"]},
    ]);
    let mut out = tar::Builder::new(Vec::new());
    let manifest = manifest.to_string();
    let files: [(&str, &[u8]); 5] = [
        ("first.json", first.as_bytes()),
        ("second.json", second.as_bytes()),
        ("a/layer.tar", &shared),
        ("c/layer.tar", &own),
        ("manifest.json", manifest.as_bytes()),
    ];
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        out.append_data(&mut header, path, bytes).expect("tar");
    }
    // docker writes a layer once and links to it
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    out.append_link(&mut header, "b/layer.tar", "../a/layer.tar").expect("tar");
    let digests = BTreeMap::from([("shared", digest(&shared)), ("own", digest(&own))]);
    (out.into_inner().expect("tar"), digests)
}

fn named(prefix: &str) -> ImageStore {
    prefixed(&format!("{prefix}:latest"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_archives_with_several_images_are_imported() {
    let setup = Setup::start(false).await;
    let (archive, digests) = docker_archive();
    let names = async |namespace: &str| {
        let mut names: Vec<String> =
            setup.daemon.images(namespace).await.into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    };
    let all = ["docker.io/several/first:1", "docker.io/several/first:latest", "docker.io/several/second:2"];
    // as it is, and compressed as a whole
    for (namespace, archive) in [("plain", archive.clone()), ("gzip", gzip(&archive))] {
        import(&setup, namespace, &archive, named("docker.io/several")).await.expect("the import");
        assert_eq!(names(namespace).await, all);
        let content = setup.daemon.content(namespace).await;
        assert!(digests.values().all(|digest| content.contains(digest)), "layers stay plain: {content:?}");
    }
    import_as(&setup, "packed", &archive, named("docker.io/several"), true).await.expect("the import");
    assert_eq!(names("packed").await, all);
    setup.daemon.remove_leases("packed").await;
    let content = setup.daemon.content("packed").await;
    assert!(!digests.values().any(|digest| content.contains(digest)), "layers were compressed: {content:?}");
    assert_eq!(content.len(), 2 + 2 + 2, "layers, configs, manifests: {content:?}");

    // the same images out and in again, in one archive
    let out = export_several(&setup, "plain", &all).await;
    let layout = extracted(&out);
    assert_eq!(json_of(&layout.path().join("index.json"))["manifests"].as_array().expect("entries").len(), 3);
    let manifest = json_of(&layout.path().join("manifest.json"));
    let tags: Vec<&Value> =
        manifest.as_array().expect("images").iter().map(|image| &image["RepoTags"]).collect();
    assert_eq!(tags, [&json!(["several/first:1", "several/first:latest"]), &json!(["several/second:2"])]);
    import(&setup, "again", &out, named("docker.io/several")).await.expect("the import");
    assert_eq!(setup.daemon.images("again").await, setup.daemon.images("plain").await, "digests stay");

    // an archive of a later layout is refused by its version
    let blobs = Blobs::new(setup.daemon.dir.path().join("later"));
    blobs.finish(&[("latest", &blobs.simple("amd64", "x"))]);
    fs::write(setup.daemon.dir.path().join("later/oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#)
        .expect("a file");
    let refused = import(&setup, "later", &blobs.tar(), named("x")).await.expect_err("a later version");
    assert!(refused.message().contains("unsupported OCI version 2.0.0"), "{refused:?}");
}

async fn export_several(setup: &Setup, namespace: &str, images: &[&str]) -> Vec<u8> {
    export_as(
        setup,
        namespace,
        images[0],
        Exported::With(images[1..].iter().map(|s| (*s).to_owned()).collect()),
    )
    .await
}
