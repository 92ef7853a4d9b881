//! Where the bytes are.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use wharf_vocab::{Algorithm, Digest};

use crate::error::ContentError;

/// The directories of one content store.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
}

impl Files {
    /// Makes the directories if they are not there.
    pub(crate) fn open(root: &Path) -> Result<Self, ContentError> {
        let files = Files { root: root.into() };
        for directory in
            Algorithm::ALL.map(|a| files.blob_directory(a)).into_iter().chain([files.ingest_directory()])
        {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)
                .map_err(ContentError::io("create", &directory))?;
        }
        Ok(files)
    }

    pub(crate) fn blob_directory(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.as_str())
    }

    /// A digest is validated when it is made, so its hexadecimal part is one harmless component.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blob_directory(digest.algorithm()).join(digest.hex())
    }

    pub(crate) fn ingest_directory(&self) -> PathBuf {
        self.root.join("ingest")
    }

    pub(crate) fn ingest(&self, id: u64) -> PathBuf {
        self.ingest_directory().join(id.to_string())
    }

    /// Bytes of a blob that is in place.
    pub(crate) fn blob_size(&self, digest: &Digest) -> Option<u64> {
        fs::symlink_metadata(self.blob(digest)).ok().filter(fs::Metadata::is_file).map(|m| m.len())
    }

    /// Every blob in place; names that are no digests are passed over.
    pub(crate) fn blobs(&self) -> Result<Vec<Digest>, ContentError> {
        let mut found = Vec::new();
        for algorithm in Algorithm::ALL {
            let directory = self.blob_directory(algorithm);
            for name in names(&directory)? {
                if let Ok(digest) = Digest::parse(&format!("{}:{name}", algorithm.as_str())) {
                    found.push(digest);
                }
            }
        }
        Ok(found)
    }

    /// The numbers of the ingests that have a file.
    pub(crate) fn ingests(&self) -> Result<Vec<u64>, ContentError> {
        Ok(names(&self.ingest_directory())?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    pub(crate) fn remove(path: &Path) -> Result<(), ContentError> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(ContentError::io("remove", path)(e)),
            _ => Ok(()),
        }
    }
}

fn names(directory: &Path) -> Result<Vec<String>, ContentError> {
    let list = || -> io::Result<Vec<String>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    list().map_err(ContentError::io("list", directory))
}
