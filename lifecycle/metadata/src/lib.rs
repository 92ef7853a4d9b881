//! lifecycle records: namespaces, containers, images, leases, content and snapshot metadata, garbage collection
