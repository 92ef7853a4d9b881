//! Flags to the request that makes a container. Everything is checked before anything is sent.

use std::collections::BTreeMap;

use serde::Serialize;
use wharf_docker::container::{
    Config, DeviceRequest, Empty, HealthConfig, HostConfig, LogConfig, NetworkingConfig, PortMap, Words,
};

use super::flags::ContainerFlags;
use crate::options::device::Device;
use crate::options::key_value::{Bare, merge, to_map};
use crate::options::network::Beside;
use crate::options::volume::Volume;
use crate::options::{device, mode, network, port, security, volume};

/// The body of `POST /containers/create`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct CreateRequest {
    #[serde(flatten)]
    pub(super) config: Config,
    #[serde(rename = "HostConfig")]
    pub(super) host_config: HostConfig,
    #[serde(rename = "NetworkingConfig")]
    pub(super) networking_config: NetworkingConfig,
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    if list.is_empty() { None } else { Some(list) }
}

/// The request for `flags`, or docker's complaint about them.
pub(super) fn plan(flags: ContainerFlags) -> Result<CreateRequest, String> {
    mode::check_pull(&flags.pull)?;
    if flags.gpus.is_some() {
        return Err("--gpus is not supported yet".to_owned());
    }
    mode::check_namespaces(&flags.pid, &flags.uts, &flags.userns, &flags.cgroupns)?;
    if !flags.mac_address.is_empty() && !is_mac(&flags.mac_address) {
        return Err(format!("{} is not a valid mac address", flags.mac_address));
    }
    let swappiness = flags.memory_swappiness;
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(format!("invalid value: {swappiness}. Valid memory swappiness range is 0-100"));
    }
    let config = config(&flags)?;
    host(flags, config)
}

fn is_mac(text: &str) -> bool {
    let groups: Vec<&str> = text.split([':', '-']).collect();
    matches!(groups.len(), 6 | 8 | 20)
        && groups.iter().all(|group| group.len() == 2 && group.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn config(flags: &ContainerFlags) -> Result<Config, String> {
    let attaches = |stream: &str| flags.attach.iter().any(|given| given == stream);
    let all_outputs = flags.attach.is_empty();
    let attach_stdin = flags.interactive || attaches("stdin");
    let mut exposed_ports: BTreeMap<String, Empty> = BTreeMap::new();
    for spec in &flags.expose {
        port::expose(spec, &mut exposed_ports)?;
    }
    let env = merge(&flags.env_file, flags.env.clone(), Bare::Environment)?;
    let labels = merge(&flags.label_file, flags.label.clone(), Bare::Keep)?;
    let (image, command) = flags.args.split_first().ok_or("no image given")?;
    Ok(Config {
        hostname: flags.hostname.clone(),
        domainname: flags.domainname.clone(),
        user: flags.user.clone(),
        attach_stdin,
        attach_stdout: all_outputs || attaches("stdout"),
        attach_stderr: all_outputs || attaches("stderr"),
        exposed_ports,
        tty: flags.tty,
        open_stdin: flags.interactive,
        // the container's input ends when the client goes away
        stdin_once: flags.interactive && attach_stdin,
        env: some(env),
        cmd: some(command.to_vec()).map(Words),
        healthcheck: healthcheck(flags)?,
        image: image.clone(),
        working_dir: flags.workdir.clone(),
        // `--entrypoint=` takes the image's away
        entrypoint: flags.entrypoint.clone().map(|program| Words(vec![program])),
        labels: Some(to_map(&labels)),
        stop_signal: flags.stop_signal.clone(),
        stop_timeout: flags.stop_timeout,
        ..Config::default()
    })
}

fn healthcheck(flags: &ContainerFlags) -> Result<Option<HealthConfig>, String> {
    let numbers = [
        ("--health-interval", flags.health_interval),
        ("--health-timeout", flags.health_timeout),
        ("--health-retries", flags.health_retries),
        ("--health-start-period", flags.health_start_period),
        ("--health-start-interval", flags.health_start_interval),
    ];
    let given = !flags.health_cmd.is_empty() || numbers.iter().any(|(_, n)| *n != 0);
    if flags.no_healthcheck {
        if given {
            return Err("--no-healthcheck conflicts with --health-* options".to_owned());
        }
        return Ok(Some(HealthConfig { test: vec!["NONE".to_owned()], ..HealthConfig::default() }));
    }
    if let Some((name, _)) = numbers.iter().find(|(_, n)| *n < 0) {
        return Err(format!("{name} cannot be negative"));
    }
    if !given {
        return Ok(None);
    }
    let probe = vec!["CMD-SHELL".to_owned(), flags.health_cmd.clone()];
    Ok(Some(HealthConfig {
        test: if flags.health_cmd.is_empty() { Vec::new() } else { probe },
        interval: flags.health_interval,
        timeout: flags.health_timeout,
        start_period: flags.health_start_period,
        start_interval: flags.health_start_interval,
        retries: flags.health_retries,
    }))
}

fn host(flags: ContainerFlags, mut config: Config) -> Result<CreateRequest, String> {
    let mut binds = Vec::new();
    for spec in &flags.volume {
        match volume::parse(spec)? {
            Volume::Bind(bind) => binds.push(bind),
            Volume::Anonymous(target) => {
                _ = config.volumes.get_or_insert_default().insert(target, Empty::default())
            }
        }
    }
    let mut port_bindings = PortMap::new();
    for spec in &flags.publish {
        port::publish(spec, &mut port_bindings, &mut config.exposed_ports)?;
    }
    let (devices, device_requests) = devices(&flags.device)?;
    let restart_policy = mode::restart_policy(&flags.restart)?;
    if flags.rm && !matches!(restart_policy.name.as_str(), "" | "no") {
        return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
    }
    let logging = security::logging(&flags.log_driver, &flags.log_opt)?;
    let security = security::security(flags.security_opt)?;
    let storage = security::storage(&flags.storage_opt)?;
    let no_paths = security.unconfined_paths.then(Vec::new);
    let tmpfs: BTreeMap<String, String> = flags
        .tmpfs
        .iter()
        .map(|spec| spec.split_once(':').unwrap_or((spec, "")))
        .map(|(target, options)| (target.to_owned(), options.to_owned()))
        .collect();
    let beside = Beside {
        aliases: flags.network_alias,
        links: flags.link.clone(),
        ip: flags.ip,
        ip6: flags.ip6,
        link_local_ips: flags.link_local_ip,
        mac_address: flags.mac_address,
    };
    let (network_mode, endpoints_config) = network::endpoints(flags.network, beside)?;
    let not_empty = |map: BTreeMap<String, String>| if map.is_empty() { None } else { Some(map) };
    let host_config = HostConfig {
        binds: some(binds),
        container_id_file: flags.cidfile,
        log_config: LogConfig { r#type: flags.log_driver, config: logging },
        network_mode,
        port_bindings: Some(port_bindings),
        restart_policy,
        auto_remove: flags.rm,
        volume_driver: flags.volume_driver,
        volumes_from: some(flags.volumes_from),
        annotations: not_empty(to_map(&flags.annotation)),
        cap_add: some(flags.cap_add),
        cap_drop: some(flags.cap_drop),
        cgroupns_mode: flags.cgroupns,
        // never null: old daemons stumble over that
        dns: Some(flags.dns),
        dns_options: Some(flags.dns_option),
        dns_search: Some(flags.dns_search),
        extra_hosts: some(flags.add_host),
        group_add: some(flags.group_add),
        ipc_mode: flags.ipc,
        links: some(flags.link),
        oom_score_adj: flags.oom_score_adj,
        pid_mode: flags.pid,
        privileged: flags.privileged,
        publish_all_ports: flags.publish_all,
        readonly_rootfs: flags.read_only,
        security_opt: some(security.options),
        storage_opt: not_empty(storage),
        tmpfs: not_empty(tmpfs),
        uts_mode: flags.uts,
        userns_mode: flags.userns,
        shm_size: flags.shm_size,
        sysctls: not_empty(to_map(&flags.sysctl)),
        runtime: flags.runtime,
        isolation: flags.isolation,
        cpu_shares: flags.cpu_shares,
        memory: flags.memory,
        nano_cpus: flags.cpus,
        cgroup_parent: flags.cgroup_parent,
        blkio_weight: flags.blkio_weight,
        blkio_weight_device: Some(flags.blkio_weight_device),
        blkio_device_read_bps: Some(flags.device_read_bps),
        blkio_device_write_bps: Some(flags.device_write_bps),
        blkio_device_read_iops: Some(flags.device_read_iops),
        blkio_device_write_iops: Some(flags.device_write_iops),
        cpu_period: flags.cpu_period,
        cpu_quota: flags.cpu_quota,
        cpu_realtime_period: flags.cpu_rt_period,
        cpu_realtime_runtime: flags.cpu_rt_runtime,
        cpuset_cpus: flags.cpuset_cpus,
        cpuset_mems: flags.cpuset_mems,
        devices: Some(devices),
        device_cgroup_rules: some(flags.device_cgroup_rule),
        device_requests: some(device_requests),
        memory_reservation: flags.memory_reservation,
        memory_swap: flags.memory_swap,
        memory_swappiness: Some(flags.memory_swappiness),
        oom_kill_disable: Some(flags.oom_kill_disable),
        pids_limit: Some(flags.pids_limit),
        ulimits: Some(flags.ulimit),
        mounts: some(flags.mount),
        masked_paths: no_paths.clone(),
        readonly_paths: no_paths,
        init: flags.init.then_some(true),
        ..HostConfig::default()
    };
    Ok(CreateRequest { config, host_config, networking_config: NetworkingConfig { endpoints_config } })
}

type Devices = (Vec<wharf_docker::container::DeviceMapping>, Vec<DeviceRequest>);

fn devices(given: &[String]) -> Result<Devices, String> {
    let (mut mapped, mut named) = (Vec::new(), Vec::new());
    for spec in given {
        match device::parse(spec)? {
            Device::Host(mapping) => mapped.push(mapping),
            Device::Cdi(name) => named.push(name),
        }
    }
    let requests = match some(named) {
        Some(names) => {
            vec![DeviceRequest {
                driver: "cdi".to_owned(),
                device_ids: Some(names),
                ..DeviceRequest::default()
            }]
        }
        None => Vec::new(),
    };
    Ok((mapped, requests))
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
