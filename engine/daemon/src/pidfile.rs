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

/// Whether a pid is a daemon that lives: it may have been given to another program since, or be a zombie that nobody
/// reaps.
fn is_daemon(pid: u32) -> bool {
    let stat = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let (theirs, ours) = (stat(&pid.to_string()), stat("self"));
    let name = |stat: &str| Some(stat.get(stat.find('(')?..=stat.rfind(')')?)?.to_owned());
    let is_zombie = theirs.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']));
    !is_zombie && name(&theirs).is_some() && name(&theirs) == name(&ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_and_another_program_do_not_hold_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let zombie = child.id();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while !std::fs::read_to_string(format!("/proc/{zombie}/stat")).unwrap().contains(") Z") {
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        std::fs::write(&path, zombie.to_string()).unwrap();
        drop(Pidfile::write(&path).unwrap());
        child.wait().unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "1").unwrap();
        assert!(Pidfile::write(&path).is_ok());
        // one's own earlier life is no other daemon
        assert!(is_daemon(std::process::id()));
    }
}
