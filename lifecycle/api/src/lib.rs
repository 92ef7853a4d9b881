//! containerd's gRPC services on the lifecycle domain: decode, call, map the error, encode.

// storage: namespaces, content, images, snapshots, diff, leases, containers

// running: events, tasks, introspection, version, assembly
mod request;
mod status;
