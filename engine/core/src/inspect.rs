//! `docker inspect` of a container.

use std::collections::BTreeMap;

use wharf_docker::container::{EndpointSettings, GraphDriver, Inspect, NetworkSettings, State};
use wharf_docker::time::Time;

use crate::config::text;
use crate::container::phase::Phase;
use crate::container::record::Record;
use crate::container::view::View;
use crate::engine::Engine;
use crate::error::EngineError;

/// Ids of the networks that are always there; fixed, since nothing else tells them apart.
pub const NETWORKS: [(&str, &str); 3] = [
    ("bridge", "b7e1d6c0f8a94b7d9e2f3a5c6d7e8f9001122334455667788990a1b2c3d4e5f6"),
    ("host", "a8f2e7d1097b5c8eaf304b6d7e8f9a0112233445566778899001b2c3d4e5f607"),
    ("none", "c9a3f8e2108c6d9fb0415c7e8f9a0b1223344556677889900112c3d4e5f60718"),
];

impl Engine {
    /// Everything about a container; `size` measures its layers.
    pub async fn inspect(&self, wanted: &str, size: bool) -> Result<Inspect, EngineError> {
        let view = self.find(wanted)?.view();
        let mut inspect = self.inspect_view(&view);
        if size {
            let (own, all) = self.sizes(&view.record.id).await?;
            inspect.size_rw = Some(own);
            inspect.size_root_fs = Some(all);
        }
        Ok(inspect)
    }

    fn inspect_view(&self, view: &View) -> Inspect {
        let record = &view.record;
        let config = &self.shared.config;
        let dir = config.container_dir(&record.id);
        let file = |name: &str| {
            let written = record.started_before || !matches!(record.phase, Phase::Created { failure: None });
            if written { text(&dir.join(name)) } else { String::new() }
        };
        let mut words = record.command.iter().cloned();
        Inspect {
            id: record.id.clone(),
            created: record.created,
            path: words.next().unwrap_or_default(),
            args: words.collect(),
            state: state(view),
            image: record.image_id.clone(),
            resolv_conf_path: file("resolv.conf"),
            hostname_path: file("hostname"),
            hosts_path: file("hosts"),
            log_path: match record.host.log_config.r#type.as_str() {
                "json-file" if record.started_before => text(&config.log_path(&record.id)),
                _ => String::new(),
            },
            name: format!("/{}", record.name),
            restart_count: record.restart_count,
            driver: "overlayfs".to_owned(),
            platform: record.os.clone(),
            mount_label: String::new(),
            process_label: String::new(),
            app_armor_profile: String::new(),
            exec_ids: (!view.execs.is_empty()).then(|| view.execs.clone()),
            host_config: record.host.clone(),
            graph_driver: GraphDriver { data: None, name: "overlayfs".to_owned() },
            size_rw: None,
            size_root_fs: None,
            mounts: record
                .mounts
                .iter()
                .filter(|mount| mount.r#type != "tmpfs" || is_mount(record, &mount.destination))
                .cloned()
                .collect(),
            config: record.config.clone(),
            network_settings: network_settings(record),
        }
    }
}

/// Docker lists a tmpfs of `--mount`, not one of `--tmpfs`.
fn is_mount(record: &Record, destination: &str) -> bool {
    record.host.mounts.iter().flatten().any(|mount| mount.target.trim_end_matches('/') == destination)
}

fn state(view: &View) -> State {
    let phase = &view.record.phase;
    let mut state = State { status: view.word().into(), exit_code: phase.exit_code(), ..State::default() };
    match phase {
        Phase::Created { failure } => {
            state.error = failure.as_ref().map(|f| f.message.clone()).unwrap_or_default()
        }
        Phase::Running(run) => {
            state.running = true;
            state.paused = run.paused;
            state.oom_killed = run.oom_killed;
            state.pid = run.pid;
            state.started_at = run.started_at;
        }
        Phase::Restarting { ended } | Phase::Exited { ended } | Phase::Dead { ended, .. } => {
            state.restarting = matches!(phase, Phase::Restarting { .. });
            // as in Docker, which says so for clients that look at nothing else
            state.running = state.restarting;
            state.dead = matches!(phase, Phase::Dead { .. });
            state.oom_killed = ended.oom_killed;
            state.error.clone_from(&ended.error);
            state.started_at = ended.started_at;
            state.finished_at = ended.finished_at;
        }
    }
    if let Phase::Dead { why, .. } = phase {
        state.error.clone_from(why);
    }
    if state.finished_at == Time::default() {
        state.finished_at = Time::ZERO;
    }
    state
}

/// The networks a container is on, by name.
pub fn networks(record: &Record) -> BTreeMap<String, EndpointSettings> {
    let mode = record.host.network_mode.as_str();
    let mut networks = BTreeMap::new();
    if let Some((name, id)) = NETWORKS.iter().find(|(name, _)| *name == mode) {
        let asked = record.networking.endpoints_config.get(*name).cloned().flatten().unwrap_or_default();
        networks.insert((*name).to_owned(), EndpointSettings { network_id: (*id).to_owned(), ..asked });
    }
    networks
}

fn network_settings(record: &Record) -> NetworkSettings {
    let ports =
        record.config.exposed_ports.keys().map(|port| (port.clone(), None)).collect::<BTreeMap<_, _>>();
    let running = record.phase.run().is_some();
    NetworkSettings {
        sandbox_id: if running { record.id.clone() } else { String::new() },
        sandbox_key: record.phase.run().map(|run| format!("/proc/{}/ns/net", run.pid)).unwrap_or_default(),
        ports: Some(if running { ports } else { BTreeMap::new() }),
        networks: networks(record),
        ..NetworkSettings::default()
    }
}
