//! Configuration files: reading, `imports`, and the tables of newer versions at the places of version 2.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::config::ConfigError;

/// Longest file read, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Files that one configuration may consist of.
const MAX_FILES: usize = 64;

/// containerd's tables of servers (version 4, under `plugins`) and where the same keys were before: plugin, its key,
/// table, the key there.
const MOVED: [(&str, &[(&str, &str, &str)]); 6] = [
    (
        "io.containerd.server.v1.grpc",
        &[
            ("address", "grpc", "address"),
            ("uid", "grpc", "uid"),
            ("gid", "grpc", "gid"),
            ("max_recv_message_size", "grpc", "max_recv_message_size"),
            ("max_send_message_size", "grpc", "max_send_message_size"),
        ],
    ),
    (
        "io.containerd.server.v1.grpc-tcp",
        &[
            ("address", "grpc", "tcp_address"),
            ("tls_ca", "grpc", "tcp_tls_ca"),
            ("tls_cert", "grpc", "tcp_tls_cert"),
            ("tls_key", "grpc", "tcp_tls_key"),
            ("tls_common_name", "grpc", "tcp_tls_common_name"),
        ],
    ),
    (
        "io.containerd.server.v1.ttrpc",
        &[("address", "ttrpc", "address"), ("uid", "ttrpc", "uid"), ("gid", "ttrpc", "gid")],
    ),
    (
        "io.containerd.server.v1.debug",
        &[("address", "debug", "address"), ("uid", "debug", "uid"), ("gid", "debug", "gid")],
    ),
    ("io.containerd.server.v1.metrics", &[("address", "metrics", "address")]),
    ("io.containerd.metrics.v1.grpc-prometheus", &[("grpc_histogram", "metrics", "grpc_histogram")]),
];

/// The tables of a file and of those that it imports. It need not exist unless it was asked for by name.
pub fn read(path: &Path, asked_for: bool) -> Result<Table, ConfigError> {
    let mut waiting = vec![path.to_owned()];
    let (mut seen, mut merged) = (BTreeSet::new(), Table::new());
    while let Some(path) = waiting.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        if seen.len() > MAX_FILES {
            return Err(ConfigError::Imports { path, why: format!("more than {MAX_FILES} files") });
        }
        let mut table = parse(&path, asked_for || seen.len() > 1)?;
        let found = imports(&path, &table)?;
        // the first in the list is read first, and what is read later wins
        waiting.extend(found.into_iter().rev());
        if seen.len() > 1 {
            table.remove("imports");
        }
        move_servers(&mut table);
        merge(&mut merged, table);
    }
    Ok(merged)
}

fn parse(path: &Path, must_exist: bool) -> Result<Table, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.into(), source };
    let mut text = String::new();
    match fs::File::open(path) {
        Ok(file) => {
            let length = file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
            if length as u64 > MAX_FILE {
                return Err(failed(io::Error::other("longer than 1 MiB")));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {}
        Err(error) => return Err(failed(error)),
    }
    toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.into(), source: Box::new(source) })
}

/// The files that `imports` names, relative to the file's own folder; `*` stands for any name in a folder.
fn imports(path: &Path, table: &Table) -> Result<Vec<PathBuf>, ConfigError> {
    let wrong = |why: String| ConfigError::Imports { path: path.into(), why };
    let Some(list) = table.get("imports") else { return Ok(Vec::new()) };
    let list = list.as_array().ok_or_else(|| wrong("is not a list of paths".into()))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut found = Vec::new();
    for entry in list {
        let entry = entry.as_str().ok_or_else(|| wrong(format!("{entry} is not a path")))?;
        let entry = folder.join(entry);
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match name.split_once('*') {
            None => found.push(entry),
            Some((begin, end)) => {
                let Ok(files) = fs::read_dir(entry.parent().unwrap_or(folder)) else { continue };
                let matching = |file: &PathBuf| {
                    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                    name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end)
                };
                let mut files: Vec<_> = files.flatten().map(|file| file.path()).filter(matching).collect();
                files.sort();
                found.extend(files);
            }
        }
    }
    Ok(found)
}

/// Puts `from` over `into`: tables are merged, lists grow by what they do not hold, anything else is replaced.
fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(known)), Value::Table(more)) => merge(known, more),
            (Some(Value::Array(known)), Value::Array(more)) => {
                for item in more {
                    if !known.contains(&item) {
                        known.push(item);
                    }
                }
            }
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn move_servers(table: &mut Table) {
    for (plugin, keys) in MOVED {
        let of_plugin = table.get_mut("plugins").and_then(|plugins| plugins.get_mut(plugin));
        let Some(of_plugin) = of_plugin.and_then(Value::as_table_mut) else { continue };
        let moved: Vec<_> =
            keys.iter().filter_map(|(key, to, name)| Some((*to, *name, of_plugin.remove(*key)?))).collect();
        // what is left in it is no key of this table
        for (to, name, value) in moved {
            let to = table.entry(to).or_insert_with(|| Value::Table(Table::new()));
            if let Some(to) = to.as_table_mut() {
                to.entry(name).or_insert(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(at: &Path, name: &str, text: &str) -> PathBuf {
        let path = at.join(name);
        fs::write(&path, text).expect("write");
        path
    }

    #[test]
    fn imported_files_are_merged_in_order_and_once() {
        let at = tempfile::tempdir().expect("folder");
        let main = write(
            at.path(),
            "c.toml",
            "imports = ['d*.toml', 'last.toml']\nroot = '/main'\n[grpc]\ngid = 1\nuid = 1\n",
        );
        write(at.path(), "d2.toml", "root = '/d2'\ndisabled_plugins = ['b']\n");
        write(at.path(), "d1.toml", "root = '/d1'\ndisabled_plugins = ['a', 'b']\nimports = ['c.toml']\n");
        write(at.path(), "last.toml", "[grpc]\ngid = 7\n");
        let table = read(&main, true).expect("read");
        assert_eq!(table["root"].as_str(), Some("/d2"));
        assert_eq!(table["disabled_plugins"].as_array().map(Vec::len), Some(2));
        let grpc = table["grpc"].as_table().expect("table");
        assert_eq!((grpc["gid"].as_integer(), grpc["uid"].as_integer()), (Some(7), Some(1)));
    }

    #[test]
    fn missing_and_endless_imports_are_named() {
        let at = tempfile::tempdir().expect("folder");
        let main = write(at.path(), "c.toml", "imports = ['gone.toml']\n");
        let error = read(&main, true).expect_err("missing").to_string();
        assert!(error.contains("gone.toml"), "{error}");
        write(at.path(), "c.toml", "imports = ['*.part']\n");
        for n in 0..MAX_FILES {
            write(at.path(), &format!("{n}.part"), "");
        }
        assert!(matches!(read(&main, true), Err(ConfigError::Imports { .. })));
        write(at.path(), "c.toml", "imports = 'x'\n");
        assert!(matches!(read(&main, true), Err(ConfigError::Imports { .. })));
    }

    #[test]
    fn servers_of_version_4_are_where_version_2_has_them() {
        let at = tempfile::tempdir().expect("folder");
        let text = "version = 4\n[plugins.'io.containerd.server.v1.grpc']\naddress = '/s'\ngid = 5\n\
                    [plugins.'io.containerd.server.v1.metrics']\naddress = '127.0.0.1:1'\n\
                    [grpc]\ngid = 9\n";
        let table = read(&write(at.path(), "c.toml", text), true).expect("read");
        assert_eq!(table["grpc"]["address"].as_str(), Some("/s"));
        assert_eq!(table["grpc"]["gid"].as_integer(), Some(9), "its own key wins");
        assert_eq!(table["metrics"]["address"].as_str(), Some("127.0.0.1:1"));
    }
}
