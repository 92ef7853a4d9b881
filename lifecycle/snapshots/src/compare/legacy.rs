//! Overlays on kernels before 6.5, which take no layer by itself and no string of the mount API longer than 255 bytes:
//! mount(2) takes a page. It wants a place, which is in a mount namespace that ends with the thread that made it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use wharf_sys::namespace::{Namespaces, unshare};

use super::CompareError;
use crate::layer::open;

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
    unshare(Namespaces::MOUNT).map_err(CompareError::Overlay)?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).map_err(failed)?;
    // descriptors have short names, without a colon or a comma
    let held = layers.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> = held.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    let mut data = format!("lowerdir={}", names.join(":"));
    if userxattr {
        data.push_str(",userxattr");
    }
    let data = CString::new(data).map_err(|e| CompareError::Overlay(e.into()))?;
    mount("overlay", *place, "overlay", MountFlags::RDONLY | MountFlags::NODEV, &*data).map_err(failed)?;
    Ok(open(place)?)
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
        let layers: Vec<String> = (0..40)
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
        assert_eq!((read("top"), read("of-0"), read("of-39")), ("0".into(), "0".into(), "39".into()));
        let names = fs::read_dir(layers[0]).unwrap().count();
        assert_eq!(names, 2, "nothing is mounted where others look");
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(layers[0]));
    }
}
