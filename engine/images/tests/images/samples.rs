//! Small images, made in memory.

use std::io::Write;

use serde_json::{Value, json};
use wharf_vocab::Digest;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A blob with what its descriptor says.
#[derive(Clone)]
pub struct Blob {
    pub media_type: String,
    pub bytes: Vec<u8>,
}

impl Blob {
    pub fn new(media_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { media_type: media_type.into(), bytes: bytes.into() }
    }

    pub fn digest(&self) -> Digest {
        Digest::sha256(&self.bytes)
    }

    pub fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest(), "size": self.bytes.len()})
    }
}

/// An image of one platform, with gzipped layers.
#[derive(Clone)]
pub struct Sample {
    pub config: Blob,
    pub layers: Vec<Blob>,
    pub diff_ids: Vec<Digest>,
    pub plain_layers: Vec<Vec<u8>>,
    pub manifest: Blob,
}

pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // written as it is: the builder would refuse what a hostile archive has
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

impl Sample {
    /// One layer for each text: a file `/fileN` that holds it.
    pub fn new(architecture: &str, texts: &[&str]) -> Self {
        let layers = texts
            .iter()
            .enumerate()
            .map(|(n, text)| tar(&[(&format!("file{n}"), text.as_bytes())]))
            .collect();
        Self::of_layers(architecture, layers)
    }

    pub fn of_layers(architecture: &str, plain_layers: Vec<Vec<u8>>) -> Self {
        let diff_ids: Vec<Digest> = plain_layers.iter().map(|l| Digest::sha256(l)).collect();
        let config = json!({
            "architecture": architecture, "os": "linux", "created": "2024-01-02T03:04:05Z",
            "config": {"Cmd": ["/bin/sh"], "Env": ["A=b"], "Labels": {"tier": "front"}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": diff_ids.iter().map(|_| json!({"created": "2024-01-02T03:04:05Z", "created_by": "made"})).collect::<Vec<_>>(),
        });
        let config = Blob::new("application/vnd.oci.image.config.v1+json", config.to_string());
        let layers: Vec<Blob> = plain_layers
            .iter()
            .map(|l| Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", gzip(l)))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let manifest = Blob::new(MANIFEST, manifest.to_string());
        Self { config, layers, diff_ids, plain_layers, manifest }
    }

    pub fn id(&self) -> String {
        self.config.digest().to_string()
    }

    /// As `docker save` wrote before version 25: `manifest.json` and plain layers.
    pub fn docker_archive(&self, tags: &[&str]) -> Vec<u8> {
        let config = format!("{}.json", self.config.digest().hex());
        let names: Vec<String> = (0..self.layers.len()).map(|n| format!("layer{n}/layer.tar")).collect();
        let manifest = json!([{"Config": config, "RepoTags": tags, "Layers": names}]).to_string();
        let mut files: Vec<(&str, &[u8])> = vec![(&config, &self.config.bytes)];
        files.extend(names.iter().map(String::as_str).zip(self.plain_layers.iter().map(Vec::as_slice)));
        files.push(("manifest.json", manifest.as_bytes()));
        tar(&files)
    }

    /// An OCI layout whose index names the image so.
    pub fn oci_archive(&self, name: Option<&str>) -> Vec<u8> {
        let mut entry = self.manifest.descriptor();
        if let Some(name) = name {
            entry["annotations"] = json!({"io.containerd.image.name": name});
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
        let blobs: Vec<(String, &[u8])> = self
            .layers
            .iter()
            .chain([&self.config, &self.manifest])
            .map(|b| (format!("blobs/sha256/{}", b.digest().hex()), b.bytes.as_slice()))
            .collect();
        let mut files: Vec<(&str, &[u8])> = blobs.iter().map(|(p, b)| (p.as_str(), *b)).collect();
        files.push(("index.json", index.as_bytes()));
        files.push(("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#));
        tar(&files)
    }
}

/// An index of images by platform.
pub fn index(images: &[(&str, &Sample)]) -> Blob {
    let entries: Vec<Value> = images
        .iter()
        .map(|(architecture, image)| {
            let mut entry = image.manifest.descriptor();
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
            entry
        })
        .collect();
    Blob::new(INDEX, json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string())
}
