//! Bundles: the folder a shim and its OCI runtime work in.
//!
//! ```text
//! <state>/<namespace>/<id>/   config.json rootfs/ work -> <root>/<namespace>/<id>
//!                             shim-binary-path bootstrap.json    written here
//!                             log (FIFO)                         the shim's own messages, to our stderr
//!                             address …                          written by shims
//!                             deleted                            the shim confirmed the task's removal
//!                             exit.json                          how the task ended, once its shim is gone
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use prost_types::Timestamp;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use serde::{Deserialize, Serialize};
use wharf_kinds::Kind;

use crate::endpoint::Endpoint;
use crate::process::Exit;

/// Longest file of ours that is read back.
const MAX_FILE: u64 = 1 << 20;

/// What went wrong with a bundle on disk.
#[derive(Debug, thiserror::Error)]
#[error("{act} {path}: {source}")]
pub struct BundleError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl BundleError {
    pub fn kind(&self) -> Kind {
        Kind::of_io(&self.source)
    }
}

pub(crate) fn failed<'a>(
    act: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> BundleError + use<'a> {
    move |source| BundleError { act, path: path.to_owned(), source }
}

#[derive(Serialize, Deserialize)]
struct ExitRecord {
    pid: u32,
    status: u32,
    seconds: i64,
    nanos: i32,
}

/// One container's bundle.
#[derive(Debug, Clone)]
pub struct Bundle {
    pub namespace: String,
    pub id: String,
    /// `<state>/<namespace>/<id>`.
    pub path: PathBuf,
    /// `<root>/<namespace>/<id>`, for what must outlive a reboot.
    pub work: PathBuf,
}

impl Bundle {
    /// Names a bundle. Both names must be identifiers, so that they are safe as path components.
    pub fn at(root: &Path, state: &Path, namespace: &str, id: &str) -> Self {
        Bundle {
            namespace: namespace.into(),
            id: id.into(),
            path: state.join(namespace).join(id),
            work: root.join(namespace).join(id),
        }
    }

    /// Makes the folders and writes `config.json`; undone as a whole if anything fails.
    pub fn create(&self, spec: Option<&[u8]>) -> Result<(), BundleError> {
        for parent in [self.path.parent(), self.work.parent()].into_iter().flatten() {
            folder(parent, 0o711, true)?;
        }
        folder(&self.path, 0o700, false)?;
        self.fill(spec).inspect_err(|_| {
            // nothing is mounted or running in it yet
            let _ = fs::remove_dir_all(&self.path);
            let _ = fs::remove_dir_all(&self.work);
        })
    }

    fn fill(&self, spec: Option<&[u8]>) -> Result<(), BundleError> {
        if let Some(gid) = spec.and_then(remapped_root) {
            chown(&self.path, None, Some(gid)).map_err(failed("give bundle to remapped root", &self.path))?;
            fs::set_permissions(&self.path, Permissions::from_mode(0o710))
                .map_err(failed("open bundle to remapped root", &self.path))?;
        }
        folder(&self.path.join("rootfs"), 0o711, false)?;
        if self.work.exists() {
            // left by a container that ran before the machine restarted
            fs::remove_dir_all(&self.work).map_err(failed("remove stale work folder", &self.work))?;
        }
        folder(&self.work, 0o711, false)?;
        let link = self.path.join("work");
        symlink(&self.work, &link).map_err(failed("link work folder", &link))?;
        match spec {
            Some(spec) => self.write("config.json", spec),
            None => Ok(()),
        }
    }

    /// Remembers the shim's program before it is started, for recovery.
    pub fn write_shim(&self, program: &Path) -> Result<(), BundleError> {
        self.write("shim-binary-path", program.as_os_str().as_encoded_bytes())
    }

    /// The shim's program, if one was started in this bundle.
    pub fn shim(&self) -> Option<PathBuf> {
        let text = self.read("shim-binary-path")?;
        let path = PathBuf::from(text.trim());
        path.is_absolute().then_some(path)
    }

    /// Remembers where the shim listens.
    pub fn write_endpoint(&self, endpoint: &Endpoint) -> Result<(), BundleError> {
        self.write("bootstrap.json", endpoint.to_json().as_bytes())
    }

    /// Where the shim listens: `bootstrap.json`, else what the shim itself left in `address`.
    pub fn endpoint(&self) -> Option<Endpoint> {
        [self.read("bootstrap.json"), self.read("address")]
            .into_iter()
            .flatten()
            .find_map(|text| Endpoint::parse(text.as_bytes()).ok())
    }

    /// Notes that the shim has removed the task: what is left is to be swept without announcing anything.
    pub fn mark_deleted(&self) -> Result<(), BundleError> {
        self.write("deleted", b"")
    }

    pub fn is_marked_deleted(&self) -> bool {
        self.path.join("deleted").exists()
    }

    /// Keeps how the task ended for whoever deletes it, since the shim that knew is gone.
    pub fn write_exit(&self, exit: Exit) -> Result<(), BundleError> {
        let at = exit.at.unwrap_or_default();
        let record = ExitRecord { pid: exit.pid, status: exit.status, seconds: at.seconds, nanos: at.nanos };
        self.write("exit.json", &serde_json::to_vec(&record).unwrap_or_default())
    }

    /// How the task ended, if its shim was cleaned up after.
    pub fn exit(&self) -> Option<Exit> {
        let record: ExitRecord = serde_json::from_str(&self.read("exit.json")?).ok()?;
        let at = Timestamp { seconds: record.seconds, nanos: record.nanos };
        Some(Exit { pid: record.pid, status: record.status, at: Some(at) })
    }

    /// Whether nothing but folders of ours is in it: the daemon died while making it.
    pub fn is_unused(&self) -> bool {
        self.shim().is_none() && self.endpoint().is_none()
    }

    /// Unmounts what is left of the root filesystem and removes both folders.
    ///
    /// A root filesystem that stays mounted is never descended into: the removal fails instead.
    pub fn remove(&self) -> Result<(), BundleError> {
        let rootfs = self.path.join("rootfs");
        unmount_all(&rootfs)?;
        match fs::remove_dir(&rootfs) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove bundle rootfs", &rootfs)(error));
            }
            _ => {}
        }
        let work = fs::read_link(self.path.join("work")).ok().filter(|target| *target == self.work);
        remove_hidden(&self.path)?;
        match work {
            Some(work) => remove_hidden(&work),
            None => Ok(()),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        let (path, staged) = (self.path.join(name), self.path.join(format!(".{name}.new")));
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
            file.write_all(bytes)?;
            fs::rename(&staged, &path)
        };
        write().map_err(failed("write", &path))
    }

    fn read(&self, name: &str) -> Option<String> {
        let file = File::open(self.path.join(name)).ok()?;
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(file, MAX_FILE), &mut text).ok()?;
        (!text.is_empty()).then_some(text)
    }
}

/// The folders of `parent` that are not hidden, by name; none if it is not there.
pub(crate) fn folders(parent: &Path) -> Result<Vec<String>, BundleError> {
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", parent)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("list", parent))?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let (true, Ok(name)) = (is_folder, entry.file_name().into_string())
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes hidden folders: removals that a dying daemon did not finish.
pub(crate) fn sweep_hidden(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn folder(path: &Path, mode: u32, parents: bool) -> Result<(), BundleError> {
    DirBuilder::new().mode(mode).recursive(parents).create(path).map_err(failed("make folder", path))
}

/// Renames to a hidden name, so that it is gone at once, then removes.
fn remove_hidden(path: &Path) -> Result<(), BundleError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let hidden = path.with_file_name(format!(".{name}"));
    match fs::rename(path, &hidden) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) if hidden.exists() => {
            // an earlier removal was cut short
            fs::remove_dir_all(&hidden).map_err(failed("remove", &hidden))?;
            fs::rename(path, &hidden).map_err(failed("rename for removal", path))?;
        }
        other => other.map_err(failed("rename for removal", path))?,
    }
    match fs::remove_dir_all(&hidden) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &hidden)(error)),
        _ => Ok(()),
    }
}

/// Unmounts everything mounted at or below `target`, deepest first.
fn unmount_all(target: &Path) -> Result<(), BundleError> {
    // the common case needs no look at the mount table
    while matches!(unmount(target, UnmountFlags::NOFOLLOW), Ok(())) {}
    if fs::read_dir(target).map_or(true, |mut entries| entries.next().is_none()) {
        match unmount(target, UnmountFlags::NOFOLLOW) {
            Err(Errno::INVAL | Errno::NOENT) | Ok(()) => return Ok(()),
            Err(_) => {}
        }
    }
    let table = fs::read_to_string("/proc/self/mountinfo")
        .map_err(failed("read mount table", Path::new("/proc/self/mountinfo")))?;
    let mut points: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| Path::new(point).starts_with(target))
        .collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.len()));
    for point in points {
        unmount(Path::new(point), UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
            .map_err(|errno| failed("unmount", Path::new(point))(errno.into()))?;
    }
    Ok(())
}

/// The host group that a container's group 0 is mapped to, if it is mapped to another one.
fn remapped_root(spec: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Spec {
        linux: Option<Linux>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Linux {
        #[serde(default)]
        gid_mappings: Vec<Mapping>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Mapping {
        #[serde(rename = "containerID")]
        container: u32,
        #[serde(rename = "hostID")]
        host: u32,
    }
    let spec: Spec = serde_json::from_slice(spec).ok()?;
    spec.linux?.gid_mappings.into_iter().find(|m| m.container == 0 && m.host != 0).map(|m| m.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(at: &tempfile::TempDir) -> Bundle {
        Bundle::at(&at.path().join("root"), &at.path().join("state"), "ns", "c1")
    }

    #[test]
    fn bundle_is_made_filled_and_removed() {
        let at = tempfile::tempdir().expect("folder");
        let bundle = bundle(&at);
        bundle.create(Some(b"{}")).expect("create");
        assert_eq!(fs::read(bundle.path.join("config.json")).expect("spec"), b"{}");
        assert_eq!(fs::read_link(bundle.path.join("work")).expect("link"), bundle.work);
        assert!(bundle.is_unused());
        bundle.write_shim(Path::new("/bin/shim")).expect("shim");
        assert_eq!(bundle.shim().as_deref(), Some(Path::new("/bin/shim")));
        assert!(!bundle.is_unused());
        assert!(!bundle.is_marked_deleted());
        assert_eq!(bundle.exit(), None);
        let exit = Exit { pid: 5, status: 3, at: Some(Timestamp { seconds: 7, nanos: 8 }) };
        bundle.write_exit(exit).expect("exit");
        assert_eq!(bundle.exit(), Some(exit));
        bundle.mark_deleted().expect("mark");
        assert!(bundle.is_marked_deleted());
        assert_eq!(folders(&at.path().join("state/ns")).expect("list"), ["c1"]);
        bundle.remove().expect("remove");
        assert!(!bundle.path.exists() && !bundle.work.exists());
        bundle.remove().expect("removing what is gone is no error");
        assert!(folders(&at.path().join("state/ns")).expect("list").is_empty());
    }

    #[test]
    fn bundle_cannot_be_made_twice() {
        let at = tempfile::tempdir().expect("folder");
        let bundle = bundle(&at);
        bundle.create(None).expect("create");
        assert_eq!(bundle.create(None).expect_err("exists").kind(), Kind::AlreadyExists);
        assert!(bundle.path.join("rootfs").exists(), "the existing one is left alone");
    }

    #[test]
    fn rootfs_with_files_in_it_is_never_deleted() {
        let at = tempfile::tempdir().expect("folder");
        let bundle = bundle(&at);
        bundle.create(None).expect("create");
        fs::write(bundle.path.join("rootfs/precious"), "").expect("write");
        bundle.remove().expect_err("not empty");
        assert!(bundle.path.join("rootfs/precious").exists());
    }

    #[test]
    fn endpoint_is_read_from_either_file() {
        let at = tempfile::tempdir().expect("folder");
        let bundle = bundle(&at);
        bundle.create(None).expect("create");
        assert!(bundle.endpoint().is_none());
        fs::write(bundle.path.join("address"), "unix:///run/s/1").expect("write");
        assert_eq!(bundle.endpoint().expect("plain").version, 2);
        let endpoint = Endpoint::parse(br#"{"version":3,"address":"unix:///run/s/2","protocol":"ttrpc"}"#)
            .expect("endpoint");
        bundle.write_endpoint(&endpoint).expect("write");
        assert_eq!(bundle.endpoint().expect("json"), endpoint);
    }

    #[test]
    fn remapped_root_group_is_found() {
        let spec = br#"{"linux":{"gidMappings":[{"containerID":0,"hostID":1000,"size":1}]}}"#;
        assert_eq!(remapped_root(spec), Some(1000));
        assert_eq!(remapped_root(b"{}"), None);
        assert_eq!(remapped_root(b"nonsense"), None);
    }
}
