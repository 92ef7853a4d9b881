//! Container log files: json-file, local and CRI records, rotation, reading back.
//!
//! [`LogFile`] is the writer, one a container, in the shim. [`Reader`] reads what it wrote, across
//! rotated files, from the oldest record, from the last n, or from the end, and goes on when called again
//! after the file has grown. Waiting for growth is the caller's.
//!
//! Files: `<path>` is the live one, `<path>.1` the one before it, `<path>.2` the one before that.

mod cri;
mod json;
mod lines;
mod local;
mod reader;
mod rotate;
mod tail;
mod time;
mod writer;

pub use reader::{ReadError, Reader, Start};
pub use rotate::files;
pub use time::{Stamp, StampError};
pub use writer::{LogFile, Options, WriteError, remove};

use std::collections::BTreeMap;

/// The most bytes of one line in one record; a longer line becomes several partial records, as in Docker.
pub const MAX_LINE: usize = 16 * 1024;

/// The form of the records in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `{"log":"…\n","stream":"stdout","time":"…"}` and a newline, as Docker's json-file driver.
    JsonFile,
    /// Protobuf entries between their lengths, as Docker's local driver.
    Local,
    /// `<time> <stream> <P|F> <line>`, as the kubelet reads.
    Cri,
}

/// Which of a process's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }

    fn from_word(word: &[u8]) -> Option<Stream> {
        match word {
            b"stdout" => Some(Stream::Stdout),
            b"stderr" => Some(Stream::Stderr),
            _ => None,
        }
    }
}

/// One record read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When the shim read the line; of a partial record, when it read the line's first part.
    pub time: Stamp,
    /// Where it came from.
    pub stream: Stream,
    /// The bytes to print: with the newline, unless the record is a part of a line that is not its last.
    pub line: Vec<u8>,
    /// The attributes on the record.
    pub attrs: BTreeMap<String, String>,
}

impl Record {
    /// Whether more of the same line follows.
    pub fn is_partial(&self) -> bool {
        self.line.last() != Some(&b'\n')
    }
}

/// What the front of a buffer holds.
enum Decoded {
    /// A record of so many bytes.
    Record(Record, usize),
    /// So many bytes that are no record.
    Damaged(usize),
    /// The beginning of a record, or nothing.
    Incomplete,
}

impl Format {
    fn decode(self, buffer: &[u8]) -> Decoded {
        match self {
            Format::JsonFile => decode_line(buffer, json::decode),
            Format::Cri => decode_line(buffer, cri::decode),
            Format::Local => local::decode(buffer),
        }
    }
}

/// The most bytes of a record in a file, whatever the format: more is damage.
const MAX_RECORD: usize = 1024 * 1024;

fn decode_line(buffer: &[u8], decode: fn(&[u8]) -> Option<Record>) -> Decoded {
    match memchr::memchr(b'\n', buffer) {
        Some(end) => match decode(&buffer[..end]) {
            Some(record) => Decoded::Record(record, end + 1),
            None => Decoded::Damaged(end + 1),
        },
        None if buffer.len() > MAX_RECORD => Decoded::Damaged(buffer.len()),
        None => Decoded::Incomplete,
    }
}
