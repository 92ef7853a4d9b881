//! wharf-lifecycled: the container lifecycle daemon

fn main() {}
