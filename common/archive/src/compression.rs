//! Which compression a stream has, by its first bytes, and undoing it.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read, Write};

use flate2::bufread::MultiGzDecoder;
use wharf_kinds::Kind;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// Judges by the magic number. Fewer than four bytes are never compressed.
    pub fn detect(head: &[u8]) -> Compression {
        match head {
            [0x1f, 0x8b, 8, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // a skippable frame, which zstd:chunked archives may begin with
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// A compressed stream that cannot be begun.
#[derive(Debug, thiserror::Error)]
#[error("read the beginning of the archive: {0}")]
pub struct CompressionError(#[from] io::Error);

impl CompressionError {
    pub fn kind(&self) -> Kind {
        Kind::of_io(&self.0)
    }
}

type Source<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// The uncompressed bytes of a stream.
pub enum Decompressor<R: Read> {
    None(Source<R>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Source<R>>>),
}

impl<R: Read> Decompressor<R> {
    pub fn new(mut input: R) -> Result<Self, CompressionError> {
        let mut head = Vec::with_capacity(4);
        (&mut input).take(4).read_to_end(&mut head)?;
        let compression = Compression::detect(&head);
        let source = BufReader::with_capacity(128 << 10, Cursor::new(head).chain(input));
        Ok(match compression {
            Compression::None => Decompressor::None(source),
            Compression::Gzip => Decompressor::Gzip(Box::new(MultiGzDecoder::new(source))),
            // the default limit of the window, 128 MiB, bounds the memory
            Compression::Zstd => {
                Decompressor::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(source)?))
            }
        })
    }

    pub fn compression(&self) -> Compression {
        match self {
            Decompressor::None(_) => Compression::None,
            Decompressor::Gzip(_) => Compression::Gzip,
            Decompressor::Zstd(_) => Compression::Zstd,
        }
    }

    /// Reads what is left behind the compressed data, so that a digest of the input covers it.
    pub fn drain(self) -> io::Result<R> {
        let mut source = match self {
            Decompressor::None(source) => source,
            Decompressor::Gzip(decoder) => decoder.into_inner(),
            Decompressor::Zstd(decoder) => decoder.finish(),
        };
        loop {
            let count = source.fill_buf()?.len();
            if count == 0 {
                return Ok(source.into_inner().into_inner().1);
            }
            source.consume(count);
        }
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decompressor::None(source) => source.read(buffer),
            Decompressor::Gzip(decoder) => decoder.read(buffer),
            Decompressor::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// A stream being compressed. The same bytes give the same stream.
pub enum Compressor<W: Write> {
    None(W),
    Gzip(Box<flate2::write::GzEncoder<W>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, W>>),
}

impl<W: Write> Compressor<W> {
    pub fn new(compression: Compression, out: W) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Compressor::None(out),
            // no name and no time in the header
            Compression::Gzip => {
                Compressor::Gzip(Box::new(flate2::write::GzEncoder::new(out, flate2::Compression::default())))
            }
            Compression::Zstd => Compressor::Zstd(Box::new(zstd::stream::write::Encoder::new(
                out,
                zstd::DEFAULT_COMPRESSION_LEVEL,
            )?)),
        })
    }

    /// Writes the end of the stream.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Compressor::None(out) => Ok(out),
            Compressor::Gzip(encoder) => encoder.finish(),
            Compressor::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Compressor::None(out) => out.write(bytes),
            Compressor::Gzip(encoder) => encoder.write(bytes),
            Compressor::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Compressor::None(out) => out.flush(),
            Compressor::Gzip(encoder) => encoder.flush(),
            Compressor::Zstd(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(data).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn every_form_gives_the_same_bytes() {
        let data = b"some bytes of a layer".repeat(10_000);
        for (stream, compression) in [
            (data.clone(), Compression::None),
            (gzip(&data), Compression::Gzip),
            ([gzip(&data[..5]), gzip(&data[5..])].concat(), Compression::Gzip),
            (zstd::encode_all(data.as_slice(), 1).unwrap(), Compression::Zstd),
        ] {
            let mut out = Vec::new();
            let mut decompressor = Decompressor::new(stream.as_slice()).unwrap();
            assert_eq!(decompressor.compression(), compression);
            decompressor.read_to_end(&mut out).unwrap();
            assert!(out == data);
            assert!(decompressor.drain().unwrap().is_empty());
        }
    }

    #[test]
    fn a_cut_stream_is_an_error_and_not_an_end() {
        let data: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        for stream in [gzip(&data), zstd::encode_all(data.as_slice(), 1).unwrap()] {
            let cut = &stream[..stream.len() - 9];
            let mut out = Vec::new();
            assert!(Decompressor::new(cut).unwrap().read_to_end(&mut out).is_err());
        }
    }

    #[test]
    fn short_streams_are_plain() {
        for stream in [&b""[..], b"\x1f", b"\x1f\x8b", b"abc"] {
            let mut out = Vec::new();
            Decompressor::new(stream).unwrap().read_to_end(&mut out).unwrap();
            assert_eq!(out, stream);
        }
    }
}
