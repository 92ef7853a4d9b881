//! Overlays on kernels before 6.5, which take no layer by itself and no string of the mount API longer than 255 bytes:
//! mount(2) takes a page, and cuts what is longer without a word. It wants a place, which is in a mount namespace that
//! ends with the thread that made it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::chdir;
use wharf_sys::namespace::{Namespaces, unshare};

use super::CompareError;
use crate::layer::open;

/// The options that mount(2) takes, with the zero at their end: a page, on the machines with the smallest.
const MOST_OPTIONS: usize = 4096;

/// A read-only overlay of these directories, the uppermost first, that has no path.
pub(super) fn overlay(layers: &[&str], userxattr: bool) -> Result<OwnedFd, CompareError> {
    let made = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || in_own_namespace(layers, userxattr));
        thread.map(|thread| thread.join())
    });
    match made {
        Ok(Ok(made)) => made,
        Ok(Err(_)) => Err(CompareError::Overlay(io::Error::other("the thread that mounts has panicked"))),
        Err(error) => Err(CompareError::Overlay(error)),
    }
}

fn in_own_namespace(layers: &[&str], userxattr: bool) -> Result<OwnedFd, CompareError> {
    let failed = |e: rustix::io::Errno| CompareError::Overlay(e.into());
    let Some(place) = layers.first() else {
        return Err(CompareError::Mounts("an overlay without directories".into()));
    };
    if let Some(path) = layers.iter().find(|path| !path.starts_with('/')) {
        return Err(CompareError::Mounts(format!("the path {path:?}, which is not absolute")));
    }
    unshare(Namespaces::MOUNT).map_err(CompareError::Overlay)?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).map_err(failed)?;
    // descriptors have short names where they are, without a colon or a comma. The folder that a thread is in is its own
    // once its namespace is.
    let held = layers.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let data = options(held.iter().map(OwnedFd::as_raw_fd), userxattr)?;
    chdir("/proc/self/fd").map_err(failed)?;
    mount("overlay", *place, "overlay", MountFlags::RDONLY | MountFlags::NODEV, &*data).map_err(failed)?;
    Ok(open(place)?)
}

fn options(layers: impl Iterator<Item = RawFd>, userxattr: bool) -> Result<CString, CompareError> {
    let names: Vec<String> = layers.map(|fd| fd.to_string()).collect();
    let mut data = format!("lowerdir={}", names.join(":"));
    if userxattr {
        data.push_str(",userxattr");
    }
    if data.len() >= MOST_OPTIONS {
        let reason = format!("{} layers are too many for this kernel", names.len());
        return Err(CompareError::Overlay(io::Error::other(reason)));
    }
    CString::new(data).map_err(|e| CompareError::Overlay(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags, openat};
    use std::fs;
    use std::io::Read;

    #[test]
    fn root_many_layers_are_seen_over_each_other_and_nowhere_else() {
        assert!(rustix::process::geteuid().is_root(), "this test needs root: run `make test`");
        let dir = tempfile::tempdir().unwrap();
        let layers: Vec<String> = (0..300)
            .map(|n| {
                let layer = dir.path().join(format!("layer-{n}"));
                fs::create_dir(&layer).unwrap();
                fs::write(layer.join("top"), n.to_string()).unwrap();
                fs::write(layer.join(format!("of-{n}")), n.to_string()).unwrap();
                layer.display().to_string()
            })
            .collect();
        let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
        let root = overlay(&layers, false).unwrap();
        let read = |name: &str| {
            let file = openat(&root, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
            let mut text = String::new();
            fs::File::from(file).read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!((read("top"), read("of-0"), read("of-299")), ("0".into(), "0".into(), "299".into()));
        let names = fs::read_dir(layers[0]).unwrap().count();
        assert_eq!(names, 2, "nothing is mounted where others look");
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(layers[0]));
    }
    #[test]
    fn what_a_mount_would_cut_off_is_refused() {
        let whole = options(1000..1800, true).unwrap();
        assert!(whole.to_bytes_with_nul().len() <= MOST_OPTIONS);
        let error = options(1000..2000, false).unwrap_err();
        assert!(error.to_string().contains("1000 layers are too many for this kernel"), "{error}");
    }

    #[test]
    fn a_path_from_nowhere_is_refused() {
        let error = overlay(&["/", "5"], false).unwrap_err();
        assert!(matches!(error, CompareError::Mounts(_)), "{error}");
    }
}
