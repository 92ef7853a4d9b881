//! What an archive held, by path.

use std::collections::BTreeMap;

use bytes::Bytes;
use wharf_registry::LayerEncoding;
use wharf_vocab::Digest;

/// Links followed before the archive is taken to go in a circle.
const MAX_LINKS: usize = 8;

/// A blob of the archive in the content store.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    pub encoding: LayerEncoding,
}

/// What the archive held, by normal path.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) small: BTreeMap<String, Bytes>,
    pub(super) blobs: BTreeMap<String, Stored>,
    pub(super) links: BTreeMap<String, String>,
}

impl Contents {
    pub fn has_layout(&self) -> bool {
        self.small.contains_key("index.json") && self.small.contains_key("oci-layout")
    }

    /// A small file's bytes.
    pub fn file(&self, path: &str) -> Option<&Bytes> {
        self.small.get(self.through_links(path)?)
    }

    /// A file in the content store.
    pub fn blob(&self, path: &str) -> Option<&Stored> {
        self.blobs.get(self.through_links(path)?)
    }

    /// The path of a blob of an OCI layout.
    pub fn layout_path(digest: &Digest) -> String {
        format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
    }

    fn through_links<'a>(&'a self, path: &'a str) -> Option<&'a str> {
        let mut path = path;
        for _ in 0..MAX_LINKS {
            match self.links.get(path) {
                Some(target) => path = target,
                None => return Some(path),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Contents;

    #[test]
    fn circular_links_lead_nowhere() {
        let mut contents = Contents::default();
        contents.links.insert("a".into(), "b".into());
        contents.links.insert("b".into(), "a".into());
        assert!(contents.blob("a").is_none());
    }
}
