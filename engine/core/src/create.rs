//! Creating a container: validate, resolve the image, plan, then make it; whatever fails leaves nothing.

use std::collections::BTreeMap;

use wharf_docker::container::{Config, Empty, HostConfig, MountPoint, NetworkingConfig, Words};
use wharf_docker::time::Time;

use crate::container::actor;
use crate::container::phase::Phase;
use crate::container::record::Record;
use crate::container::start::lifecycle_record;
use crate::engine::{Engine, Shared};
use crate::error::EngineError;
use crate::image::ResolvedImage;
use crate::lifecycle::NewContainer;
use crate::registry::NameClaim;
use crate::{id, mounts, names, plan, validate};

/// A create request, parsed.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// Empty lets the engine choose.
    pub name: String,
    pub config: Config,
    pub host: HostConfig,
    pub networking: NetworkingConfig,
    /// `os[/arch[/variant]]`.
    pub platform: Option<String>,
}

/// A container that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    pub id: String,
    pub warnings: Vec<String>,
}

impl Engine {
    /// Creates a container; it does not run yet.
    pub async fn create(&self, request: CreateRequest) -> Result<Created, EngineError> {
        let CreateRequest { name, mut config, mut host, networking, platform } = request;
        let shared = &self.shared;
        let warnings = validate::check(&shared.config, &config, &host)?;
        if !name.is_empty() {
            names::check(&name)?;
        }
        if config.image.is_empty() {
            return Err(EngineError::Invalid("No image specified".to_owned()));
        }
        let image = shared.images.resolve(&config.image, platform.as_deref()).await?;
        merge(&mut config, &image);
        let command = command(&config)?;
        let id = id::new_id();
        complete(shared, &mut config, &mut host, &id);
        let wanted = mounts::plan(&shared.config, &config, &host)?;
        let runtime = shared.config.runtime(&host.runtime).ok_or_else(|| {
            EngineError::Invalid(format!("unknown or invalid runtime name: {}", host.runtime))
        })?;
        let _mark = shared.registry.mark_creating(&id);
        let claim = self.claim(&name, &id)?;
        let mut anonymous_volumes = Vec::new();
        let mounts = match self.make_mounts(wanted, &mut anonymous_volumes).await {
            Ok(mounts) => mounts,
            Err(error) => {
                self.remove_volumes(&anonymous_volumes).await;
                return Err(error);
            }
        };
        let record = Record {
            name: claim.name().to_owned(),
            created: Time::now(),
            image_id: image.id.clone(),
            image_name: image.name.clone(),
            os: if image.os.is_empty() { "linux".to_owned() } else { image.os.clone() },
            config,
            host,
            networking,
            command,
            runtime: runtime.shim,
            runtime_program: runtime.program,
            mounts,
            anonymous_volumes,
            phase: Phase::Created { failure: None },
            restart_count: 0,
            manually_stopped: false,
            started_before: false,
            id,
        };
        match self.make(&record, &image).await {
            Ok((rootfs, spec)) => {
                claim.keep();
                let handle = actor::spawn(shared, record, Some(rootfs), Some(spec));
                let attributes = handle.view().record.attributes();
                shared.events.publish(
                    "container",
                    "create",
                    &handle.id,
                    attributes,
                    std::time::SystemTime::now(),
                );
                Ok(Created { id: handle.id, warnings })
            }
            Err(error) => {
                self.remove_volumes(&record.anonymous_volumes).await;
                Err(error)
            }
        }
    }

    async fn remove_volumes(&self, names: &[String]) {
        for name in names {
            self.shared.volumes.remove_unused(&self.shared, name).await;
        }
    }

    fn claim(&self, name: &str, id: &str) -> Result<NameClaim, EngineError> {
        let registry = &self.shared.registry;
        if !name.is_empty() {
            return registry.claim_name(names::check(name)?, id);
        }
        let mut attempt = 0;
        loop {
            match registry.claim_name(&names::suggest(attempt), id) {
                Err(EngineError::NameTaken { .. }) if attempt < 1000 => attempt += 1,
                other => return other,
            }
        }
    }

    /// Makes what the mounts stand on. Volumes made without a name are told in `anonymous`, on failure too.
    async fn make_mounts(
        &self,
        wanted: Vec<mounts::Wanted>,
        anonymous: &mut Vec<String>,
    ) -> Result<Vec<MountPoint>, EngineError> {
        let shared = &self.shared;
        let mut points = Vec::new();
        for mut mount in wanted {
            if let Some(name) = &mount.volume {
                let unnamed = name.is_empty();
                let name = if unnamed { id::new_id() } else { name.clone() };
                if unnamed {
                    anonymous.push(name.clone());
                }
                shared.volumes.ensure(shared, &name, unnamed, mount.labels).await?;
                mount.point.source =
                    crate::config::text(&crate::volume::Volumes::path(&shared.config, &name));
                mount.point.name = name;
            } else if mount.make_source && !std::path::Path::new(&mount.point.source).exists() {
                let source = &mount.point.source;
                std::fs::create_dir_all(source).map_err(|e| {
                    EngineError::host(format!("error while creating mount source path '{source}'"), e)
                })?;
            }
            points.push(mount.point);
        }
        Ok(points)
    }

    async fn make(
        &self,
        record: &Record,
        image: &ResolvedImage,
    ) -> Result<(Vec<engine_backend::Mount>, Vec<u8>), EngineError> {
        let shared = &self.shared;
        let dir = shared.config.container_dir(&record.id);
        plan::make_dir(&dir)?;
        let made = async {
            // what the image lacks shows at start, which plans again
            let spec = plan::draft(shared, record, &[])?;
            let plan = |rootfs: &[engine_backend::Mount]| {
                let layers = plan::layer_dirs(rootfs);
                let spec = plan::draft(shared, record, &layers).unwrap_or_else(|_| spec.clone());
                lifecycle_record(&shared.config, record, spec)
            };
            let new = NewContainer { id: &record.id, parent: &image.chain_id, plan: &plan };
            let (rootfs, made) = shared.lifecycle.make(&new).await?;
            if let Err(error) = shared.records.put_container(record).await {
                let _ = shared.lifecycle.erase(&record.id).await;
                return Err(error.into());
            }
            Ok((rootfs, made.spec))
        }
        .await;
        if made.is_err() {
            let _ = std::fs::remove_dir_all(&dir);
        }
        made
    }
}

/// The image's defaults, where the request says nothing. They come from the image and are data only.
fn merge(config: &mut Config, image: &ResolvedImage) {
    let defaults = &image.config;
    if config.user.is_empty() {
        config.user.clone_from(&defaults.user);
    }
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&defaults.working_dir);
    }
    if config.stop_signal.is_empty() {
        config.stop_signal.clone_from(&defaults.stop_signal);
    }
    let entrypoint_given = config.entrypoint.as_ref().is_some_and(|words| !words.0.is_empty());
    if !entrypoint_given {
        // an empty list as entrypoint takes the image's away
        let emptied = config.entrypoint.is_some();
        if config.cmd.as_ref().is_none_or(|words| words.0.is_empty()) {
            config.cmd = defaults.cmd.clone().map(Words);
        }
        config.entrypoint = if emptied { None } else { defaults.entrypoint.clone().map(Words) };
    }
    // `--entrypoint ""` arrives as one empty word
    if config.entrypoint.as_ref().is_some_and(|words| words.0 == [""]) {
        config.entrypoint = None;
    }
    let mut env = config.env.take().unwrap_or_default();
    for variable in &defaults.env {
        let key = variable.split_once('=').map_or(variable.as_str(), |(key, _)| key);
        if !env.iter().any(|own| own.split_once('=').map_or(own.as_str(), |(k, _)| k) == key) {
            env.push(variable.clone());
        }
    }
    config.env = Some(env);
    let mut labels = config.labels.take().unwrap_or_default();
    for (key, value) in &defaults.labels {
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    config.labels = Some(labels);
    for port in &defaults.exposed_ports {
        config.exposed_ports.entry(port.clone()).or_default();
    }
    if !defaults.volumes.is_empty() {
        let volumes = config.volumes.get_or_insert_with(BTreeMap::new);
        for path in &defaults.volumes {
            volumes.entry(path.clone()).or_insert(Empty {});
        }
    }
    if config.shell.is_none() {
        config.shell = defaults.shell.clone().map(Words);
    }
    if config.on_build.is_none() && !defaults.on_build.is_empty() {
        config.on_build = Some(defaults.on_build.clone());
    }
}

fn command(config: &Config) -> Result<Vec<String>, EngineError> {
    let mut words = config.entrypoint.as_ref().map(|w| w.0.clone()).unwrap_or_default();
    words.extend(config.cmd.iter().flat_map(|w| w.0.iter().cloned()));
    if words.first().is_none_or(String::is_empty) {
        return Err(EngineError::Invalid("no command specified".to_owned()));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(EngineError::Invalid("a command must not contain null bytes".to_owned()));
    }
    Ok(words)
}

/// Fills what Docker fills when a container is created.
fn complete(shared: &Shared, config: &mut Config, host: &mut HostConfig, id: &str) {
    let engine = &shared.config;
    if config.hostname.is_empty() && !host.network_mode.starts_with("container:") {
        config.hostname = match host.network_mode.as_str() {
            "host" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            _ => id::short(id).to_owned(),
        };
    }
    if host.network_mode.is_empty() || host.network_mode == "default" {
        host.network_mode = "bridge".to_owned();
    }
    if host.runtime.is_empty() {
        host.runtime.clone_from(&engine.default_runtime);
    }
    if host.log_config.r#type.is_empty() {
        host.log_config.r#type.clone_from(&engine.log.r#type);
        let given = std::mem::take(&mut host.log_config.config);
        host.log_config.config = engine.log.config.clone();
        host.log_config.config.extend(given);
    }
    if host.shm_size == 0 {
        host.shm_size = engine.default_shm_size;
    }
    if host.ipc_mode.is_empty() {
        host.ipc_mode = "private".to_owned();
    }
    if host.cgroupns_mode.is_empty() {
        host.cgroupns_mode = if host.privileged { "host" } else { "private" }.to_owned();
    }
    if host.restart_policy.name.is_empty() {
        host.restart_policy.name = "no".to_owned();
    }
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
    if host.pids_limit.is_some_and(|limit| limit <= 0) {
        host.pids_limit = None;
    }
    if host.masked_paths.is_none() && !host.privileged {
        host.masked_paths = Some(plan::default_masked_paths(shared));
    }
    if host.readonly_paths.is_none() && !host.privileged {
        host.readonly_paths = Some(plan::default_readonly_paths());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageConfig;

    fn words(list: &[&str]) -> Option<Words> {
        Some(Words(list.iter().map(|w| (*w).to_owned()).collect()))
    }

    fn image() -> ResolvedImage {
        let config = ImageConfig {
            entrypoint: Some(vec!["/entry".to_owned()]),
            cmd: Some(vec!["serve".to_owned()]),
            env: vec!["PATH=/bin".to_owned(), "A=image".to_owned()],
            ..ImageConfig::default()
        };
        ResolvedImage { config, ..ResolvedImage::default() }
    }

    #[test]
    fn commands_and_entrypoints_combine_as_dockers() {
        let cases = [
            (None, None, vec!["/entry", "serve"]),
            (None, words(&["other"]), vec!["/entry", "other"]),
            (words(&["/mine"]), None, vec!["/mine"]),
            (words(&[""]), words(&["sh"]), vec!["sh"]),
            (words(&["/mine"]), words(&["x"]), vec!["/mine", "x"]),
        ];
        for (entrypoint, cmd, expected) in cases {
            let mut config = Config { entrypoint, cmd, ..Config::default() };
            merge(&mut config, &image());
            assert_eq!(command(&config).unwrap(), expected);
        }
    }

    #[test]
    fn the_requests_environment_wins() {
        let mut config = Config { env: Some(vec!["A=mine".to_owned()]), ..Config::default() };
        merge(&mut config, &image());
        assert_eq!(config.env.unwrap(), ["A=mine", "PATH=/bin"]);
    }

    #[test]
    fn nothing_to_run_is_an_error() {
        assert_eq!(command(&Config::default()).unwrap_err().to_string(), "no command specified");
    }
}
