//! What a stack may have left behind on the host.

use std::fs;
use std::path::{Path, PathBuf};

/// Mount points below `dir` in this mount namespace.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo is readable");
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| PathBuf::from(path.replace("\\040", " ")))
        .filter(|path| path.starts_with(dir))
        .collect();
    found.sort();
    found
}

/// Live processes whose command line mentions `dir`: `(pid, command line)`. Zombies have no command line.
pub fn processes_of(dir: &Path) -> Vec<(i32, String)> {
    let needle = dir.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is readable").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        if pid == std::process::id() as i32 {
            continue;
        }
        let Ok(raw) = fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&raw).replace('\0', " ");
        if line.contains(&needle) {
            found.push((pid, line.trim_end().to_owned()));
        }
    }
    found
}

/// Cgroup folders named `name` at the top of any hierarchy, with everything below them, deepest first.
pub fn cgroups_named(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
    roots.extend(folders(Path::new("/sys/fs/cgroup")));
    for root in roots {
        let top = root.join(name);
        if top.is_dir() {
            descend(&top, &mut found);
        }
    }
    found
}

fn descend(dir: &Path, found: &mut Vec<PathBuf>) {
    for below in folders(dir) {
        descend(&below, found);
    }
    found.push(dir.to_path_buf());
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().map(|e| e.path()).filter(|p| p.is_dir() && !p.is_symlink()).collect()
}
