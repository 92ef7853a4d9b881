//! Sockets to listen on.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Why a host cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("invalid host {0:?}: write unix:///path")]
    Host(String),
    #[error(
        "host {0:?} is refused: TCP without mutual TLS would give the machine to everybody who can reach it, and TLS is not supported yet"
    )]
    Tcp(String),
    #[error("socket path {} is longer than the 107 bytes that the kernel takes", .0.display())]
    TooLong(PathBuf),
    #[error("{} is in use by another daemon", .0.display())]
    InUse(PathBuf),
    #[error("{} exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    #[error("group {0:?} not found")]
    Group(String),
    #[error("{act} {}: {source}", path.display())]
    Io { act: &'static str, path: PathBuf, source: std::io::Error },
}

/// Opens a listener; a socket that nobody answers on is replaced. Its mode is 0660, its group the one given.
pub fn open(host: &str, group: Option<&str>) -> Result<(UnixListener, PathBuf), ListenError> {
    if host.starts_with("tcp://") || host.starts_with("http://") || host.starts_with("https://") {
        return Err(ListenError::Tcp(host.to_owned()));
    }
    let path = match host.strip_prefix("unix://") {
        Some(path) => path,
        None if host.starts_with('/') => host,
        None => return Err(ListenError::Host(host.to_owned())),
    };
    if !path.starts_with('/') {
        return Err(ListenError::Host(host.to_owned()));
    }
    let path = PathBuf::from(path);
    if path.as_os_str().len() > 107 {
        return Err(ListenError::TooLong(path));
    }
    let failed = |act: &'static str| {
        let path = path.clone();
        move |source| ListenError::Io { act, path, source }
    };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed("make the directory of"))?;
    }
    clear(&path)?;
    // nobody else may connect before mode and group are set
    let old = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(&path);
    rustix::process::umask(old);
    let listener = bound.map_err(failed("listen on"))?;
    let gid = match group {
        Some(name) => Some(gid(name)?),
        None => gid("docker").ok(),
    };
    std::os::unix::fs::chown(&path, None, gid).map_err(failed("set the group of"))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))
        .map_err(failed("set the mode of"))?;
    Ok((listener, path))
}

/// Removes a socket that nobody listens on.
fn clear(path: &Path) -> Result<(), ListenError> {
    let failed = |act: &'static str| move |source| ListenError::Io { act, path: path.to_owned(), source };
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
    };
    if !found.file_type().is_socket() {
        return Err(ListenError::NotASocket(path.to_owned()));
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(ListenError::InUse(path.to_owned()));
    }
    std::fs::remove_file(path).map_err(failed("remove the stale socket"))
}

/// A group's number, from its name or the number itself.
fn gid(name: &str) -> Result<u32, ListenError> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    groups
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
        })
        .ok_or_else(|| ListenError::Group(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stale_sockets_are_replaced_and_live_ones_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.sock");
        let host = format!("unix://{}", path.display());
        let gid = rustix::process::getgid().as_raw().to_string();
        let (first, _) = open(&host, Some(&gid)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(matches!(open(&host, Some(&gid)), Err(ListenError::InUse(_))));
        drop(first);
        assert!(open(&host, Some(&gid)).is_ok());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "x").unwrap();
        assert!(matches!(open(&host, Some(&gid)), Err(ListenError::NotASocket(_))));
    }

    #[tokio::test]
    async fn tcp_is_refused() {
        assert!(matches!(open("tcp://127.0.0.1:2375", None), Err(ListenError::Tcp(_))));
        assert!(matches!(open("unix://relative", None), Err(ListenError::Host(_))));
    }
}
