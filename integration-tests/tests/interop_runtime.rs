//! runw in the place of runc: under Debian's containerd and its shim, under dockerd, and under podman.

mod interop;
