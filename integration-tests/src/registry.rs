//! Debian's docker-registry on a loopback port, for one test.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::wait::eventually;

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
        let port = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port();
        let storage = dir.join("registry");
        fs::create_dir_all(&storage).expect("a folder");
        let config = dir.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n\
             http:\n  addr: 127.0.0.1:{port}\n\
             validation:\n  manifests:\n    urls:\n      allow:\n        - ^http://127\\.0\\.0\\.1\n{more}",
            storage.display()
        );
        fs::write(&config, text).expect("a file");
        let log = File::create(dir.join("registry.log")).expect("a log file");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("dup"))
            .stderr(log)
            .spawn()
            .expect("docker-registry is installed: run `make test`");
        eventually("the registry listens", Duration::from_secs(10), || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Registry { child, port }
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
