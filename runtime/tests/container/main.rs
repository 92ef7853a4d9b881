//! runw as a program: whole containers on this machine's kernel. Every test needs root and busybox-static.

mod attacks;
mod bundle;
mod execs;
mod failures;
mod filesystem;
mod hooks;
mod identity;
mod lifecycle;
mod limits;
mod namespaces;
mod rootless;
mod seccomp;
mod terminals;
