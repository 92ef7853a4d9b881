//! containerd's gRPC and ttrpc contracts.
//!
//! Modules follow the protobuf packages: `containerd.services.content.v1` is
//! [`containerd::services::content::v1`], the shim's `containerd.task.v3` is [`containerd::task::v3`].
//! With the feature `grpc` each service also has `…_client` and `…_server` modules.
//!
//! Source: names, field numbers and types are the wire facts of containerd 2.x's API;
//! `io.containerd.cgroups.v1`/`v2` are the metrics that `Task.Stats` carries.

#![allow(clippy::all, missing_docs, rustdoc::all)]

include!(concat!(env!("OUT_DIR"), "/wire.rs"));

/// The encoded `FileDescriptorSet` of every file here, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Packs a message into an `Any` as containerd does: the type URL is the bare full name,
/// without the `type.googleapis.com/` prefix.
pub fn to_any<M: prost::Message>(full_name: &str, message: &M) -> prost_types::Any {
    prost_types::Any { type_url: full_name.to_owned(), value: message.encode_to_vec() }
}

/// Full names of the messages that travel inside `Any` fields.
pub mod type_url {
    /// The OCI runtime spec, as JSON.
    pub const OCI_SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
    /// The OCI process of an exec, as JSON.
    pub const OCI_PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
    /// Resources of `Task.Update`, as JSON.
    pub const OCI_RESOURCES: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
    /// `containerd.runc.v1.Options`.
    pub const RUNC_OPTIONS: &str = "containerd.runc.v1.Options";
    /// cgroup v1 metrics.
    pub const METRICS_V1: &str = "io.containerd.cgroups.v1.Metrics";
    /// cgroup v2 metrics.
    pub const METRICS_V2: &str = "io.containerd.cgroups.v2.Metrics";
}
