//! Files as block devices.

use std::fs::File;
use std::io;
use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use wharf_sys::loop_device::{self, Attach};

/// Why a file was not attached, or not released.
#[derive(Debug, thiserror::Error)]
#[error("{act} {}: {source}", path.display())]
pub struct LoopError {
    act: &'static str,
    path: PathBuf,
    pub source: io::Error,
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LoopError {
    let path = path.into();
    move |source| LoopError { act, path, source }
}

pub(crate) fn attach(path: &Path, attach: Attach) -> io::Result<(File, u32)> {
    loop_device::attach(&open_backing(path, attach.read_only)?, attach)
}

fn open_backing(path: &Path, read_only: bool) -> io::Result<File> {
    File::options().read(true).write(!read_only).open(path)
}

/// Attaches a file to a free device and leaves a symbolic link to the device at `link`. The device stays until
/// [`release_loop`], whoever uses it. If this is interrupted nothing stays without its link.
pub fn attach_loop(file: &Path, link: &Path, read_only: bool) -> Result<(), LoopError> {
    let how = Attach { read_only, autoclear: true, direct_io: false };
    let (device, number) = attach(file, how).map_err(failed("attach to a loop device", file))?;
    std::os::unix::fs::symlink(format!("/dev/loop{number}"), link).map_err(failed("create", link))?;
    loop_device::set_autoclear(&device, false).map_err(failed("keep the loop device of", file))
}

/// Whether `link` leads to a loop device that has a file.
pub fn is_attached(link: &Path) -> bool {
    device_of(link).is_ok_and(|device| loop_device::backing(&device).is_ok())
}

/// Lets the device that `link` leads to go once nobody uses it any more, and removes the link. With `file` only if that
/// is what is attached. Nothing there is fine.
pub fn release_loop(link: &Path, file: Option<&Path>) -> Result<(), LoopError> {
    match device_of(link) {
        Ok(device) => {
            let is_ours = match file.and_then(|file| std::fs::metadata(file).ok()) {
                Some(meta) => loop_device::backing(&device).is_ok_and(|found| found.1 == meta.st_ino()),
                None => true,
            };
            if is_ours {
                match loop_device::set_autoclear(&device, true) {
                    // the device has no file any more
                    Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {}
                    other => other.map_err(failed("release the loop device at", link))?,
                }
            }
            remove(link)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => remove(link),
        Err(e) => Err(failed("open the loop device at", link)(e)),
    }
}

fn remove(link: &Path) -> Result<(), LoopError> {
    match std::fs::remove_file(link) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", link)(e)),
        _ => Ok(()),
    }
}

/// Opens the device, if the link leads to one.
fn device_of(link: &Path) -> io::Result<File> {
    let target = std::fs::read_link(link)?;
    let number = target.to_str().and_then(|text| text.strip_prefix("/dev/loop"));
    if number.is_none_or(|number| number.parse::<u32>().is_err()) {
        return Err(io::Error::other(format!("{} is no loop device", target.display())));
    }
    File::open(target)
}
