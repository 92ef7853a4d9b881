//! Who runs a container's process: Docker's `USER` looked up in the container's own files.
//!
//! Nothing of the container is run for it, and ids are checked: a number out of range is an error and never another
//! id (CVE-2024-40635, CVE-2026-46680, where overflow became root).

mod layers;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use wharf_kinds::Kind;

/// The highest id that Docker accepts.
pub const MAX_ID: u32 = i32::MAX as u32;
/// The most that is read of a file: real ones have kilobytes, those of big directories a few megabytes.
const MAX_FILE: usize = 16 << 20;

/// The ids of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, without the primary one.
    pub additional_gids: Vec<u32>,
    /// The home directory, if the user has an entry.
    pub home: Option<String>,
}

/// The contents of a container's /etc/passwd and /etc/group; none where there is no such file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// `name:password:uid:gid:comment:home:shell` lines.
    pub passwd: Option<Vec<u8>>,
    /// `name:password:gid:member,member` lines.
    pub group: Option<Vec<u8>>,
}

/// A user that cannot be had. The texts of the first four are Docker's.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No user of that name.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    /// No group of that name.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    /// An id below 0 or above [`MAX_ID`].
    #[error("uids and gids must be in range 0-2147483647")]
    Range,
    /// The entry that was looked for has ids that are none.
    #[error("{file} entry of {name:?}: uids and gids must be in range 0-2147483647")]
    Entry {
        /// `passwd` or `group`.
        file: &'static str,
        /// The entry's name.
        name: String,
    },
    /// A file that is there but cannot be used.
    #[error("read {path} of the container: {source}")]
    Read {
        /// In the container, or in a layer.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a regular file, or too big.
    #[error("{path} of the container: {reason}")]
    Unusable {
        /// In the container, or in a layer.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
}

impl UserError {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            UserError::Read { source, .. } => Kind::of_io(source),
            _ => Kind::InvalidArgument,
        }
    }
}

impl Files {
    /// Reads both files below a mounted root. Links lead inside the root only.
    pub fn read(root: BorrowedFd<'_>) -> Result<Files, UserError> {
        let get = |path: &str| -> Result<Option<Vec<u8>>, UserError> {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            match openat2(root, path, READ, Mode::empty(), resolve) {
                Ok(fd) => content(fd, path.into()).map(Some),
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
                Err(e) => Err(UserError::Read { path: path.into(), source: e.into() }),
            }
        };
        Ok(Files { passwd: get("/etc/passwd")?, group: get("/etc/group")? })
    }

    /// Reads both files from overlay layers that are not mounted, the uppermost first: whiteouts, opaque directories
    /// and links across layers count as overlayfs counts them.
    pub fn read_layers(layers: &[PathBuf]) -> Result<Files, UserError> {
        let stack = layers::Stack::open(layers)?;
        let get = |path: &str| -> Result<Option<Vec<u8>>, UserError> {
            stack.open_file(path)?.map(|fd| content(fd, path.into())).transpose()
        };
        Ok(Files { passwd: get("/etc/passwd")?, group: get("/etc/group")? })
    }
}

/// Without NONBLOCK the open of a FIFO would wait for a writer.
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

fn content(fd: OwnedFd, path: PathBuf) -> Result<Vec<u8>, UserError> {
    let read = |e: Errno| UserError::Read { path: path.clone(), source: e.into() };
    let stat = fstat(&fd).map_err(read)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(UserError::Unusable { path, reason: "it is not a regular file" });
    }
    let mut out = Vec::new();
    loop {
        if out.len() > MAX_FILE {
            return Err(UserError::Unusable { path, reason: "it is larger than 16 MiB" });
        }
        out.reserve(64 << 10);
        match rustix::io::read(fd.as_fd(), rustix::buffer::spare_capacity(&mut out)) {
            Ok(0) => return Ok(out),
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(read(e)),
        }
    }
}

/// The number that `text` is, if it is written as one. A number out of range is an error, not a name.
fn numeric(text: &str) -> Result<Option<u32>, UserError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    if text.starts_with('-') && digits.bytes().any(|b| b != b'0') {
        return Err(UserError::Range);
    }
    match digits.parse::<u32>() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(UserError::Range),
    }
}

/// An id in a file's field.
fn field_id(text: Option<&str>) -> Option<u32> {
    let text = text?.trim();
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse::<u32>().ok().filter(|id| *id <= MAX_ID)
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: Option<u32>,
    gid: Option<u32>,
    home: &'a str,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: Option<u32>,
    members: &'a str,
}

fn lines(file: Option<&Vec<u8>>) -> impl Iterator<Item = &str> {
    file.into_iter()
        .flat_map(|bytes| bytes.split(|b| *b == b'\n'))
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

impl Files {
    fn users(&self) -> impl Iterator<Item = PasswdEntry<'_>> {
        lines(self.passwd.as_ref()).map(|line| {
            let mut f = line.split(':');
            let name = f.next().unwrap_or("");
            let (uid, gid) = (field_id(f.nth(1)), field_id(f.next()));
            PasswdEntry { name, uid, gid, home: f.nth(1).unwrap_or("") }
        })
    }

    fn groups(&self) -> impl Iterator<Item = GroupEntry<'_>> {
        lines(self.group.as_ref()).map(|line| {
            let mut f = line.split(':');
            let name = f.next().unwrap_or("");
            GroupEntry { name, gid: field_id(f.nth(1)), members: f.next().unwrap_or("") }
        })
    }

    /// The gid of a group by number or name; a number needs no entry.
    fn group_id(&self, wanted: &str) -> Result<u32, UserError> {
        if let Some(gid) = numeric(wanted)? {
            return Ok(gid);
        }
        let entry =
            self.groups().find(|g| g.name == wanted).ok_or_else(|| UserError::NoGroup(wanted.to_owned()))?;
        entry.gid.ok_or_else(|| UserError::Entry { file: "group", name: wanted.to_owned() })
    }
}

/// The ids for `spec`, in Docker's forms: empty, `user`, `uid`, `user:group`, `uid:gid`, and mixtures.
///
/// A number is an id even if a user has it as a name; it needs no entry, and one that has an entry gets its group and
/// its supplementary groups. These come only where no group is given. `group_add` names further groups.
pub fn resolve(spec: &str, files: &Files, group_add: &[String]) -> Result<Ids, UserError> {
    let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
    // a third part is ignored, as Docker does
    let group = group.split(':').next().unwrap_or("");
    let uid = numeric(user)?;
    let entry = files.users().find(|u| match (user.is_empty(), uid) {
        (true, _) => u.uid == Some(0),
        (false, Some(uid)) => u.uid == Some(uid),
        (false, None) => u.name == user,
    });
    let mut ids = Ids::default();
    let mut name = "";
    match (&entry, uid) {
        (Some(e), _) => {
            let bad = || UserError::Entry { file: "passwd", name: e.name.to_owned() };
            ids.uid = e.uid.ok_or_else(bad)?;
            ids.gid = e.gid.ok_or_else(bad)?;
            ids.home = Some(e.home.to_owned()).filter(|h| !h.is_empty());
            name = e.name;
        }
        (None, Some(uid)) => ids.uid = uid,
        (None, None) if user.is_empty() => {}
        (None, None) => return Err(UserError::NoUser(user.to_owned())),
    }
    if !group.is_empty() {
        ids.gid = files.group_id(group)?;
    } else if !name.is_empty() {
        for g in files.groups().filter(|g| g.members.split(',').any(|m| m == name)) {
            let gid = g.gid.ok_or_else(|| UserError::Entry { file: "group", name: g.name.to_owned() })?;
            push(&mut ids.additional_gids, gid);
        }
    }
    for wanted in group_add {
        push(&mut ids.additional_gids, files.group_id(wanted)?);
    }
    Ok(ids)
}

fn push(list: &mut Vec<u32>, gid: u32) {
    if !list.contains(&gid) {
        list.push(gid);
    }
}

#[cfg(test)]
mod tests;
