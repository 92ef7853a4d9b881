//! Unix sockets to serve on.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Longest path that fits `sockaddr_un`.
const MAX_SOCKET_PATH: usize = 107;

/// Where to listen and whose the socket is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketConfig {
    pub path: PathBuf,
    pub uid: u32,
    pub gid: u32,
}

/// Why a socket could not be served on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("{0} is served by another program already")]
    InUse(PathBuf),
    #[error("{0} exists and is not a socket")]
    NotASocket(PathBuf),
    #[error("socket address {0:?} is not an absolute path")]
    Relative(PathBuf),
    #[error("{act} {path}: {source}")]
    Io { act: &'static str, path: PathBuf, source: io::Error },
}

/// Listens on a unix socket, mode 0660, in a folder that is made with mode 0711 if it is not there.
///
/// A socket left by a dead program is replaced in one step; one that is served is not touched. Needs an async
/// context.
pub fn listen(config: &SocketConfig) -> Result<UnixListener, ListenError> {
    let path = &config.path;
    let failed = |act| move |source| ListenError::Io { act, path: path.clone(), source };
    let (true, Some(folder), Some(name)) = (path.is_absolute(), path.parent(), path.file_name()) else {
        return Err(ListenError::Relative(path.clone()));
    };
    DirBuilder::new().recursive(true).mode(0o711).create(folder).map_err(failed("make the folder of"))?;
    match fs::symlink_metadata(path) {
        Ok(meta) if !std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()) => {
            return Err(ListenError::NotASocket(path.clone()));
        }
        Ok(_) if is_served(folder, path) => return Err(ListenError::InUse(path.clone())),
        _ => {}
    }
    // made under another name until it has the right owner, then moved into place
    let staged = folder.join(format!(".{}.new", name.to_string_lossy()));
    let _ = fs::remove_file(&staged);
    let bind = || -> io::Result<StdListener> {
        let listener = short(folder, &staged, |path| StdListener::bind(path))?;
        fs::set_permissions(&staged, Permissions::from_mode(0o660))?;
        chown(&staged, Some(config.uid), Some(config.gid))?;
        listener.set_nonblocking(true)?;
        fs::rename(&staged, path)?;
        Ok(listener)
    };
    let listener = bind().map_err(failed("listen on"))?;
    UnixListener::from_std(listener).map_err(failed("listen on"))
}

fn is_served(folder: &Path, path: &Path) -> bool {
    match short(folder, path, |path| UnixStream::connect(path)) {
        Ok(_) => true,
        // a full backlog has an owner
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Gives `act` a path to the socket that is short enough for the kernel.
fn short<T>(folder: &Path, path: &Path, act: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return act(path);
    }
    let held = fs::File::open(folder)?;
    let name = path.file_name().unwrap_or_default();
    act(&Path::new("/proc/self/fd").join(held.as_raw_fd().to_string()).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: PathBuf) -> SocketConfig {
        let meta = fs::metadata("/proc/self").expect("own owner");
        let (uid, gid) =
            (std::os::unix::fs::MetadataExt::uid(&meta), std::os::unix::fs::MetadataExt::gid(&meta));
        SocketConfig { path, uid, gid }
    }

    #[tokio::test]
    async fn socket_is_private_to_its_group_and_its_folder_passable() {
        let at = tempfile::tempdir().expect("folder");
        let config = config(at.path().join("run/d.sock"));
        let _listener = listen(&config).expect("listen");
        assert_eq!(fs::metadata(&config.path).expect("socket").permissions().mode() & 0o777, 0o660);
        assert_eq!(fs::metadata(at.path().join("run")).expect("folder").permissions().mode() & 0o777, 0o711);
        assert!(UnixStream::connect(&config.path).is_ok());
    }

    #[tokio::test]
    async fn stale_socket_is_replaced_and_a_served_one_is_not() {
        let at = tempfile::tempdir().expect("folder");
        let config = config(at.path().join("d.sock"));
        drop(StdListener::bind(&config.path).expect("bind"));
        let listener = listen(&config).expect("stale one replaced");
        assert!(matches!(listen(&config), Err(ListenError::InUse(_))));
        drop(listener);
        listen(&config).expect("free again");
    }

    #[tokio::test]
    async fn files_are_never_replaced() {
        let at = tempfile::tempdir().expect("folder");
        let config = config(at.path().join("d.sock"));
        fs::write(&config.path, "precious").expect("write");
        assert!(matches!(listen(&config), Err(ListenError::NotASocket(_))));
        assert_eq!(fs::read(&config.path).expect("read"), b"precious");
    }

    #[tokio::test]
    async fn long_paths_are_served() {
        let at = tempfile::tempdir().expect("folder");
        let folder = at.path().join("x".repeat(100));
        let config = config(folder.join("d.sock"));
        let _listener = listen(&config).expect("listen");
        assert!(short(&folder, &config.path, |path| UnixStream::connect(path)).is_ok());
    }
}
