//! What unpacking takes does not grow with the layer. Alone in its program: the mark is the whole process's.

use std::fs::{self, File};
use std::io::{Cursor, Read, Write as _};
use std::os::fd::AsFd;

use flate2::Compression;
use flate2::write::GzEncoder;
use wharf_archive::{Limits, Whiteouts, apply};
use wharf_vocab::Algorithm;

const FILE: u64 = 1 << 20;

/// The same member again and again.
struct Repeated {
    member: Vec<u8>,
    at: usize,
    left: u64,
}

impl Read for Repeated {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.member.len() {
            self.left = self.left.saturating_sub(1);
            self.at = 0;
        }
        if self.left == 0 {
            return Ok(0);
        }
        let count = (&self.member[self.at..]).read(buffer)?;
        self.at += count;
        Ok(count)
    }
}

fn member(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A layer that writes one file of a mebibyte so many times, as gzip.
fn layer(times: u64) -> impl Read + Send {
    let mut header = tar::Header::new_gnu();
    header.set_path("file").unwrap();
    header.set_size(FILE);
    header.set_mode(0o644);
    header.set_mtime(1);
    header.set_uid(rustix::process::getuid().as_raw().into());
    header.set_gid(rustix::process::getgid().as_raw().into());
    header.set_cksum();
    let entry = [&header.as_bytes()[..], &vec![7; FILE as usize]].concat();
    Repeated { member: member(&entry), at: 0, left: times }.chain(Cursor::new(member(&[0; 1024])))
}

/// The most memory that this process has had, in bytes.
fn highest_mark() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn a_layer_of_a_gibibyte_takes_no_more_memory_than_a_small_one() {
    let dir = tempfile::tempdir().unwrap();
    let target = File::open(dir.path()).unwrap();
    let unpack = |times: u64| {
        let input = layer(times);
        let before = highest_mark();
        let applied =
            apply(input, target.as_fd(), &[], Whiteouts::Remove, Algorithm::Sha256, Limits::default())
                .unwrap();
        assert_eq!(applied.entries, times);
        assert_eq!(applied.uncompressed.1, times * (FILE + 512) + 1024);
        highest_mark() - before
    };
    unpack(1);
    let grown = unpack(1024);
    assert!(grown < 8 << 20, "{grown} bytes more");
    assert_eq!(fs::metadata(dir.path().join("file")).unwrap().len(), FILE);
}
