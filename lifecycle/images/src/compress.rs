//! A layer that came uncompressed, compressed.

use std::io::{self, Read, Write};

use lifecycle_content::{ContentError, WriteOptions, Writer};
use lifecycle_metadata::Scope;
use wharf_archive::{Compression, Compressor};
use wharf_registry::{Descriptor, media_types};
use wharf_vocab::{Digest, Labels, label_names};

use crate::error::ImagesError;
use crate::images::Inner;

/// An ingest to write to, and what the content store says where that fails.
struct Ingest<'a> {
    writer: &'a mut Writer,
    failed: &'a mut Option<ContentError>,
}

impl Write for Ingest<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.writer.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                let told = io::Error::other(error.to_string());
                *self.failed = Some(error);
                Err(told)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Inner {
    /// Stores the layer with this digest again, as gzip. The same layer gives the same blob.
    pub(crate) fn compressed_layer(&self, scope: &Scope, layer: &Digest) -> Result<Descriptor, ImagesError> {
        let reference = format!("compress-blob-{}-{}", layer.algorithm().as_str(), layer.hex());
        let reader = self.content.reader(scope, layer)?;
        let options = WriteOptions { reference: &reference, total: 0, expected: None };
        let mut writer = self.content.writer(scope, &options)?;
        writer.truncate(0)?;
        let mut failed = None;
        let copied = {
            let ingest = Ingest { writer: &mut writer, failed: &mut failed };
            compress(&mut reader.into_file(), ingest)
        };
        if let Some(error) = failed {
            return Err(error.into());
        }
        copied.map_err(|source| ImagesError::Read { digest: layer.clone(), source })?;
        let (digest, size) = (writer.digest(), writer.progress().offset);
        let labels = Labels::from([(label_names::UNCOMPRESSED.to_owned(), layer.to_string())]);
        self.committed(writer.commit(size, Some(&digest), labels))?;
        Ok(Descriptor::new(media_types::DOCKER_LAYER_GZIP, digest, size))
    }
}

fn compress(from: &mut impl Read, to: impl Write) -> io::Result<()> {
    // the encoder's output comes in small pieces
    let mut out = Compressor::new(Compression::Gzip, io::BufWriter::with_capacity(256 << 10, to))?;
    io::copy(from, &mut out)?;
    out.finish()?.flush()
}
