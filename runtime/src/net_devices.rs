//! Moving network interfaces into the container: rtnetlink(7), spoken directly.
//!
//! One interface is set down, moved and renamed in one request, so that neither name is ever seen in the wrong
//! namespace, gets its addresses back (the kernel drops them on the move) and is set up.

mod wire;

use crate::plan::net_devices::NetDevice;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use wharf_sys::namespace::{Namespaces, setns};
use wire::{Address, Request, Route};

/// A step that failed, named by the interface's JSON path.
#[derive(Debug, thiserror::Error)]
#[error("linux.netDevices.{device}: {act}: {source}")]
pub struct NetDeviceError {
    device: String,
    act: &'static str,
    source: io::Error,
}

/// Moves the interfaces from the caller's network namespace to that at `path` (`/proc/<pid>/ns/net`).
pub fn attach(devices: &[NetDevice], path: &Path) -> Result<(), NetDeviceError> {
    let Some(first) = devices.first() else { return Ok(()) };
    let failed = |act| move |source| NetDeviceError { device: first.name.clone(), act, source };
    let target = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| failed("opening the container's network namespace")(e.into()))?;
    let here = Route::open().map_err(|e| failed("opening a netlink socket")(e.into()))?;
    let there =
        socket_in(&target).map_err(failed("opening a netlink socket in the container's namespace"))?;
    for device in devices {
        one(device, &here, &there, target.as_fd())?;
    }
    Ok(())
}

/// A socket belongs to the namespace in which it was made, wherever its owner goes afterwards.
fn socket_in(target: &OwnedFd) -> io::Result<Route> {
    let back = rustix::fs::open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    setns(target, Namespaces::NET)?;
    let socket = Route::open();
    setns(&back, Namespaces::NET)?;
    Ok(socket?)
}

fn one(
    device: &NetDevice,
    here: &Route,
    there: &Route,
    target: BorrowedFd<'_>,
) -> Result<(), NetDeviceError> {
    let failed = |act: &'static str| {
        move |e: Errno| NetDeviceError { device: device.name.clone(), act, source: e.into() }
    };
    let index = name_to_index(here, &device.name).map_err(failed("looking for the interface"))?;
    // before it is down: that alone makes the kernel forget IPv6 addresses
    let addresses: Vec<Address> = here
        .addresses(index)
        .map_err(failed("reading its addresses"))?
        .into_iter()
        .filter(Address::is_lasting)
        .collect();
    here.ask(&Request::link(index).set_up(false)).map_err(failed("setting it down"))?;
    let request = Request::link(index).name(&device.renamed).namespace(target.as_raw_fd());
    here.ask(&request).map_err(failed("moving it to the container"))?;
    let index = name_to_index(there, &device.renamed).map_err(failed("finding it in the container"))?;
    for address in &addresses {
        there.ask(&Request::add_address(index, address)).map_err(failed("giving it its addresses"))?;
    }
    there.ask(&Request::link(index).set_up(true)).map_err(failed("setting it up"))
}
