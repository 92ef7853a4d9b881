//! From Docker's host configuration to a request for an OCI spec.

use std::path::{Path, PathBuf};

use wharf_docker::container::{HostConfig, MountPoint};
use wharf_oci::{Join, Mount, Namespaces, Propagation, ReadOnly, Request, SeccompChoice, Ulimit};

use super::{etc_file, user};
use crate::container::record::Record;
use crate::engine::Shared;
use crate::error::EngineError;

/// Whether what can only be known at start must be known now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strictness {
    Draft,
    Start,
}

pub(super) fn build(
    shared: &Shared,
    record: &Record,
    layers: &[PathBuf],
    strictness: Strictness,
) -> Result<oci_spec::runtime::Spec, EngineError> {
    let request = request(shared, record, layers, strictness)?;
    wharf_oci::build(&request, &shared.host).map_err(|error| match error.kind() {
        wharf_kinds::Kind::InvalidArgument => EngineError::Invalid(error.to_string()),
        _ => EngineError::Internal(error.to_string()),
    })
}

fn request(
    shared: &Shared,
    record: &Record,
    layers: &[PathBuf],
    strictness: Strictness,
) -> Result<Request, EngineError> {
    let (config, host) = (&record.config, &record.host);
    let groups = host.group_add.clone().unwrap_or_default();
    let user = match user::resolve(&config.user, &groups, layers) {
        Ok(user) => user,
        // tried again at start
        Err(_) if strictness == Strictness::Draft => wharf_oci::user::Ids::default(),
        Err(error) => return Err(error),
    };
    let security = security(shared, host)?;
    let env = config.env.clone().unwrap_or_default();
    Ok(Request {
        args: record.command.clone(),
        env: wharf_oci::env::container_env(&env, &config.hostname, config.tty),
        cwd: config.working_dir.clone(),
        user,
        terminal: config.tty,
        console_size: (config.tty && host.console_size != (0, 0))
            .then(|| (u64::from(host.console_size.0), u64::from(host.console_size.1))),
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
        root: PathBuf::from("rootfs"),
        readonly_root: host.readonly_rootfs,
        mounts: mounts(shared, record, strictness)?,
        init: None,
        privileged: host.privileged,
        cap_add: host.cap_add.clone().unwrap_or_default(),
        cap_drop: host.cap_drop.clone().unwrap_or_default(),
        seccomp: security.seccomp,
        no_new_privileges: security.no_new_privileges,
        apparmor: security.apparmor,
        selinux_process_label: None,
        selinux_mount_label: None,
        masked_paths: host.masked_paths.clone(),
        readonly_paths: host.readonly_paths.clone(),
        writable_cgroups: security.writable_cgroups,
        namespaces: namespaces(shared, host, strictness)?,
        shm_size: u64::try_from(host.shm_size).unwrap_or(0),
        devices: devices(host)?,
        device_cgroup_rules: host.device_cgroup_rules.clone().unwrap_or_default(),
        resources: resources(host)?,
        sysctls: host.sysctls.clone().unwrap_or_default(),
        ulimits: ulimits(shared, host),
        oom_score_adj: i32::try_from(host.oom_score_adj).ok().filter(|n| *n != 0),
        annotations: host.annotations.clone().unwrap_or_default(),
        cgroups_path: cgroups_path(shared, record),
    })
}

fn cgroups_path(shared: &Shared, record: &Record) -> String {
    let own = &record.host.cgroup_parent;
    let parent = if own.is_empty() { &shared.config.cgroup_parent } else { own };
    format!("/{}/{}", parent.trim_matches('/'), record.id).replace("//", "/")
}

struct Security {
    seccomp: SeccompChoice,
    no_new_privileges: bool,
    apparmor: Option<String>,
    writable_cgroups: Option<bool>,
}

fn security(shared: &Shared, host: &HostConfig) -> Result<Security, EngineError> {
    let mut security = Security {
        seccomp: if host.privileged { SeccompChoice::Unconfined } else { SeccompChoice::Default },
        no_new_privileges: shared.config.no_new_privileges,
        apparmor: None,
        writable_cgroups: None,
    };
    for option in host.security_opt.iter().flatten() {
        let bad = || EngineError::Invalid(format!("invalid --security-opt 2: {option:?}"));
        let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
        match key {
            "no-new-privileges" => {
                security.no_new_privileges = match value {
                    "" | "true" | "1" => true,
                    "false" | "0" => false,
                    _ => return Err(bad()),
                };
            }
            "seccomp" if value == "unconfined" => security.seccomp = SeccompChoice::Unconfined,
            "seccomp" if value == "builtin" => security.seccomp = SeccompChoice::Default,
            "seccomp" => security.seccomp = SeccompChoice::Profile(value.to_owned()),
            "apparmor" => security.apparmor = Some(value.to_owned()).filter(|v| !v.is_empty()),
            "writable-cgroups" => security.writable_cgroups = Some(value == "true"),
            // without SELinux on the host there is nothing to label
            "label" | "disable" => {}
            _ => return Err(bad()),
        }
    }
    Ok(security)
}

fn namespaces(shared: &Shared, host: &HostConfig, strictness: Strictness) -> Result<Namespaces, EngineError> {
    let join = |mode: &str, file: &str, what: &str| -> Result<Join, EngineError> {
        match mode.strip_prefix("container:") {
            Some(other) => match pid_of(shared, other, what) {
                Ok(pid) => Ok(Join::Path(PathBuf::from(format!("/proc/{pid}/ns/{file}")))),
                Err(_) if strictness == Strictness::Draft => Ok(Join::Private),
                Err(error) => Err(error),
            },
            None if mode == "host" => Ok(Join::Host),
            None => Ok(Join::Private),
        }
    };
    let network = join(&host.network_mode, "net", "network")?;
    Ok(Namespaces {
        pid: join(&host.pid_mode, "pid", "PID")?,
        ipc: join(&host.ipc_mode, "ipc", "IPC")?,
        ipc_none: host.ipc_mode == "none",
        uts: if host.uts_mode == "host" || host.network_mode == "host" {
            Join::Host
        } else {
            join("", "uts", "UTS")?
        },
        cgroup: if host.cgroupns_mode == "host" { Join::Host } else { Join::Private },
        user: None,
        network,
    })
}

fn pid_of(shared: &Shared, other: &str, what: &str) -> Result<u32, EngineError> {
    let view = shared.registry.find(other)?.view();
    match view.record.phase.run() {
        Some(run) => Ok(run.pid),
        None => Err(EngineError::Conflict(format!(
            "cannot join {what} namespace of a non running container: {}",
            view.record.id
        ))),
    }
}

fn mounts(shared: &Shared, record: &Record, strictness: Strictness) -> Result<Vec<Mount>, EngineError> {
    let mut all: Vec<Mount> = Vec::new();
    let files_of = match record.host.network_mode.strip_prefix("container:") {
        None => Some(record.id.clone()),
        Some(other) => match shared.registry.find(other) {
            Ok(handle) => Some(handle.id),
            Err(_) if strictness == Strictness::Draft => None,
            Err(error) => return Err(error),
        },
    };
    if let Some(id) = files_of {
        let dir = shared.config.container_dir(&id);
        for (file, destination) in
            [("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"), ("hosts", "/etc/hosts")]
        {
            if record.mounts.iter().any(|mount| mount.destination == destination) {
                continue;
            }
            all.push(Mount::Bind {
                source: etc_file(&dir, file),
                destination: destination.to_owned(),
                read_only: if record.host.readonly_rootfs { ReadOnly::NonRecursive } else { ReadOnly::No },
                recursive: true,
                propagation: None,
            });
        }
    }
    for point in &record.mounts {
        all.push(mount(record, point)?);
    }
    Ok(all)
}

fn mount(record: &Record, point: &MountPoint) -> Result<Mount, EngineError> {
    let asked = record
        .host
        .mounts
        .iter()
        .flatten()
        .find(|m| same_place(&m.target, &point.destination) && m.r#type == point.r#type);
    if point.r#type == "tmpfs" {
        let options = match asked {
            Some(mount) => {
                let tmpfs = mount.tmpfs_options.clone().unwrap_or_default();
                let mut words: Vec<String> = tmpfs.options.iter().map(|pair| pair.join("=")).collect();
                if tmpfs.size_bytes > 0 {
                    words.push(format!("size={}", tmpfs.size_bytes));
                }
                if tmpfs.mode != 0 {
                    words.push(format!("mode={:o}", tmpfs.mode & 0o7777));
                }
                if mount.read_only {
                    words.push("ro".to_owned());
                }
                words.join(",")
            }
            None => record
                .host
                .tmpfs
                .iter()
                .flatten()
                .find(|(destination, _)| same_place(destination, &point.destination))
                .map(|(_, options)| options.clone())
                .unwrap_or_default(),
        };
        return Ok(Mount::Tmpfs { destination: point.destination.clone(), options });
    }
    let options = asked.and_then(|mount| mount.bind_options.clone()).unwrap_or_default();
    let read_only = match point.rw {
        true => ReadOnly::No,
        false if options.read_only_non_recursive => ReadOnly::NonRecursive,
        false if options.read_only_force_recursive => ReadOnly::Recursive,
        false => ReadOnly::Default,
    };
    let propagation = if point.propagation.is_empty() {
        None
    } else {
        Some(Propagation::parse(&point.propagation).ok_or_else(|| {
            EngineError::Invalid(format!("invalid propagation mode: {}", point.propagation))
        })?)
    };
    Ok(Mount::Bind {
        source: PathBuf::from(&point.source),
        destination: point.destination.clone(),
        read_only,
        recursive: !options.non_recursive,
        propagation,
    })
}

fn same_place(asked: &str, destination: &str) -> bool {
    asked.trim_end_matches('/') == destination
}

fn devices(host: &HostConfig) -> Result<Vec<wharf_oci::devices::Device>, EngineError> {
    let mut all = Vec::new();
    if host.privileged {
        all.extend(wharf_oci::devices::all_of_host());
    }
    for device in host.devices.iter().flatten() {
        let inside = if device.path_in_container.is_empty() {
            &device.path_on_host
        } else {
            &device.path_in_container
        };
        let access = if device.cgroup_permissions.is_empty() { "rwm" } else { &device.cgroup_permissions };
        let found = wharf_oci::devices::resolve(Path::new(&device.path_on_host), Path::new(inside), access)
            .map_err(|e| EngineError::Invalid(e.to_string()))?;
        all.extend(found);
    }
    Ok(all)
}

/// Limits of a host configuration.
pub(super) fn resources(host: &HostConfig) -> Result<wharf_oci::Resources, EngineError> {
    let number = |path: &str| -> Result<(u32, u32), EngineError> {
        let found =
            rustix::fs::stat(path).map_err(|e| EngineError::host(format!("stat device {path}"), e.into()))?;
        Ok((rustix::fs::major(found.st_rdev), rustix::fs::minor(found.st_rdev)))
    };
    let rates = |list: &Option<Vec<wharf_docker::container::ThrottleDevice>>| {
        list.iter().flatten().map(|d| Ok((number(&d.path)?, d.rate))).collect::<Result<Vec<_>, EngineError>>()
    };
    Ok(wharf_oci::Resources {
        memory: host.memory,
        memory_reservation: host.memory_reservation,
        memory_swap: host.memory_swap,
        memory_swappiness: host.memory_swappiness.filter(|n| *n >= 0),
        oom_kill_disable: host.oom_kill_disable,
        cpu_shares: host.cpu_shares,
        nano_cpus: host.nano_cpus,
        cpu_period: host.cpu_period,
        cpu_quota: host.cpu_quota,
        cpu_realtime_period: host.cpu_realtime_period,
        cpu_realtime_runtime: host.cpu_realtime_runtime,
        cpuset_cpus: host.cpuset_cpus.clone(),
        cpuset_mems: host.cpuset_mems.clone(),
        pids_limit: host.pids_limit,
        blkio_weight: host.blkio_weight,
        blkio_weight_device: host
            .blkio_weight_device
            .iter()
            .flatten()
            .map(|d| Ok((number(&d.path)?, d.weight)))
            .collect::<Result<Vec<_>, EngineError>>()?,
        blkio_device_read_bps: rates(&host.blkio_device_read_bps)?,
        blkio_device_write_bps: rates(&host.blkio_device_write_bps)?,
        blkio_device_read_iops: rates(&host.blkio_device_read_iops)?,
        blkio_device_write_iops: rates(&host.blkio_device_write_iops)?,
    })
}

fn ulimits(shared: &Shared, host: &HostConfig) -> Vec<Ulimit> {
    let own = host.ulimits.iter().flatten();
    let defaults = shared
        .config
        .default_ulimits
        .iter()
        .filter(|default| !host.ulimits.iter().flatten().any(|own| own.name == default.name));
    own.chain(defaults).map(|u| Ulimit { name: u.name.clone(), soft: u.soft, hard: u.hard }).collect()
}
