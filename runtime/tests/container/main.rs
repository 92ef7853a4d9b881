//! runw as a program: whole containers on this machine's kernel. Every test needs root and busybox-static.

mod attacks;
mod attacks_privilege;
mod attacks_races;
mod bundle;
mod checkpoints;
mod commands;
mod criu;
mod disguise;
mod execs;
mod failures;
mod filesystem;
mod hooks;
mod identity;
mod lifecycle;
mod limits;
mod namespaces;
mod placement;
mod protected_start;
mod refusals;
mod rootless;
mod seccomp;
mod systemd;
mod systemd_user;
mod terminals;
