//! The harness of the whole-stack tests: isolated stacks, images, leak checks.
//!
//! Programs are found in the folder that `WHARF_BIN_DIR` names (`make build` fills it). A stack keeps everything
//! below one temporary folder and one cgroup, so many run side by side; dropping it removes what it made.

pub mod client;
pub mod image;
pub mod leaks;
pub mod port;
pub mod pty;
pub mod registry;
pub mod stack;
pub mod wait;

pub use stack::Stack;
pub use wait::{SOON, eventually};

/// The path of one of our programs.
///
/// # Panics
/// When `WHARF_BIN_DIR` is unset or lacks the program: run the tests with `make test`.
pub fn program(name: &str) -> std::path::PathBuf {
    let dir = std::env::var_os("WHARF_BIN_DIR").expect("WHARF_BIN_DIR is set: run `make test`");
    let path = std::path::Path::new(&dir).join(name);
    assert!(path.exists(), "{} does not exist: run `make build`", path.display());
    path
}
