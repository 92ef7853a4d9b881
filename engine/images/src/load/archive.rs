//! Reading a foreign archive once, front to back, on a thread of its own.
//!
//! No path of the archive ever reaches a file system: paths are keys of a map, and links are looked up in it.

use std::io::{BufReader, Read};

use bytes::Bytes;
use engine_backend::{Backend, BackendError, Labels, Lease};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use wharf_kinds::Kind;
use wharf_registry::LayerEncoding;
use wharf_vocab::{Digest, Digester};

use super::LoadError;
use super::contents::{Contents, Stored};
use super::inflate::{ChannelReader, inflated, unreadable};
use crate::lease::unique;

/// Files up to this size that may be metadata are kept in memory too.
const MAX_SMALL: u64 = 8 << 20;
/// Bytes of metadata kept in memory altogether.
const MAX_KEPT: u64 = 64 << 20;
const MAX_ENTRIES: u64 = 100_000;
const MAX_PATH: usize = 4096;
/// GNU long names and PAX records.
const MAX_EXTENSION: u64 = 1 << 20;
const CHUNK: usize = 1 << 20;

/// Where blobs go.
pub(super) struct Sink {
    backend: Backend,
    lease: Lease,
    runtime: Handle,
}

impl Sink {
    /// To be called on the runtime.
    pub fn new(backend: Backend, lease: Lease) -> Self {
        Self { backend, lease, runtime: Handle::current() }
    }

    fn store(
        &self,
        path: &str,
        size: u64,
        from: &mut impl Read,
    ) -> Result<(Stored, Option<Bytes>), LoadError> {
        let ingest = unique("load");
        let done = self.copy(&ingest, path, size, from);
        if done.is_err()
            && let Err(error) = self.runtime.block_on(self.backend.ingest_abort(&ingest))
        {
            tracing::warn!(ingest, %error, "ingest is left to the collector");
        }
        done
    }

    /// Reading blocks this thread and must not do so inside the runtime: only the daemon's answers are awaited there.
    fn copy(
        &self,
        ingest: &str,
        path: &str,
        size: u64,
        from: &mut impl Read,
    ) -> Result<(Stored, Option<Bytes>), LoadError> {
        let named = digest_of_path(path);
        let expected = named.as_ref().map(Digest::as_str).unwrap_or_default();
        let mut writer =
            match self.runtime.block_on(self.backend.content_writer(&self.lease, ingest, size, expected)) {
                Ok(writer) => Some(writer),
                // read all the same: the archive's own bytes are what the name must be true of
                Err(error) if error.kind() == Kind::AlreadyExists => None,
                Err(error) => return Err(error.into()),
            };
        let mut digester =
            Digester::new(named.as_ref().map_or(wharf_vocab::Algorithm::Sha256, Digest::algorithm));
        let mut kept = (size <= MAX_SMALL).then(Vec::new);
        let mut magic = [0u8; 4];
        let mut buffer = vec![0u8; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK).max(1))];
        let mut total = 0u64;
        while total < size {
            let length = buffer.len().min(usize::try_from(size - total).unwrap_or(usize::MAX));
            let chunk = &mut buffer[..length];
            from.read_exact(chunk).map_err(|e| unreadable(&e))?;
            if total == 0 {
                let known = length.min(magic.len());
                magic[..known].copy_from_slice(&chunk[..known]);
            }
            digester.update(chunk);
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(chunk);
            }
            if let Some(writer) = &mut writer {
                self.runtime.block_on(writer.write(chunk))?;
            }
            total += length as u64;
        }
        let digest = digester.finish();
        if let Some(named) = named
            && named != digest
        {
            return Err(LoadError::WrongDigest { path: path.to_owned(), actual: digest.to_string() });
        }
        if let Some(writer) = writer {
            match self.runtime.block_on(writer.commit(&Labels::new())) {
                Err(error) if error.kind() == Kind::AlreadyExists => {}
                other => {
                    other?;
                }
            }
        }
        self.runtime.block_on(self.hold(&digest))?;
        Ok((Stored { digest, size, encoding: encoding_of(magic) }, kept.map(Bytes::from)))
    }

    /// Content that was here before is held too, lest it be collected before the image is named.
    async fn hold(&self, digest: &Digest) -> Result<(), BackendError> {
        self.backend.lease_add(&self.lease, engine_backend::ResourceKind::Content, digest.as_str()).await
    }
}

/// The digest that a blob's path in an OCI layout claims.
fn digest_of_path(path: &str) -> Option<Digest> {
    let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
    Digest::parse(&format!("{algorithm}:{hex}")).ok()
}

/// What the first bytes say of a layer's compression.
fn encoding_of(magic: [u8; 4]) -> LayerEncoding {
    match magic {
        [0x1f, 0x8b, ..] => LayerEncoding::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => LayerEncoding::Zstd,
        _ => LayerEncoding::Tar,
    }
}

/// Reads the archive to its end.
pub(super) fn read(
    archive: mpsc::Receiver<Result<Bytes, String>>,
    sink: Sink,
) -> Result<Contents, LoadError> {
    let mut tar = tar::Archive::new(BufReader::with_capacity(CHUNK, inflated(ChannelReader::new(archive))?));
    let mut contents = Contents::default();
    let mut kept_bytes = 0u64;
    let mut extension = Extension::default();
    // raw: names of any length are bounded here, not by the parser
    let entries = tar.entries().map_err(|e| unreadable(&e))?.raw(true);
    for (count, entry) in entries.enumerate() {
        if count as u64 >= MAX_ENTRIES {
            return Err(LoadError::TooMuch { what: "entries", limit: MAX_ENTRIES });
        }
        let mut entry = entry.map_err(|e| unreadable(&e))?;
        let kind = entry.header().entry_type();
        if extension.take_from(kind, &mut entry)? {
            continue;
        }
        let extension = std::mem::take(&mut extension);
        let path = extension.path.unwrap_or_else(|| entry.path_bytes().into_owned());
        let link = extension.link.or_else(|| entry.link_name_bytes().map(|l| l.into_owned()));
        let Some(path) = normal(&path, "")? else { continue };
        match kind {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let size = entry.header().entry_size().map_err(|e| unreadable(&e))?;
                let (stored, small) = sink.store(&path, size, &mut entry)?;
                if let Some(small) = small.filter(|bytes| is_metadata(&path, bytes)) {
                    kept_bytes += small.len() as u64;
                    if kept_bytes > MAX_KEPT {
                        return Err(LoadError::TooMuch { what: "bytes of metadata", limit: MAX_KEPT });
                    }
                    contents.small.insert(path.clone(), small);
                }
                contents.links.remove(&path);
                contents.blobs.insert(path, stored);
            }
            tar::EntryType::Symlink => {
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                if let Some(target) = normal(&link.unwrap_or_default(), folder)? {
                    contents.links.insert(path, target);
                }
            }
            tar::EntryType::Link => {
                if let Some(target) = normal(&link.unwrap_or_default(), "")? {
                    contents.links.insert(path, target);
                }
            }
            tar::EntryType::Directory | tar::EntryType::XGlobalHeader => {}
            _ => return Err(LoadError::Archive(format!("{path} is no file, directory or link"))),
        }
    }
    Ok(contents)
}

/// Whether a small file can be JSON: everything that describes an image is an object or a list.
fn is_metadata(path: &str, bytes: &[u8]) -> bool {
    path == "oci-layout" || matches!(bytes.iter().find(|b| !b.is_ascii_whitespace()), Some(b'{' | b'['))
}

/// What the next entry's headers could not hold.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Extension {
    /// Takes in an entry that only describes the next one; false if the entry is one itself.
    fn take_from(&mut self, kind: tar::EntryType, entry: &mut impl Read) -> Result<bool, LoadError> {
        match kind {
            tar::EntryType::GNULongName => self.path = Some(text(entry)?),
            tar::EntryType::GNULongLink => self.link = Some(text(entry)?),
            tar::EntryType::XHeader => {
                let records = bounded(entry)?;
                for record in tar::PaxExtensions::new(&records) {
                    let record = record.map_err(|e| unreadable(&e))?;
                    match record.key_bytes() {
                        b"path" => self.path = Some(record.value_bytes().to_vec()),
                        b"linkpath" => self.link = Some(record.value_bytes().to_vec()),
                        b"size" => {
                            return Err(LoadError::Archive(
                                "files of more than 8 GiB are not supported".into(),
                            ));
                        }
                        _ => {}
                    }
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn bounded(entry: &mut impl Read) -> Result<Vec<u8>, LoadError> {
    let mut bytes = Vec::new();
    entry.take(MAX_EXTENSION + 1).read_to_end(&mut bytes).map_err(|e| unreadable(&e))?;
    if bytes.len() as u64 > MAX_EXTENSION {
        return Err(LoadError::TooMuch { what: "extended headers", limit: MAX_EXTENSION });
    }
    Ok(bytes)
}

fn text(entry: &mut impl Read) -> Result<Vec<u8>, LoadError> {
    let mut bytes = bounded(entry)?;
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

/// A path in one spelling: no empty, `.` or `..` parts; none for the archive's root.
fn normal(path: &[u8], folder: &str) -> Result<Option<String>, LoadError> {
    let shown = || String::from_utf8_lossy(&path[..path.len().min(256)]).into_owned();
    let text = std::str::from_utf8(path).ok().filter(|t| t.len() <= MAX_PATH);
    let text =
        text.ok_or_else(|| LoadError::Archive(format!("path {:?} is too long or no UTF-8", shown())))?;
    let mut parts: Vec<&str> = folder.split('/').filter(|p| !p.is_empty()).collect();
    if text.starts_with('/') {
        return Err(LoadError::Archive(format!("path {:?} is absolute", shown())));
    }
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Err(LoadError::Archive(format!("path {:?} leads out of the archive", shown())));
                }
            }
            part => parts.push(part),
        }
    }
    Ok((!parts.is_empty()).then(|| parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_spelling_and_stay_inside() {
        let of = |path: &str, folder: &str| normal(path.as_bytes(), folder).ok().flatten();
        assert_eq!(of("./a//b/", "").as_deref(), Some("a/b"));
        assert_eq!(of("../x/layer.tar", "y").as_deref(), Some("x/layer.tar"));
        assert_eq!(of("./", ""), None);
        for path in ["/etc/passwd", "../x", "a/../../x"] {
            assert!(normal(path.as_bytes(), "").is_err(), "{path}");
        }
        assert!(normal(&vec![b'a'; MAX_PATH + 1], "").is_err());
        assert!(normal(&[0xff], "").is_err());
    }

    #[test]
    fn compression_is_told_by_the_first_bytes() {
        assert_eq!(encoding_of([0x1f, 0x8b, 8, 0]), LayerEncoding::Gzip);
        assert_eq!(encoding_of([0x28, 0xb5, 0x2f, 0xfd]), LayerEncoding::Zstd);
        assert_eq!(encoding_of(*b"./\0\0"), LayerEncoding::Tar);
    }
}
