//! containerd's gRPC services on the lifecycle domain
