//! Layers: the tar reader, and unpacking below a directory.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rustix::fs::{Mode, OFlags, open};
use wharf_archive::{Limits, TarError, TarReader, Whiteouts, apply, remove_tree};
use wharf_vocab::Algorithm;

use crate::outcome;

const MAX_NAME: usize = 4095;
const CANARY: &str = "untouched";
const LIMITS: Limits = Limits { entries: 64, bytes: 4 << 20 };

/// Headers of an archive: names and ids are ones that the kernel takes, and what is read was there.
pub fn tar_headers(data: &[u8]) -> u64 {
    let mut reader = TarReader::new(data);
    let read = entries(&mut reader, data.len() as u64);
    outcome::of("headers", &read, |count| *count)
}

fn entries(reader: &mut TarReader<&[u8]>, most: u64) -> Result<usize, TarError> {
    let mut seen = 0_usize;
    while let Some(entry) = reader.next_entry()? {
        for name in [&entry.path, &entry.link] {
            assert!(name.len() <= MAX_NAME && !name.contains(&0), "{entry:?}");
        }
        assert!(entry.uid != u32::MAX && entry.gid != u32::MAX && entry.mode <= 0o7777, "{entry:?}");
        assert!(entry.mtime.1 < 1_000_000_000, "{entry:?}");
        // every other entry is passed over unread
        if seen.is_multiple_of(2) {
            let read = std::io::copy(&mut reader.by_ref().take(most + 1), &mut std::io::sink()).unwrap_or(0);
            assert!(read <= most, "{read} bytes of {most}");
        }
        seen += 1;
    }
    Ok(seen)
}

/// A directory of this process with a file beside the target that must stay as it is. Removed by the driver.
static PLACE: LazyLock<(PathBuf, OwnedFd)> = LazyLock::new(|| {
    let base = std::env::temp_dir().join(format!("wharf-fuzz-{}", std::process::id()));
    fs::create_dir(&base).expect("a directory");
    fs::write(base.join(CANARY), CANARY).expect("a file");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = open(&base, flags, Mode::empty()).expect("the directory");
    (base, fd)
});

/// A whole layer, unpacked: nothing comes to be, changes or is linked to outside the target.
pub fn tar_apply(data: &[u8]) -> u64 {
    let (base, fd) = &*PLACE;
    let target = base.join("target");
    fs::create_dir(&target).expect("a directory");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = open(&target, flags, Mode::empty()).expect("the target");
    let whiteouts =
        if data.len().is_multiple_of(2) { Whiteouts::Remove } else { Whiteouts::Overlay { userxattr: true } };
    let applied = apply(data, target.as_fd(), &[], whiteouts, Algorithm::Sha256, LIMITS);
    if let Ok(applied) = &applied {
        assert_eq!(applied.compressed.1, data.len() as u64, "{applied:?}");
        assert!(applied.entries <= LIMITS.entries && applied.uncompressed.1 <= LIMITS.bytes, "{applied:?}");
    }
    check_place(base);
    remove_tree(fd.as_fd(), c"target").expect("what was unpacked can be removed");
    outcome::of("apply", &applied, |a| a.entries as usize)
}

fn check_place(base: &Path) {
    let mut names: Vec<_> =
        fs::read_dir(base).expect("readable").map(|e| e.expect("entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["target", CANARY]);
    let canary = fs::symlink_metadata(base.join(CANARY)).expect("the canary");
    assert!(canary.is_file() && canary.nlink() == 1, "{canary:?}");
    assert_eq!(fs::read(base.join(CANARY)).expect("the canary"), CANARY.as_bytes());
}
