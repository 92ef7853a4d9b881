//! Debian's docker-registry on a loopback port, for one test.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::wait::{SOON, eventually};

/// A running registry; dropping it ends the process.
pub struct Registry {
    child: Child,
    /// The loopback port it listens on.
    pub port: u16,
}

impl Registry {
    /// Starts a registry that keeps its data below `dir`.
    pub fn start(dir: &Path) -> Registry {
        Registry::start_with(dir, "")
    }

    /// The same with more lines of configuration.
    pub fn start_with(dir: &Path, more: &str) -> Registry {
        let storage = dir.join("registry");
        fs::create_dir_all(&storage).expect("a folder");
        let config = dir.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n\
             http:\n  addr: 127.0.0.1:0\n\
             validation:\n  manifests:\n    urls:\n      allow:\n        - ^http://127\\.0\\.0\\.1\n{more}",
            storage.display()
        );
        fs::write(&config, text).expect("a file");
        let path = dir.join("registry.log");
        let log = File::create(&path).expect("a log file");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("dup"))
            .stderr(log)
            .spawn()
            .expect("docker-registry is installed: run `make test`");
        // a port found free beforehand may be another's by now: it finds one itself, and says which
        let mut registry = Registry { child, port: 0 };
        registry.port = eventually("the registry listens", SOON, || {
            let log = fs::read_to_string(&path).expect("its log");
            let (_, rest) = log.split_once("listening on 127.0.0.1:")?;
            rest.split_once(|c: char| !c.is_ascii_digit())?.0.parse().ok()
        });
        registry
    }

    /// Pushes an image archive with skopeo under `name`; gives the reference to pull.
    pub fn push(&self, archive: &Path, name: &str) -> String {
        let reference = format!("127.0.0.1:{}/{name}", self.port);
        let out = Command::new("skopeo")
            .args(["copy", "--insecure-policy", "--dest-tls-verify=false"])
            .arg(format!("docker-archive:{}", archive.display()))
            .arg(format!("docker://{reference}"))
            .output()
            .expect("skopeo is installed: run `make test`");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        reference
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
