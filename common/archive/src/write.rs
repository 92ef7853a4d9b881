//! Writing tar archives: ustar, with a PAX header where that has no room. The same entries give the same bytes.

use std::io::{self, Write};

use crate::tar::{Entry, EntryKind};

const BLOCK: usize = 512;

/// The largest number that eleven octal digits say, and the largest of seven.
const MAX_SIZE: u64 = 0o77_777_777_777;
const MAX_ID: u32 = 0o7_777_777;

/// An archive being written.
pub(crate) struct TarWriter<W> {
    out: W,
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        TarWriter { out }
    }

    /// The header of an entry; exactly its size in data follows, for files, by [`TarWriter::data`].
    pub(crate) fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let records = pax_records(entry);
        if !records.is_empty() {
            let mut header = [0; BLOCK];
            put(&mut header, 0, 100, b"PaxHeaders.0/entry");
            fill(&mut header, b'x', 0o644, (0, 0), records.len() as u64, 0);
            self.block_of(header, &records)?;
        }
        let mut header = [0; BLOCK];
        put(&mut header, 0, 100, &entry.path);
        put(&mut header, 157, 100, &entry.link);
        let kind = match entry.kind {
            EntryKind::File => b'0',
            EntryKind::HardLink => b'1',
            EntryKind::Symlink => b'2',
            EntryKind::CharDevice => b'3',
            EntryKind::BlockDevice => b'4',
            EntryKind::Directory => b'5',
            EntryKind::Fifo => b'6',
        };
        let ids =
            (if entry.uid > MAX_ID { 0 } else { entry.uid }, if entry.gid > MAX_ID { 0 } else { entry.gid });
        let size = if entry.kind == EntryKind::File && entry.size <= MAX_SIZE { entry.size } else { 0 };
        let seconds = u64::try_from(entry.mtime.0).ok().filter(|s| *s <= MAX_SIZE).unwrap_or(0);
        if matches!(entry.kind, EntryKind::CharDevice | EntryKind::BlockDevice) {
            octal(&mut header, 329, 8, u64::from(entry.device.0));
            octal(&mut header, 337, 8, u64::from(entry.device.1));
        }
        fill(&mut header, kind, entry.mode & 0o7777, ids, size, seconds);
        self.out.write_all(&header)
    }

    /// Part of the data of the present entry.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Fills the last block of an entry with this much data.
    pub(crate) fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = (size % BLOCK as u64) as usize;
        if over == 0 { Ok(()) } else { self.out.write_all(&[0; BLOCK][over..]) }
    }

    /// The end of the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn block_of(&mut self, header: [u8; BLOCK], data: &[u8]) -> io::Result<()> {
        self.out.write_all(&header)?;
        self.out.write_all(data)?;
        self.pad(data.len() as u64)
    }
}

/// What the plain header has no room for, in the order of names.
fn pax_records(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    let is_plain = |name: &[u8]| name.len() <= 100 && name.is_ascii();
    if entry.gid > MAX_ID {
        record(&mut records, b"gid", entry.gid.to_string().as_bytes());
    }
    for (name, value) in &entry.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    if !is_plain(&entry.link) {
        record(&mut records, b"linkpath", &entry.link);
    }
    let seconds = entry.mtime.0;
    if u64::try_from(seconds).map_or(true, |seconds| seconds > MAX_SIZE) {
        record(&mut records, b"mtime", seconds.to_string().as_bytes());
    }
    if !is_plain(&entry.path) {
        record(&mut records, b"path", &entry.path);
    }
    if entry.kind == EntryKind::File && entry.size > MAX_SIZE {
        record(&mut records, b"size", entry.size.to_string().as_bytes());
    }
    if entry.uid > MAX_ID {
        record(&mut records, b"uid", entry.uid.to_string().as_bytes());
    }
    records
}

/// `<length> <key>=<value>\n`, the length counting itself.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} ").as_bytes());
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn fill(header: &mut [u8; BLOCK], kind: u8, mode: u32, ids: (u32, u32), size: u64, seconds: u64) {
    octal(header, 100, 8, u64::from(mode));
    octal(header, 108, 8, u64::from(ids.0));
    octal(header, 116, 8, u64::from(ids.1));
    octal(header, 124, 12, size);
    octal(header, 136, 12, seconds);
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().map(|&b| u64::from(b)).sum();
    octal(header, 148, 7, sum);
}

/// As much of a text as there is room for; a PAX header has the whole.
fn put(header: &mut [u8; BLOCK], at: usize, room: usize, text: &[u8]) {
    let count = text.len().min(room);
    header[at..at + count].copy_from_slice(&text[..count]);
}

fn octal(header: &mut [u8; BLOCK], at: usize, width: usize, value: u64) {
    let digits = format!("{value:0width$o}", width = width - 1);
    header[at..at + width - 1].copy_from_slice(&digits.as_bytes()[..width - 1]);
    header[at + width - 1] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::TarReader;

    #[test]
    fn what_is_written_is_read_again() {
        let plain = Entry {
            kind: EntryKind::File,
            path: b"etc/passwd".to_vec(),
            link: Vec::new(),
            mode: 0o4755,
            uid: 0,
            gid: 3,
            mtime: (1_700_000_000, 0),
            device: (0, 0),
            size: 0,
            xattrs: Vec::new(),
            sparse: None,
        };
        let odd = Entry {
            path: ["ä/".repeat(200).as_bytes(), b"x"].concat(),
            uid: u32::MAX - 1,
            gid: MAX_ID + 1,
            mtime: (-5, 0),
            size: 3,
            xattrs: vec![(b"security.capability".to_vec(), vec![1, 0, b'\n', 255])],
            ..plain.clone()
        };
        let link = Entry { kind: EntryKind::Symlink, link: vec![b'l'; 300], ..plain.clone() };
        let device = Entry { kind: EntryKind::BlockDevice, device: (4095, 1 << 19), ..plain.clone() };
        let mut writer = TarWriter::new(Vec::new());
        for entry in [&plain, &odd, &link, &device] {
            writer.entry(entry).unwrap();
            writer.data(&b"abc"[..entry.size as usize]).unwrap();
            writer.pad(entry.size).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let mut reader = TarReader::new(bytes.as_slice());
        for entry in [plain, odd, link, device] {
            assert_eq!(reader.next_entry().unwrap(), Some(entry));
        }
        assert_eq!(reader.next_entry().unwrap(), None);
    }
}
