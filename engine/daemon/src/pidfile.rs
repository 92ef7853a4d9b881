//! The PID file.

use std::path::{Path, PathBuf};

/// Why the file was not written.
#[derive(Debug, thiserror::Error)]
pub enum PidfileError {
    #[error("process with PID {pid} is still running; its PID file is {}", path.display())]
    Running { pid: u32, path: PathBuf },
    #[error("write PID file {}: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
}

/// A written PID file; removed on drop if it still is ours.
#[derive(Debug)]
pub struct Pidfile(PathBuf);

impl Pidfile {
    /// Writes the file unless another process that runs is named in it.
    pub fn write(path: &Path) -> Result<Self, PidfileError> {
        let own = std::process::id();
        if let Some(pid) = read(path)
            && pid != own
            && Path::new("/proc").join(pid.to_string()).exists()
            && is_daemon(pid)
        {
            return Err(PidfileError::Running { pid, path: path.to_owned() });
        }
        let written = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(path, own.to_string()));
        written.map_err(|source| PidfileError::Write { path: path.to_owned(), source })?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if read(&self.0) == Some(std::process::id()) {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

fn read(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A pid may have been given to another program since.
fn is_daemon(pid: u32) -> bool {
    let name = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name(&pid.to_string()) == name("self")
}
