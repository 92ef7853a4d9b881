//! seccomp: OCI profiles compiled to BPF without a solver
