//! The socket that the server is reached at.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use sha2::{Digest, Sha256};

use super::CommandError;

/// Where sockets go unless the daemon says otherwise.
pub(super) const DEFAULT_DIR: &str = "/run/wharf/s";
/// Longest path of a unix socket that peers can name.
const MAX_PATH: usize = 107;

/// A socket's path: the folder and a hash of who it is for, shortened where a socket address has no room
/// for all of it.
pub(super) fn path(dir: &Path, address: &str, namespace: &str, group: &str) -> PathBuf {
    // as Go's filepath.Join, which drops an empty first element
    let key =
        [address, namespace, group].iter().filter(|p| !p.is_empty()).copied().collect::<Vec<_>>().join("/");
    let hash = Sha256::digest(key.as_bytes());
    let mut name: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let room = MAX_PATH.saturating_sub(dir.as_os_str().len() + 1);
    name.truncate(room.clamp(16, 64));
    dir.join(name)
}

/// What is found at a socket's path.
pub(super) enum Bound {
    /// It is ours now.
    New(OwnedFd),
    /// A server of the same group answers there.
    Served,
}

/// Listens at `path`, mode 0600 in a folder of mode 0711. A socket that nobody answers at is replaced.
pub(super) fn bind(path: &Path) -> Result<Bound, CommandError> {
    let failed = |act| move |source| CommandError::Socket { path: path.to_owned(), act, source };
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed("listen")(io::ErrorKind::InvalidInput.into()));
    };
    DirBuilder::new().recursive(true).mode(0o711).create(dir).map_err(failed("make folder"))?;
    for _ in 0..2 {
        match listen(dir, Path::new(name)) {
            Ok(socket) => return Ok(Bound::New(socket)),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
            Err(e) => return Err(failed("listen")(e)),
        }
        if UnixStream::connect(path).is_ok() {
            return Ok(Bound::Served);
        }
        match std::fs::remove_file(path) {
            // a server that was ending was quicker
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(failed("remove what is left of"))?,
        }
    }
    Err(failed("listen")(io::ErrorKind::AddrInUse.into()))
}

fn listen(dir: &Path, name: &Path) -> io::Result<OwnedFd> {
    let dir =
        File::from(rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
    let path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // bind gives the file the socket's mode
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_path_is_a_hash_that_fits_a_socket_address() {
        let short = path(Path::new("/run/s"), "/a.sock", "ns", "id");
        assert_eq!(short.file_name().unwrap().len(), 64);
        let long = path(Path::new(&format!("/{}", "d".repeat(79))), "/a.sock", "ns", "id");
        assert!(long.as_os_str().len() <= MAX_PATH && long.file_name().unwrap().len() >= 16);
        assert_ne!(short, path(Path::new("/run/s"), "/a.sock", "ns", "other"));
    }

    #[test]
    fn a_left_socket_is_replaced_and_a_served_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("s/x");
        let Ok(Bound::New(first)) = bind(&at) else { panic!("nothing was there") };
        assert_eq!(std::fs::metadata(&at).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(bind(&at), Ok(Bound::Served)));
        drop(first);
        assert!(matches!(bind(&at), Ok(Bound::New(_))));
    }
}
