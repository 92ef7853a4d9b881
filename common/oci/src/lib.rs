//! OCI runtime specs: Docker's defaults, seccomp profile, capabilities, devices
