//! Loop devices: `ioctl(2)` on `/dev/loop-control` and `/dev/loopN` (include/uapi/linux/loop.h).

use crate::check;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

const LOOP_SET_STATUS64: libc::c_ulong = 0x4C04;
const LOOP_GET_STATUS64: libc::c_ulong = 0x4C05;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;

const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// Layout of `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

const NO_INFO: Info = Info {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// Layout of `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// How a file is attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attach {
    pub read_only: bool,
    /// The device lets go of the file when nobody has it open or mounted any more.
    pub autoclear: bool,
    pub direct_io: bool,
}

/// The number of a device that is free now; somebody else may take it first.
pub fn free_number(control: impl AsFd) -> io::Result<u32> {
    // SAFETY: the request takes no argument; the descriptor is borrowed for the call.
    let number = check(unsafe { libc::ioctl(control.as_fd().as_raw_fd(), LOOP_CTL_GET_FREE) }.into())?;
    u32::try_from(number).map_err(io::Error::other)
}

/// Attaches `backing` to a free device (Linux 5.8). EBUSY if somebody else has taken it.
pub fn configure(device: impl AsFd, backing: impl AsFd, attach: Attach) -> io::Result<()> {
    let flag = |on: bool, flag: u32| if on { flag } else { 0 };
    let flags = flag(attach.read_only, READ_ONLY)
        | flag(attach.autoclear, AUTOCLEAR)
        | flag(attach.direct_io, DIRECT_IO);
    let fd = u32::try_from(backing.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    let config = Config { fd, block_size: 0, info: Info { flags, ..NO_INFO }, reserved: [0; 8] };
    // SAFETY: `config` has the kernel's layout and lives across the call, which only reads it; the kernel takes its own
    // reference to the backing file, so the borrowed descriptor is not kept.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_CONFIGURE, &raw const config) }.into())?;
    Ok(())
}

fn status(device: impl AsFd) -> io::Result<Info> {
    let mut info = NO_INFO;
    // SAFETY: `info` has the kernel's layout and lives across the call, which writes no more than its size; every bit
    // pattern is a valid value of its fields.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) }.into())?;
    Ok(info)
}

/// Device and inode number of the file that is attached. ENXIO if none is.
pub fn backing(device: impl AsFd) -> io::Result<(u64, u64)> {
    status(device).map(|info| (info.device, info.inode))
}

/// Whether the device lets go of its file by itself. ENXIO if none is attached.
pub fn set_autoclear(device: impl AsFd, on: bool) -> io::Result<()> {
    let mut info = status(&device)?;
    info.flags = if on { info.flags | AUTOCLEAR } else { info.flags & !AUTOCLEAR };
    // SAFETY: `info` has the kernel's layout and lives across the call, which only reads it.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_SET_STATUS64, &raw const info) }.into())?;
    Ok(())
}

/// Tries so many devices before it gives up on others being faster.
const ATTEMPTS: u32 = 100;

/// Attaches a file to some free device. The device is returned open, with its number.
pub fn attach(backing: &File, attach: Attach) -> io::Result<(File, u32)> {
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    let mut last = io::Error::from_raw_os_error(libc::EBUSY);
    for _ in 0..ATTEMPTS {
        let number = free_number(&control)?;
        let device =
            File::options().read(true).write(!attach.read_only).open(format!("/dev/loop{number}"))?;
        match configure(&device, backing, attach) {
            Ok(()) => return Ok((device, number)),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => last = e,
            Err(e) => return Err(e),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!((size_of::<Info>(), size_of::<Config>()), (232, 304));
    }
}
