//! content-addressed blobs and resumable ingests
