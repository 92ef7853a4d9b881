//! Streams between this process and a container.

pub(crate) mod demux;
pub(crate) mod interactive;
pub(crate) mod write;
