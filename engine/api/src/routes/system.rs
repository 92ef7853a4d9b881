//! `/_ping`, `/version`, `/info`.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use engine_core::container::phase::Phase;
use http::{Method, StatusCode, header};
use wharf_docker::system::{
    Commit, ComponentVersion, ContainerdInfo, ContainerdNamespaces, IndexInfo, Info, PlatformInfo, Plugins,
    RegistryConfig, Runtime, Swarm, Version,
};
use wharf_docker::time::Time;

use crate::body::reply;
use crate::error::ApiError;
use crate::state::AppState;
use crate::version::ApiVersion;

pub fn routes() -> Router<AppState> {
    Router::new().route("/_ping", get(ping)).route("/version", get(version)).route("/info", get(info))
}

async fn ping(method: Method) -> Response {
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/plain; charset=utf-8"),
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("pragma", "no-cache"),
        // no BuildKit is served here
        ("builder-version", "1"),
        ("swarm", "inactive"),
    ];
    let body = if method == Method::HEAD { "" } else { "OK" };
    (StatusCode::OK, headers, body).into_response()
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

async fn version(State(state): State<AppState>) -> Response {
    let daemon = &state.daemon;
    let mut details = BTreeMap::new();
    for (name, value) in [
        ("ApiVersion", ApiVersion::NEWEST.to_string()),
        ("MinAPIVersion", ApiVersion::OLDEST.to_string()),
        ("Os", "linux".to_owned()),
        ("Arch", architecture().to_owned()),
        ("GitCommit", daemon.git_commit.clone()),
        ("GoVersion", String::new()),
        ("KernelVersion", kernel()),
        ("BuildTime", daemon.build_time.clone()),
        ("Experimental", "false".to_owned()),
    ] {
        details.insert(name.to_owned(), value);
    }
    let mut components =
        vec![ComponentVersion { name: "Engine".to_owned(), version: daemon.version.clone(), details }];
    // left out while the lifecycle daemon is away
    if state.backend.is_connected()
        && let Ok(lifecycle) = state.backend.daemon_version().await
    {
        components.push(ComponentVersion {
            name: "wharf-lifecycled".to_owned(),
            version: lifecycle.version,
            details: BTreeMap::from([("GitCommit".to_owned(), lifecycle.revision)]),
        });
    }
    let body = Version {
        platform: PlatformInfo { name: "Wharf".to_owned() },
        version: daemon.version.clone(),
        api_version: ApiVersion::NEWEST.to_string(),
        min_api_version: ApiVersion::OLDEST.to_string(),
        os: "linux".to_owned(),
        arch: architecture().to_owned(),
        components,
        git_commit: daemon.git_commit.clone(),
        go_version: String::new(),
        kernel_version: kernel(),
        experimental: false,
        build_time: daemon.build_time.clone(),
    };
    reply(StatusCode::OK, &body)
}

async fn info(State(state): State<AppState>) -> Result<Response, ApiError> {
    let views = state.engine.views();
    let paused = views.iter().filter(|v| v.record.phase.run().is_some_and(|run| run.paused)).count() as u64;
    let running =
        views.iter().filter(|v| matches!(&v.record.phase, Phase::Running(run) if !run.paused)).count() as u64;
    let images = if state.backend.is_connected() { image_count(&state).await } else { 0 };
    let config = state.engine.config();
    let names = |list: &[&str]| Some(list.iter().map(|name| (*name).to_owned()).collect());
    let runtimes = config
        .runtimes
        .iter()
        .map(|(name, runtime)| {
            let shown = Runtime {
                path: runtime.program.clone(),
                runtime_type: runtime.shim.clone(),
                ..Runtime::default()
            };
            (name.clone(), shown)
        })
        .collect();
    let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let has = |v1: &str| unified || std::path::Path::new("/sys/fs/cgroup").join(v1).exists();
    let body = Info {
        id: state.daemon.id.clone(),
        containers: views.len() as u64,
        containers_running: running,
        containers_paused: paused,
        containers_stopped: views.len() as u64 - running - paused,
        images,
        driver: "overlayfs".to_owned(),
        driver_status: Some(vec![["driver-type".to_owned(), "io.containerd.snapshotter.v1".to_owned()]]),
        plugins: Plugins {
            volume: names(&["local"]),
            network: names(&["bridge", "host", "null"]),
            authorization: None,
            log: names(&["json-file", "local", "none"]),
        },
        memory_limit: has("memory/memory.limit_in_bytes"),
        swap_limit: has("memory/memory.memsw.limit_in_bytes"),
        cpu_cfs_period: has("cpu/cpu.cfs_period_us"),
        cpu_cfs_quota: has("cpu/cpu.cfs_quota_us"),
        cpu_shares: has("cpu/cpu.shares"),
        cpu_set: has("cpuset/cpuset.cpus"),
        pids_limit: has("pids"),
        oom_kill_disable: !unified && has("memory/memory.oom_control"),
        ipv4_forwarding: std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")
            .is_ok_and(|t| t.trim() == "1"),
        debug: state.daemon.debug,
        n_fd: std::fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count() as i64),
        n_goroutines: std::fs::read_dir("/proc/self/task").map_or(0, |dir| dir.count() as u64),
        system_time: Time::now().to_string(),
        logging_driver: config.log.r#type.clone(),
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: if unified { "2" } else { "1" }.to_owned(),
        n_events_listener: state.events.listeners() as u64,
        kernel_version: kernel(),
        operating_system: os_release("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
        os_version: os_release("VERSION_ID").unwrap_or_default(),
        os_type: "linux".to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        registry_config: Some(registries(&state)),
        n_cpu: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
        mem_total: memory(),
        docker_root_dir: config.data_root.to_string_lossy().into_owned(),
        name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        labels: state.daemon.labels.clone(),
        server_version: state.daemon.version.clone(),
        runtimes,
        default_runtime: config.default_runtime.clone(),
        swarm: Swarm { local_node_state: "inactive".to_owned(), ..Swarm::default() },
        // containers always outlive this daemon
        live_restore_enabled: true,
        init_binary: String::new(),
        containerd_commit: Commit::default(),
        runc_commit: Commit::default(),
        init_commit: Commit::default(),
        security_options: Some(security_options(unified)),
        containerd: Some(ContainerdInfo {
            address: state.daemon.lifecycle_address.clone(),
            namespaces: ContainerdNamespaces {
                containers: state.daemon.namespace.clone(),
                plugins: state.daemon.namespace.clone(),
            },
        }),
        warnings: None,
        ..Info::default()
    };
    Ok(reply(StatusCode::OK, &body))
}

/// Distinct targets among the image records.
async fn image_count(state: &AppState) -> u64 {
    let Ok(images) = state.backend.image_list(&[]).await else { return 0 };
    let targets: std::collections::BTreeSet<String> =
        images.into_iter().map(|image| image.target.digest).collect();
    targets.len() as u64
}

fn security_options(unified: bool) -> Vec<String> {
    let mut options = vec!["name=seccomp,profile=builtin".to_owned()];
    if unified {
        options.push("name=cgroupns".to_owned());
    }
    options
}

fn registries(state: &AppState) -> RegistryConfig {
    let mirrors = state.daemon.registry_mirrors.clone();
    let mut index_configs = BTreeMap::from([(
        "docker.io".to_owned(),
        IndexInfo { name: "docker.io".to_owned(), mirrors: mirrors.clone(), secure: true, official: true },
    )]);
    let mut cidrs = vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
    for registry in &state.daemon.insecure_registries {
        if registry.contains('/') {
            cidrs.push(registry.clone());
        } else {
            let info =
                IndexInfo { name: registry.clone(), mirrors: Vec::new(), secure: false, official: false };
            index_configs.insert(registry.clone(), info);
        }
    }
    RegistryConfig { insecure_registry_cidrs: cidrs, index_configs, mirrors: Some(mirrors) }
}

fn os_release(key: &str) -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name == key).then(|| value.trim_matches('"').to_owned())
    })
}

/// Bytes.
fn memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram * u64::from(info.mem_unit)
}
