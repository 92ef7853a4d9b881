//! Images made on the spot: busybox and the test workload in one layer, as `docker save` lays them out.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

/// Writes an image archive with busybox and its applets, `/bin/workload`, `/etc/passwd` and `/etc/group`,
/// named `name` (such as `busybox:latest`), to `to`.
pub fn busybox(to: &Path, name: &str) -> io::Result<()> {
    let layer = layer()?;
    let diff_id = format!("sha256:{}", hex(&Sha256::digest(&layer)));
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "busybox"}],
    })
    .to_string();
    let config_name = format!("{}.json", hex(&Sha256::digest(config.as_bytes())));
    let manifest =
        serde_json::json!([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).to_string();
    let mut archive = tar::Builder::new(File::create(to)?);
    for (path, bytes) in
        [("layer.tar", &layer[..]), (&config_name, config.as_bytes()), ("manifest.json", manifest.as_bytes())]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, path, bytes)?;
    }
    archive.into_inner()?.flush()
}

fn layer() -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for dir in ["bin", "etc", "tmp", "root", "var", "home", "usr", "usr/bin"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(if dir == "tmp" { 0o1777 } else { 0o755 });
        header.set_size(0);
        header.set_cksum();
        tar.append_data(&mut header, format!("{dir}/"), io::empty())?;
    }
    file(&mut tar, "bin/busybox", &fs::read("/bin/busybox")?, 0o755)?;
    file(&mut tar, "bin/workload", &fs::read(crate::program("wharf-test-workload"))?, 0o755)?;
    file(&mut tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n", 0o644)?;
    file(&mut tar, "etc/group", b"root:x:0:\nuser:x:1000:\nextra:x:1001:user\n", 0o644)?;
    file(&mut tar, "etc/os-release", b"ID=busybox\n", 0o644)?;
    let applets = Command::new("/bin/busybox").arg("--list").output()?;
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|a| *a != "busybox") {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    tar.into_inner()
}

fn file(tar: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_cksum();
    tar.append_data(&mut header, path, bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The archive of [`busybox`] below `dir`, made once.
pub fn busybox_archive(dir: &Path) -> io::Result<PathBuf> {
    let path = dir.join("busybox.tar");
    if !path.exists() {
        busybox(&path, "busybox:latest")?;
    }
    Ok(path)
}
