//! The image service on a real containerd.

mod loading;
mod managing;
mod pulling;
mod registry;
mod samples;
mod stack;
