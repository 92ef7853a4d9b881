//! What is fuzzed: one function a parser of foreign data, each with checks of its own beyond "does not panic".
//!
//! libFuzzer's targets (`fuzz/fuzz_targets`) and the driver for stable compilers (`fuzz-smoke`) call the same functions.
//! Each returns a number that stands for what became of the input, such as the refusal it met: the driver has no
//! coverage to go by and keeps inputs that got somewhere new.

mod archive;
mod dbus;
mod handshake;
mod outcome;
mod reference;
mod runtime;
mod user;

pub use archive::{tar_apply, tar_headers};
pub use dbus::dbus;
pub use handshake::handshake;
pub use reference::reference;
pub use runtime::{config, seccomp};
pub use user::user;

/// How inputs of a target are built, so that mutated ones get past the first check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Bytes,
    Text,
    Json,
    /// Header checksums are made right again.
    Tar,
}

/// A function to be fuzzed.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Also the name of its folder in `fuzz/seeds` and of its libFuzzer program.
    pub name: &'static str,
    pub form: Form,
    pub entry: fn(&[u8]) -> u64,
}

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target { name: "config", form: Form::Json, entry: config },
    Target { name: "seccomp", form: Form::Json, entry: seccomp },
    Target { name: "handshake", form: Form::Bytes, entry: handshake },
    Target { name: "user", form: Form::Text, entry: user },
    Target { name: "reference", form: Form::Text, entry: reference },
    Target { name: "dbus", form: Form::Bytes, entry: dbus },
    Target { name: "tar_headers", form: Form::Tar, entry: tar_headers },
    Target { name: "tar_apply", form: Form::Tar, entry: tar_apply },
];
