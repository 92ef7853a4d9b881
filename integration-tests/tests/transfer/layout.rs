//! An image of several gzip layers as an OCI layout, and what its unpacked tree has to be.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// Bytes that gzip cannot shorten, in a layer of their own.
const LARGE: usize = 4 << 20;

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip")
        .args(["-n", "-1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip is installed");
    let (mut input, mut output) = (gzip.stdin.take().expect("stdin"), gzip.stdout.take().expect("stdout"));
    let mut packed = Vec::new();
    thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes).expect("gzip reads"));
        output.read_to_end(&mut packed).expect("gzip writes");
    });
    assert!(gzip.wait().expect("gzip").success());
    packed
}

pub struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub fn new() -> Self {
        Layer(Builder::new(Vec::new()))
    }

    fn header(kind: EntryType, mode: u32) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        header.set_size(0);
        header
    }

    pub fn directory(mut self, path: &str) -> Self {
        let mut header = Self::header(EntryType::Directory, 0o755);
        self.0.append_data(&mut header, path, std::io::empty()).expect("tar");
        self
    }

    pub fn file(mut self, path: &str, bytes: &[u8]) -> Self {
        let mut header = Self::header(EntryType::Regular, 0o640);
        header.set_uid(1000);
        header.set_gid(1001);
        header.set_size(bytes.len() as u64);
        self.0.append_data(&mut header, path, bytes).expect("tar");
        self
    }

    fn hard_link(mut self, path: &str, target: &str) -> Self {
        let mut header = Self::header(EntryType::Link, 0o640);
        header.set_uid(1000);
        header.set_gid(1001);
        self.0.append_link(&mut header, path, target).expect("tar");
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("tar")
    }
}

fn large() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(LARGE);
    while bytes.len() < LARGE {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// The digests of the manifest and of the last, large layer.
pub struct Layout {
    pub manifest: String,
    pub last_layer: String,
}

/// Writes the image under the tag `latest`; with a wrong DiffID for its last layer if that is asked for.
pub fn write(to: &Path, is_wrong: bool) -> Layout {
    let layers = [
        Layer::new()
            .directory("a/")
            .file("a/keep", b"kept")
            .file("a/gone", b"whited out above")
            .directory("opaque/")
            .file("opaque/old", b"hidden above")
            .directory("opaque/deep/")
            .file("opaque/deep/old", b"hidden above")
            .file("original", b"linked from above")
            .bytes(),
        Layer::new()
            .directory("a/")
            .file("a/.wh.gone", b"")
            .directory("opaque/")
            .file("opaque/.wh..wh..opq", b"")
            .file("opaque/new", b"new")
            .bytes(),
        Layer::new().directory("b/").hard_link("b/link", "original").bytes(),
        Layer::new().file("large", &large()).bytes(),
    ];
    let blobs = to.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("a folder");
    let store = |bytes: &[u8]| {
        let digest = digest(bytes);
        fs::write(blobs.join(&digest["sha256:".len()..]), bytes).expect("a blob");
        digest
    };
    let mut diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    if is_wrong {
        *diff_ids.last_mut().expect("layers") = digest(b"something else");
    }
    let mut descriptors = Vec::new();
    let mut last_layer = String::new();
    for layer in &layers {
        let packed = gzip(layer);
        last_layer = store(&packed);
        let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
        descriptors.push(serde_json::json!({"mediaType": kind, "digest": last_layer, "size": packed.len()}));
    }
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": store(config.as_bytes()),
            "size": config.len(),
        },
        "layers": descriptors,
    })
    .to_string();
    let digest = store(manifest.as_bytes());
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest,
            "size": manifest.len(),
            "annotations": {"org.opencontainers.image.ref.name": "latest"},
        }],
    });
    fs::write(to.join("index.json"), index.to_string()).expect("an index");
    fs::write(to.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a layout");
    Layout { manifest: digest, last_layer }
}

/// The unpacked image is what its layers say.
pub fn check(tree: &Path) {
    let names = |folder: &str| {
        let entries = fs::read_dir(tree.join(folder)).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("utf-8")).collect();
        names.sort();
        names
    };
    assert_eq!(names(""), ["a", "b", "large", "opaque", "original"]);
    assert_eq!(names("a"), ["keep"], "the whiteout holds, and is no file");
    assert_eq!(names("opaque"), ["new"], "nothing shines through an opaque folder");
    assert_eq!(fs::read(tree.join("a/keep")).expect("a file"), b"kept");
    assert_eq!(fs::read(tree.join("opaque/new")).expect("a file"), b"new");
    assert!(fs::read(tree.join("large")).expect("a file") == large());
    assert_eq!(fs::read(tree.join("b/link")).expect("a file"), b"linked from above");
    let status = |path: &str| fs::metadata(tree.join(path)).expect("a file");
    let (original, link) = (status("original"), status("b/link"));
    assert_eq!((original.ino(), original.nlink()), (link.ino(), 2), "one file with two names");
    for file in [&original, &link, &status("a/keep")] {
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (1000, 1001, 0o640));
        assert_eq!(file.mtime(), 1_700_000_000);
    }
}
