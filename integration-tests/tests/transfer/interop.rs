//! Images that skopeo, umoci, buildah and docker made come in, and ours go to them; digests stay.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use wharf_containerd::containerd::types::transfer::{ImageStore, OciRegistry, RegistryResolver};
use wharf_integration_tests::eventually;

use crate::daemon::SOON;
use crate::kinds::Blobs;
use crate::layout::{self, Layer};
use crate::{Exported, LAYERS, Setup, export, export_as, import, inspected, prefixed, store};

/// Runs a program, which must succeed: what it printed.
fn ok(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn skopeo(arguments: &[&str]) -> String {
    ok(Command::new("skopeo").arg("--insecure-policy").args(arguments))
}

pub fn json_of(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON")
}

/// An archive's files.
pub fn extracted(archive: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    tar::Archive::new(archive).unpack(folder.path()).expect("tar");
    folder
}

/// A folder as an archive.
fn packed(folder: &Path) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    out.append_dir_all("", folder).expect("tar");
    out.into_inner().expect("tar")
}

/// Digests of the manifest and config that the only entry of a layout names.
fn digests(layout: &Path) -> (String, String) {
    let digest = |value: &Value| value["digest"].as_str().expect("a digest").to_owned();
    let manifest = digest(&json_of(&layout.join("index.json"))["manifests"][0]);
    let file = layout.join("blobs/sha256").join(manifest.trim_start_matches("sha256:"));
    let config = digest(&json_of(&file)["config"]);
    (manifest, config)
}

const NAME: &str = "docker.io/made/elsewhere:latest";

/// What comes in under a name is the manifest with this digest, and unpacks to the file `made`.
async fn comes_in(setup: &Setup, namespace: &str, archive: &[u8], manifest: Option<&str>, layers: usize) {
    import(setup, namespace, archive, prefixed(NAME)).await.expect(namespace);
    let images = setup.daemon.images(namespace).await;
    assert_eq!(images.len(), 1, "{images:?}");
    if let Some(manifest) = manifest {
        assert_eq!(images[0].1, manifest);
    }
    let is_made = |tree: &Path| assert_eq!(fs::read(tree.join("made")).expect("a file"), b"made elsewhere");
    setup.daemon.with_tree(namespace, "overlayfs", layers, is_made).await;
}

/// A layout of one plain layer with the file `made`; its tag is `latest`.
fn plain_layout(setup: &Setup) -> PathBuf {
    let folder = setup.daemon.dir.path().join("plain");
    let blobs = Blobs::new(folder.clone());
    let layer = Layer::new().file("made", b"made elsewhere").bytes();
    let image = blobs.plain_image(&layer);
    blobs.finish(&[("latest", &image)]);
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_images_of_skopeo_come_in_and_ours_go_to_it() {
    let setup = Setup::start(false).await;
    let dir = setup.daemon.dir.path();
    let text = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let plain = format!("oci:{}:latest", plain_layout(&setup).display());

    // as a layout, in gzip and zstd
    for format in ["gzip", "zstd"] {
        let to = format!("oci:{}:latest", text(format));
        skopeo(&["copy", "--dest-compress-format", format, &plain, &to]);
        let (manifest, _) = digests(&dir.join(format));
        let layer = json_of(&dir.join(format).join("blobs/sha256").join(&manifest["sha256:".len()..]));
        let kind = layer["layers"][0]["mediaType"].as_str().expect("a type").to_owned();
        assert!(kind.ends_with(format), "{kind}");
        comes_in(&setup, format, &packed(&dir.join(format)), Some(&manifest), 1).await;
    }
    skopeo(&["copy", &plain, &format!("oci-archive:{}:latest", text("a.tar"))]);
    let archive = fs::read(dir.join("a.tar")).expect("an archive");
    let (manifest, config) = digests(extracted(&archive).path());
    comes_in(&setup, "archive", &archive, Some(&manifest), 1).await;
    skopeo(&["copy", &plain, &format!("docker-archive:{}:made/elsewhere:latest", text("d.tar"))]);
    comes_in(&setup, "docker", &fs::read(dir.join("d.tar")).expect("an archive"), None, 1).await;

    // Docker's schema 2 and zstd from a registry
    let zstd = format!("oci:{}:latest", text("zstd"));
    for (namespace, option, from) in
        [("schema2", "--format=v2s2", &plain), ("zstd-registry", "--preserve-digests", &zstd)]
    {
        let reference = format!("127.0.0.1:{}/made/{namespace}:latest", setup.registry.port);
        skopeo(&["copy", "--dest-tls-verify=false", option, from, &format!("docker://{reference}")]);
        let from = OciRegistry { reference: reference.clone(), resolver: Some(RegistryResolver::default()) };
        let to = ("ImageStore", store(&reference, ""));
        setup.daemon.transfer(namespace, ("OCIRegistry", from), to).await.expect("the pull");
        let digest = inspected(&reference);
        assert_eq!(setup.daemon.images(namespace).await, [(reference.clone(), digest.clone())]);
        setup.daemon.with_tree(namespace, "overlayfs", 1, |tree| assert!(tree.join("made").exists())).await;
        // and back to a registry as it is
        let again = format!("{reference}-again");
        let to = OciRegistry { reference: again.clone(), resolver: None };
        let from = ImageStore { name: reference.clone(), ..Default::default() };
        setup.daemon.transfer(namespace, ("ImageStore", from), ("OCIRegistry", to)).await.expect("the push");
        assert_eq!(inspected(&again), digest);
        let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{again}")]);
        let wanted = if namespace == "schema2" { "docker.distribution.manifest.v2" } else { "tar+zstd" };
        assert!(raw.contains(wanted), "{raw}");
    }

    // ours, both ways that skopeo can read the archive
    let ours = ours(&setup).await;
    let from = format!("oci-archive:{}:latest", ours.display());
    assert_eq!(skopeo(&["inspect", "--format", "{{.Digest}}", &from]), setup.layout.manifest);
    let reference = format!("127.0.0.1:{}/ours/skopeo:latest", setup.registry.port);
    let to = format!("docker://{reference}");
    skopeo(&["copy", "--preserve-digests", "--dest-tls-verify=false", &from, &to]);
    assert_eq!(inspected(&reference), setup.layout.manifest);
    // to a folder, for which it does not write the config anew
    skopeo(&["copy", &format!("docker-archive:{}", ours.display()), &format!("dir:{}", text("back"))]);
    let (_, ours_config) = digests(extracted(&fs::read(&ours).expect("an archive")).path());
    assert_eq!(json_of(&dir.join("back/manifest.json"))["config"]["digest"], ours_config.as_str());
    assert_ne!(config, ours_config);
}

/// The archive of the image with several layers, pulled and exported by our daemon.
async fn ours(setup: &Setup) -> PathBuf {
    setup.pull(&setup.reference(), RegistryResolver::default(), "").await.expect("the pull");
    let archive = export(setup, &setup.reference()).await;
    assert_eq!(digests(extracted(&archive).path()).0, setup.layout.manifest);
    let file = setup.daemon.dir.path().join("ours.tar");
    fs::write(&file, archive).expect("a file");
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_images_of_umoci_come_in_and_ours_go_to_it() {
    let setup = Setup::start(false).await;
    let dir = setup.daemon.dir.path();
    let umoci = |arguments: &[&str]| ok(Command::new("umoci").args(arguments).current_dir(dir));
    umoci(&["init", "--layout", "made"]);
    umoci(&["new", "--image", "made:latest"]);
    umoci(&["unpack", "--image", "made:latest", "bundle"]);
    fs::write(dir.join("bundle/rootfs/made"), "made elsewhere").expect("a file");
    umoci(&["repack", "--image", "made:latest", "bundle"]);
    umoci(&["gc", "--layout", "made"]);
    let (manifest, _) = digests(&dir.join("made"));
    comes_in(&setup, "umoci", &packed(&dir.join("made")), Some(&manifest), 1).await;

    let layout = extracted(&fs::read(ours(&setup).await).expect("an archive"));
    let image = format!("{}:latest", layout.path().display());
    umoci(&["unpack", "--image", &image, "unpacked"]);
    layout::check(&dir.join("unpacked/rootfs"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_images_of_buildah_come_in_and_ours_go_to_it() {
    let setup = Setup::start(false).await;
    let dir = setup.daemon.dir.path();
    let text = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let (root, run) = (text("buildah"), text("buildah-run"));
    let buildah = |arguments: &[&str]| {
        let mut command = Command::new("buildah");
        command.args(["--root", &root, "--runroot", &run, "--storage-driver", "vfs"]);
        ok(command.args(arguments))
    };
    fs::write(dir.join("made"), "made elsewhere").expect("a file");
    let container = buildah(&["from", "scratch"]);
    buildah(&["copy", &container, &text("made"), "/made"]);
    let to = format!("oci-archive:{}:latest", text("o.tar"));
    buildah(&["commit", "--format", "oci", &container, &to]);
    let archive = fs::read(dir.join("o.tar")).expect("an archive");
    let (manifest, _) = digests(extracted(&archive).path());
    comes_in(&setup, "oci", &archive, Some(&manifest), 1).await;
    let to = format!("docker-archive:{}:made/elsewhere:latest", text("d.tar"));
    buildah(&["commit", "--format", "docker", &container, &to]);
    comes_in(&setup, "docker", &fs::read(dir.join("d.tar")).expect("an archive"), None, 1).await;

    let ours = ours(&setup).await;
    let from = buildah(&["from", &format!("oci-archive:{}:latest", ours.display())]);
    assert_eq!(buildah(&["inspect", "--format", "{{.FromImageDigest}}", &from]), setup.layout.manifest);
    let tree = buildah(&["mount", &from]);
    layout::check(Path::new(&tree));
    buildah(&["umount", &from]);
    buildah(&["rm", "--all"]);
}

/// Debian's dockerd without a network.
struct Docker {
    daemon: Child,
    dir: PathBuf,
}

impl Docker {
    fn start(dir: PathBuf) -> Docker {
        fs::create_dir(&dir).expect("a folder");
        let log = File::create(dir.join("log")).expect("a log file");
        let mut command = Command::new("dockerd");
        command.arg("--data-root").arg(dir.join("data")).arg("--exec-root").arg(dir.join("exec"));
        command.arg("-H").arg(format!("unix://{}", dir.join("sock").display()));
        command.arg("--pidfile").arg(dir.join("pid")).args(["--storage-driver", "vfs"]);
        command.args(["--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]);
        // its containerd ends with it
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let docker = Docker { daemon: command.spawn().expect("dockerd is installed"), dir };
        eventually("dockerd serves", SOON, || {
            docker.command(&["version"]).output().is_ok_and(|output| output.status.success()).then_some(())
        });
        docker
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_CONFIG", &self.dir);
        command.arg("-H").arg(format!("unix://{}", self.dir.join("sock").display())).args(arguments);
        command
    }

    fn ok(&self, arguments: &[&str]) -> String {
        ok(&mut self.command(arguments))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.daemon.id().cast_signed()) {
            // on request it ends its containerd as well
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.daemon.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_images_of_docker_come_in_and_ours_go_to_it() {
    let setup = Setup::start(false).await;
    let dir = setup.daemon.dir.path();
    let docker = Docker::start(dir.join("docker"));
    let layer = dir.join("layer.tar");
    fs::write(&layer, Layer::new().file("made", b"made elsewhere").bytes()).expect("a file");
    let id = docker.ok(&["import", &layer.to_string_lossy(), "made/elsewhere:latest"]);
    let saved = dir.join("saved.tar");
    docker.ok(&["save", "-o", &saved.to_string_lossy(), "made/elsewhere:latest"]);
    comes_in(&setup, "docker", &fs::read(&saved).expect("an archive"), None, 1).await;
    assert!(
        setup.daemon.content("docker").await.contains(&id),
        "the config, which is what docker names it by"
    );

    // what docker saved goes back to docker through us, and what came from the registry too
    docker.ok(&["rmi", "made/elsewhere:latest"]);
    let back = dir.join("back.tar");
    fs::write(&back, export_as(&setup, "docker", NAME, Exported::All).await).expect("a file");
    docker.ok(&["load", "-i", &back.to_string_lossy()]);
    assert_eq!(docker.ok(&["inspect", "--format", "{{.Id}}", "made/elsewhere:latest"]), id);
    let ours = ours(&setup).await;
    let (_, config) = digests(extracted(&fs::read(&ours).expect("an archive")).path());
    docker.ok(&["load", "-i", &ours.to_string_lossy()]);
    let reference = setup.reference();
    assert_eq!(docker.ok(&["inspect", "--format", "{{.Id}}", &reference]), config);
    let layers = docker.ok(&["inspect", "--format", "{{len .RootFS.Layers}}", &reference]);
    assert_eq!(layers, LAYERS.to_string());
    // the tree that docker makes of it
    let container = docker.ok(&["create", "--network", "none", &reference, "none"]);
    let tree = dir.join("tree");
    fs::create_dir(&tree).expect("a folder");
    let exported = dir.join("exported.tar");
    docker.ok(&["export", "-o", &exported.to_string_lossy(), &container]);
    let listed = ok(Command::new("tar").arg("-tf").arg(&exported));
    let has = |path: &str| listed.lines().any(|line| line == path);
    assert!(has("a/keep") && has("opaque/new") && has("b/link") && has("large"), "{listed}");
    assert!(!has("a/gone") && !has("opaque/old") && !has("opaque/deep/"), "{listed}");
    docker.ok(&["rm", &container]);
}
