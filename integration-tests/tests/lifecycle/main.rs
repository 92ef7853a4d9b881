//! wharf-lifecycled over its API, with our shim and runtime: its death under many containers, shims that are stuck,
//! sandboxes, the order of events.

mod checkpoints;
mod daemon;
mod events;
mod mounts;
mod restart;
mod sandboxes;
mod swaps;
