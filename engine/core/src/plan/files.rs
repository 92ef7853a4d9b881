//! `hosts`, `hostname` and `resolv.conf` of a container.

use std::fmt::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::container::record::Record;
use crate::engine::Shared;
use crate::error::EngineError;

/// Makes a container's directory, closed to others.
pub(crate) fn make_dir(dir: &Path) -> Result<(), EngineError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o710)
        .create(dir)
        .map_err(|e| EngineError::host(format!("make {}", dir.display()), e))
}

/// Writes the three files, unless the container shares another's network and with it that one's files.
pub(super) fn write(shared: &Shared, record: &Record) -> Result<(), EngineError> {
    if record.host.network_mode.starts_with("container:") {
        return Ok(());
    }
    let dir = shared.config.container_dir(&record.id);
    make_dir(&dir)?;
    let host_network = record.host.network_mode == "host";
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let hosts = if host_network { read("/etc/hosts") } else { hosts(record) };
    let hosts = with_extra_hosts(hosts, record);
    put(&dir.join("hostname"), &format!("{}\n", record.config.hostname))?;
    put(&dir.join("hosts"), &hosts)?;
    put(&dir.join("resolv.conf"), &resolv_conf(shared, record, &read("/etc/resolv.conf"), host_network))
}

/// Rewrites a file in place: it may be bound into a container.
fn put(path: &Path, text: &str) -> Result<(), EngineError> {
    use std::io::{Read as _, Write as _};
    // the container may have made it any size
    let old = std::fs::File::open(path).and_then(|file| {
        let mut old = Vec::new();
        file.take(text.len() as u64 + 1).read_to_end(&mut old).map(|_| old)
    });
    if old.is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| EngineError::host(format!("write {}", path.display()), e))
}

fn hosts(record: &Record) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    if record.host.network_mode != "none" && !record.config.hostname.is_empty() {
        // until it has an address of its own, its own name is the loopback
        let domain = &record.config.domainname;
        let full =
            if domain.is_empty() { String::new() } else { format!("{}.{domain} ", record.config.hostname) };
        let _ = writeln!(text, "127.0.0.1\t{full}{}", record.config.hostname);
    }
    text
}

fn with_extra_hosts(mut text: String, record: &Record) -> String {
    for extra in record.host.extra_hosts.iter().flatten() {
        let Some(at) = extra.find([':', '=']) else { continue };
        let (name, address) = (&extra[..at], &extra[at + 1..]);
        // `host-gateway` has no address without a bridge: the loopback of the host is not reachable either way
        let address = address.trim_start_matches('[').trim_end_matches(']');
        if address != "host-gateway" {
            let _ = writeln!(text, "{address}\t{name}");
        }
    }
    text
}

fn resolv_conf(shared: &Shared, record: &Record, of_host: &str, host_network: bool) -> String {
    let pick = |own: &Option<Vec<String>>, engine: &[String]| {
        own.clone().filter(|list| !list.is_empty()).unwrap_or_else(|| engine.to_vec())
    };
    let servers = pick(&record.host.dns, &shared.config.dns);
    let search = pick(&record.host.dns_search, &shared.config.dns_search);
    let options = pick(&record.host.dns_options, &shared.config.dns_options);
    if host_network && servers.is_empty() && search.is_empty() && options.is_empty() {
        return of_host.to_owned();
    }
    let mut text = String::new();
    let keep = |word: &str| match word {
        "nameserver" => servers.is_empty(),
        "search" | "domain" => search.is_empty(),
        "options" => options.is_empty(),
        _ => false,
    };
    for line in of_host.lines() {
        let mut words = line.split_whitespace();
        let Some(word) = words.next() else { continue };
        // a resolver on the host's loopback is not there in another network namespace
        let local = !host_network && words.next().is_some_and(|a| a.starts_with("127.") || a == "::1");
        if keep(word) && !(word == "nameserver" && local) {
            let _ = writeln!(text, "{line}");
        }
    }
    for server in &servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !search.is_empty() && search != ["."] {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}
