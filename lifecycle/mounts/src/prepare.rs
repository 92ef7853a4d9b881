//! Directories and file systems that have to be there before a mount: options of the form
//! `X-containerd.mkdir.path=<path>[:<mode>[:<uid>:<gid>]]` and `X-containerd.mkfs.{size,fs,uuid}=<value>`.
//!
//! Paths come from clients: only what is below an allowed root is made, resolved by the kernel.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, PathBuf};
use std::process::{Command, Stdio};

use lifecycle_metadata::MountSpec;
use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::error::ActivateError;

const MKDIR: &str = "X-containerd.mkdir.";
const MKFS: &str = "X-containerd.mkfs.";

/// The largest file that is made for a file system: 16 TiB, ext4's limit.
const MAX_SIZE: u64 = 16 << 40;

/// Characters of a failed program's words that are told.
const MAX_WORDS: usize = 512;

/// A place that a client names, below one of the roots.
struct Place {
    parent: OwnedFd,
    name: CString,
    path: PathBuf,
}

fn place(path: &str, roots: &[PathBuf]) -> Result<Place, ActivateError> {
    let path = PathBuf::from(path);
    let invalid = |why: &str| ActivateError::Invalid(format!("{}: {why}", path.display()));
    let plain = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::RootDir);
    if !path.is_absolute() || !path.components().all(plain) {
        return Err(invalid("the path is not absolute and plain"));
    }
    let Some(root) = roots.iter().find(|root| path.starts_with(root) && path != **root) else {
        return Err(ActivateError::Unsupported(format!(
            "{} is below no folder of this daemon",
            path.display()
        )));
    };
    let below = path.strip_prefix(root).map_err(|_| invalid("the path is below no root"))?;
    let (Some(name), Some(parent)) = (below.file_name(), below.parent()) else {
        return Err(invalid("the path has no name"));
    };
    let name = CString::new(name.as_bytes()).map_err(ActivateError::io("make", &path))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = || -> rustix::io::Result<OwnedFd> {
        let root = rustix::fs::open(root, flags, Mode::empty())?;
        if parent.as_os_str().is_empty() {
            return Ok(root);
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&root, parent, flags, Mode::empty(), resolve)
    };
    let parent = open().map_err(ActivateError::io("find the folder of", &path))?;
    Ok(Place { parent, name, path })
}

#[derive(Debug, PartialEq, Eq)]
struct Directory<'a> {
    path: &'a str,
    mode: Mode,
    owner: Option<(Uid, Gid)>,
}

fn directory(option: &str) -> Result<Directory<'_>, ActivateError> {
    let wrong = || ActivateError::Invalid(format!("invalid mkdir option {option:?}"));
    let value = option.strip_prefix("path=").ok_or_else(wrong)?;
    let mut parts = value.splitn(4, ':');
    let path = parts.next().filter(|path| !path.is_empty()).ok_or_else(wrong)?;
    let mut mode = Mode::from_raw_mode(0o700);
    if let Some(text) = parts.next() {
        let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o777).ok_or_else(wrong)?;
        mode = Mode::from_raw_mode(bits);
    }
    let id = |text: &str| text.parse::<u32>().ok().filter(|id| *id != u32::MAX).ok_or_else(wrong);
    let owner = match (parts.next(), parts.next()) {
        (None, _) => None,
        (Some(_), None) => return Err(wrong()),
        (Some(user), Some(group)) => Some((Uid::from_raw(id(user)?), Gid::from_raw(id(group)?))),
    };
    Ok(Directory { path, mode, owner })
}

/// Makes the directories that the options name, with exactly the mode and owner asked for, and takes these options
/// away. A directory that is there is given them.
pub(crate) fn make_directories(mount: &mut MountSpec, roots: &[PathBuf]) -> Result<(), ActivateError> {
    let (wanted, rest): (Vec<_>, Vec<_>) =
        std::mem::take(&mut mount.options).into_iter().partition(|option| option.starts_with(MKDIR));
    mount.options = rest;
    for option in &wanted {
        let wanted = directory(option.strip_prefix(MKDIR).unwrap_or_default())?;
        let place = place(wanted.path, roots)?;
        make_directory(&place, &wanted).map_err(ActivateError::io("make folder", &place.path))?;
    }
    Ok(())
}

fn make_directory(place: &Place, wanted: &Directory<'_>) -> rustix::io::Result<()> {
    match rustix::fs::mkdirat(&place.parent, &*place.name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(&place.parent, &*place.name, flags, Mode::empty())?;
    if let Some((user, group)) = wanted.owner {
        rustix::fs::fchown(&directory, Some(user), Some(group))?;
    }
    rustix::fs::fchmod(&directory, wanted.mode)
}

/// Makes the mount's source, a file with a new file system, unless it is there, and takes the options for it away. It
/// has its name only once it is whole.
pub(crate) fn make_file_system(mount: &mut MountSpec, roots: &[PathBuf]) -> Result<(), ActivateError> {
    let place = place(&mount.source, roots)?;
    let (wanted, rest): (Vec<_>, Vec<_>) =
        std::mem::take(&mut mount.options).into_iter().partition(|option| option.starts_with(MKFS));
    mount.options = rest;
    let (mut size, mut kind, mut uuid) = (0, "ext4", "");
    for option in &wanted {
        match option.strip_prefix(MKFS).and_then(|option| option.split_once('=')) {
            Some(("size", value)) => {
                size = bytes(value).ok_or_else(|| ActivateError::Invalid(format!("mkfs size {value:?}")))?;
            }
            Some(("fs", value)) => kind = value,
            Some(("uuid", value)) => uuid = value,
            _ => return Err(ActivateError::Invalid(format!("unknown mount option {option:?}"))),
        }
    }
    if size == 0 || size > MAX_SIZE {
        return Err(ActivateError::Invalid("mkfs requires a size option of 16 TiB at most".into()));
    }
    if !uuid.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
        return Err(ActivateError::Invalid(format!("mkfs uuid {uuid:?}")));
    }
    let mut arguments = vec!["-q".to_owned()];
    match kind {
        "ext2" | "ext3" | "ext4" if uuid.is_empty() => {}
        "ext2" | "ext3" | "ext4" => arguments.extend(["-U".to_owned(), uuid.to_owned()]),
        "xfs" if uuid.is_empty() => {}
        "xfs" => arguments.extend(["-m".to_owned(), format!("uuid={uuid}")]),
        _ => return Err(ActivateError::Invalid(format!("unsupported filesystem {kind:?}"))),
    }
    let failed = |e: Errno| ActivateError::io("make", &place.path)(e);
    match rustix::fs::statat(&place.parent, &*place.name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => return Ok(()),
        Err(Errno::NOENT) => {}
        Err(e) => return Err(failed(e)),
    }
    let unfinished = CString::new([b".".as_slice(), place.name.as_bytes(), b".mkfs"].concat())
        .map_err(ActivateError::io("make", &place.path))?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(&place.parent, &*unfinished, flags, Mode::from_raw_mode(0o640)).map_err(failed)?;
    let made = format_file(&file, &place, kind, &arguments, size);
    let finish = || -> Result<(), ActivateError> {
        made?;
        File::from(file).sync_all().map_err(ActivateError::io("flush", &place.path))?;
        rustix::fs::renameat(&place.parent, &*unfinished, &place.parent, &*place.name).map_err(failed)
    };
    finish().inspect_err(|_| {
        let _ = rustix::fs::unlinkat(&place.parent, &*unfinished, rustix::fs::AtFlags::empty());
    })
}

fn format_file(
    file: &OwnedFd,
    place: &Place,
    kind: &str,
    arguments: &[String],
    size: u64,
) -> Result<(), ActivateError> {
    rustix::fs::ftruncate(file, size).map_err(ActivateError::io("make room for", &place.path))?;
    let program = format!("mkfs.{kind}");
    // the name that the kernel has for it, whatever the client's path resolves to by now
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))
        .map_err(ActivateError::io("find", &place.path))?;
    let told = |text: String| ActivateError::Format {
        program: program.clone(),
        path: place.path.clone(),
        text: text.trim().chars().take(MAX_WORDS).collect(),
    };
    let output = Command::new(&program)
        .args(arguments)
        .arg(&path)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| told(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(told(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))))
}

/// A size as people write it: `512`, `64k`, `10MiB`, `1.5g`; powers of 1024 in any case.
fn bytes(text: &str) -> Option<u64> {
    let ends = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(ends);
    let unit = unit.trim().to_ascii_lowercase();
    let power = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let number = number.parse::<f64>().ok()?;
    let size = number * 1024f64.powi(power);
    (size.is_finite() && size >= 0.0 && size <= u64::MAX as f64).then_some(size as u64)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use std::path::Path;

    use super::*;

    fn mount(options: &[String]) -> MountSpec {
        MountSpec { options: options.to_vec(), ..MountSpec::default() }
    }

    #[test]
    fn sizes_are_read() {
        for (text, size) in
            [("512", 512), ("64k", 65536), ("10MiB", 10 << 20), ("1.5g", 3 << 29), ("2 MB", 2 << 20)]
        {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for text in ["", "m", "-1", "1x", "1mm", "1e400"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn options_for_directories_are_read() {
        let wanted = directory("path=/a/b:0755:1:2").unwrap();
        assert_eq!((wanted.path, wanted.mode.bits()), ("/a/b", 0o755));
        assert_eq!(wanted.owner, Some((Uid::from_raw(1), Gid::from_raw(2))));
        assert_eq!(directory("path=/a").unwrap().mode.bits(), 0o700);
        for text in [
            "/a",
            "path=",
            "path=/a:9",
            "path=/a:7777",
            "path=/a:755:1",
            "path=/a:755:1:x",
            "path=/a:755:1:4294967295",
        ] {
            assert!(directory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn directories_are_made_below_the_roots_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::os::unix::fs::symlink(dir.path(), root.join("out")).unwrap();
        let roots = [root.clone()];
        let option = |path: PathBuf, rest: &str| format!("{MKDIR}path={}{rest}", path.display());
        let mut asked = mount(&[option(root.join("sub/new"), ":0751"), "index=off".into()]);
        make_directories(&mut asked, &roots).unwrap();
        assert_eq!(asked.options, ["index=off"]);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&root.join("sub/new")), 0o751);
        make_directories(&mut mount(&[option(root.join("sub/new"), ":0700")]), &roots).unwrap();
        assert_eq!(mode(&root.join("sub/new")), 0o700, "one that is there is given the mode");
        for path in [
            dir.path().join("outside"),
            root.join("out/through-a-link"),
            root.join("sub/../../outside"),
            root.join("no/such/parent"),
            root.clone(),
            PathBuf::from("relative"),
        ] {
            assert!(make_directories(&mut mount(&[option(path.clone(), "")]), &roots).is_err(), "{path:?}");
        }
        assert!(!dir.path().join("outside").exists() && !dir.path().join("through-a-link").exists());
        // a link where the directory should be is not followed
        std::os::unix::fs::symlink(dir.path(), root.join("link")).unwrap();
        assert!(make_directories(&mut mount(&[option(root.join("link"), ":0777")]), &roots).is_err());
    }

    #[test]
    fn a_file_system_is_made_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let roots = [dir.path().to_path_buf()];
        let image = dir.path().join("image");
        let make = |options: &[&str]| {
            let options: Vec<String> = options.iter().map(|o| format!("{MKFS}{o}")).collect();
            let mut mount =
                MountSpec { source: image.display().to_string(), options, ..MountSpec::default() };
            make_file_system(&mut mount, &roots).map(|()| mount.options)
        };
        assert!(make(&[]).is_err(), "a size is needed");
        assert!(make(&["size=4m", "fs=ntfs"]).is_err());
        assert!(make(&["size=4m", "uuid=-x; rm"]).is_err());
        assert!(make(&["size=4m", "colour=red"]).is_err());
        assert!(make(&["size=1", "fs=ext4"]).is_err(), "mkfs itself refuses");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing half made");
        assert!(make(&["size=4m"]).unwrap().is_empty());
        let meta = std::fs::metadata(&image).unwrap();
        assert_eq!((meta.len(), meta.mode() & 0o777), (4 << 20, 0o640));
        std::fs::write(&image, "kept").unwrap();
        make(&["size=4m"]).unwrap();
        assert_eq!(std::fs::read(&image).unwrap(), b"kept");
    }
}
