//! all unsafe code: system calls no crate wraps, one call a function
