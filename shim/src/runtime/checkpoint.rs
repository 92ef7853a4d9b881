//! `checkpoint` and `restore`, with runc's flags.

use std::path::{Path, PathBuf};
use std::time::Duration;

use wharf_containerd::containerd::runc::v1::CheckpointOptions;

use super::{Launch, Runtime, RuntimeError};

/// Writing memory to disk; the daemon waits as long.
const CHECKPOINT: Duration = Duration::from_secs(600);

/// What is to be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The folder of its images.
    pub images: PathBuf,
    /// The images of an earlier one that these build on.
    pub parent: Option<PathBuf>,
    /// Where CRIU works and logs.
    pub work: PathBuf,
}

impl Runtime {
    /// `checkpoint` into `images`, CRIU working in `work`.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn checkpoint(
        &self,
        id: &str,
        images: &Path,
        work: &Path,
        options: &CheckpointOptions,
    ) -> Result<(), RuntimeError> {
        let mut command = self.command("checkpoint");
        command.arg("--image-path").arg(images).arg("--work-path").arg(work).args(flags(options)).arg(id);
        self.captured(command, None, CHECKPOINT)
    }

    /// `restore --detach`: the container runs as it did when the checkpoint was made.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn restore(&self, id: &str, launch: Launch<'_>, from: &Checkpoint) -> Result<(), RuntimeError> {
        let mut command = self.command("restore");
        command.arg("--image-path").arg(&from.images).arg("--work-path").arg(&from.work);
        if let Some(parent) = &from.parent {
            command.arg("--parent-path").arg(parent);
        }
        command.args(["--detach", "--no-subreaper"]);
        if self.flags.contains(&"--no-pivot") {
            command.arg("--no-pivot");
        }
        command.arg("--bundle").arg(&self.bundle);
        self.launch(command, launch, id)
    }
}

/// The flags that `containerd.runc.v1.CheckpointOptions` stand for. `image_path` and `work_path` are the caller's;
/// `cgroups_mode` is not passed on by containerd's shim either.
fn flags(options: &CheckpointOptions) -> Vec<&str> {
    let mut flags = Vec::new();
    if !options.parent_path.is_empty() {
        flags.extend(["--parent-path", &options.parent_path]);
    }
    let switches = [
        (options.open_tcp, "--tcp-established"),
        (options.external_unix_sockets, "--ext-unix-sk"),
        (options.terminal, "--shell-job"),
        (options.file_locks, "--file-locks"),
        (!options.exit, "--leave-running"),
    ];
    flags.extend(switches.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag));
    for namespace in &options.empty_namespaces {
        flags.extend(["--empty-ns", namespace]);
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_runcs_flags() {
        assert_eq!(flags(&CheckpointOptions::default()), ["--leave-running"]);
        let all = CheckpointOptions {
            exit: true,
            open_tcp: true,
            external_unix_sockets: true,
            terminal: true,
            file_locks: true,
            empty_namespaces: vec!["network".into()],
            parent_path: "../before".into(),
            ..CheckpointOptions::default()
        };
        assert_eq!(
            flags(&all).join(" "),
            "--parent-path ../before --tcp-established --ext-unix-sk --shell-job --file-locks --empty-ns network"
        );
    }
}
