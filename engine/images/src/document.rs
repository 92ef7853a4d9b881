//! The image config, as the image specification and Docker write it: foreign data, parsed and bounded once.

use serde::{Deserialize, Serialize};
use wharf_docker::image::Config;
use wharf_docker::time::Time;
use wharf_docker::{decode, omit};
use wharf_vocab::{Digest, Platform};

/// Entries in any one list or map of a config.
const MAX_ENTRIES: usize = 10_000;

/// What an image's config says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Document {
    pub architecture: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub variant: String,
    #[serde(skip_serializing_if = "omit::none")]
    pub created: Option<Time>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub author: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub comment: String,
    pub os: String,
    #[serde(rename = "os.version", skip_serializing_if = "omit::zero")]
    pub os_version: String,
    pub config: Config,
    pub rootfs: RootFs,
    #[serde(skip_serializing_if = "omit::zero")]
    pub history: Vec<History>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub docker_version: String,
}

/// The layers by the digests of their uncompressed archives, lowest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    pub r#type: String,
    pub diff_ids: Vec<DiffId>,
}

/// The digest of a layer's uncompressed archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

/// One step of the build.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    #[serde(skip_serializing_if = "omit::none")]
    pub created: Option<Time>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub created_by: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub author: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub comment: String,
    /// The step made no layer.
    #[serde(skip_serializing_if = "omit::zero")]
    pub empty_layer: bool,
}

impl Document {
    /// Reads a config of an image with so many layers. The error is a reason without a subject.
    pub fn parse(bytes: &[u8], layers: usize) -> Result<Self, String> {
        let document: Self = decode::from_slice(bytes).map_err(|e| e.to_string())?;
        if !matches!(document.rootfs.r#type.as_str(), "" | "layers") {
            return Err(format!("rootfs type {:?} is not supported", document.rootfs.r#type));
        }
        if document.rootfs.diff_ids.len() != layers {
            let found = document.rootfs.diff_ids.len();
            return Err(format!("it names {found} layers where the manifest has {layers}"));
        }
        let c = &document.config;
        let lists = [
            ("Env", c.env.len()),
            ("Cmd", c.cmd.len()),
            ("Entrypoint", c.entrypoint.len()),
            ("Labels", c.labels.len()),
            ("ExposedPorts", c.exposed_ports.len()),
            ("Volumes", c.volumes.len()),
            ("OnBuild", c.on_build.len()),
            ("Shell", c.shell.len()),
            ("history", document.history.len()),
        ];
        match lists.iter().find(|(_, length)| *length > MAX_ENTRIES) {
            Some((name, length)) => Err(format!("{name} has {length} entries, more than {MAX_ENTRIES}")),
            None => Ok(document),
        }
    }

    /// The diff ids alone.
    pub fn diff_ids(&self) -> impl ExactSizeIterator<Item = &Digest> {
        self.rootfs.diff_ids.iter().map(|d| &d.0)
    }

    /// What the image is built for; Docker takes an image that says nothing for one of this machine's.
    pub fn platform(&self) -> Platform {
        let host = Platform::host();
        let or = |text: &str, other: String| if text.is_empty() { other } else { text.to_owned() };
        Platform {
            os: or(&self.os, host.os),
            architecture: or(&self.architecture, host.architecture),
            variant: self.variant.clone(),
            os_version: self.os_version.clone(),
            ..Platform::default()
        }
    }
}

/// The chain id of each layer, lowest first: what the image specification calls the stack's identity.
pub fn chain_ids<'a>(diff_ids: impl IntoIterator<Item = &'a Digest>) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::new();
    for diff_id in diff_ids {
        chain.push(match chain.last() {
            Some(parent) => Digest::sha256(format!("{parent} {diff_id}").as_bytes()),
            None => diff_id.clone(),
        });
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let diffs: Vec<Digest> = ["a", "b"].iter().map(|t| Digest::sha256(t.as_bytes())).collect();
        let chain = chain_ids(&diffs);
        assert_eq!(chain[0], diffs[0]);
        assert_eq!(chain[1], Digest::sha256(format!("{} {}", diffs[0], diffs[1]).as_bytes()));
        assert!(chain_ids([]).is_empty());
    }

    #[test]
    fn nulls_are_taken_as_docker_writes_them() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Labels":null,"Cmd":["a"]},
            "container_config":{"x":1},"rootfs":{"type":"layers","diff_ids":[]},"history":null}"#;
        let document = Document::parse(text.as_bytes(), 0).unwrap();
        assert_eq!(document.config.cmd, ["a"]);
    }

    #[test]
    fn what_contradicts_the_manifest_is_refused() {
        let text = r#"{"rootfs":{"type":"layers","diff_ids":[]}}"#;
        assert!(Document::parse(text.as_bytes(), 1).is_err());
        let bad = r#"{"rootfs":{"type":"layers","diff_ids":["sha256:../../x"]}}"#;
        assert!(Document::parse(bad.as_bytes(), 1).is_err());
        assert!(Document::parse(br#"{"rootfs":{"type":"squashfs"}}"#, 0).is_err());
        let many = format!(r#"{{"config":{{"Env":[{}"x"]}}}}"#, "\"x\",".repeat(MAX_ENTRIES));
        assert!(Document::parse(many.as_bytes(), 0).unwrap_err().contains("Env"));
    }

    proptest::proptest! {
        #[test]
        fn no_config_panics(key in "(config|rootfs|history|created|os)", value in "\\PC{0,100}") {
            let _ = Document::parse(format!("{{\"{key}\":{value}}}").as_bytes(), 0);
        }
    }
}
