//! runw: the OCI runtime

fn main() {}
