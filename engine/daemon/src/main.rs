//! wharfd: the Docker Engine API daemon

fn main() {}
