//! Putting the daemon together.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use engine_api::state::{AppState, DaemonInfo, Parts};
use engine_backend::{Backend, BackendConfig};
use engine_core::Engine;
use engine_core::events::EventBus;
use engine_core::records::Records;
use engine_core::usage::ImageUsage;
use engine_images::{Images, ImagesConfig};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use wharf_store::DirectoryLock;

use crate::pidfile::Pidfile;
use crate::settings::Settings;
use crate::{listen, notify};

/// How long the first start waits for the embedded image.
const FIRST_LOAD: Duration = Duration::from_secs(2);
/// How long a request waits for the lifecycle daemon.
const PATIENCE: Duration = Duration::from_secs(5);

/// Starts the log on standard error.
pub fn start_logging(settings: &Settings) {
    let level = if settings.log_level == "fatal" { "error" } else { &settings.log_level };
    let filter = std::env::var("WHARF_LOG").unwrap_or_else(|_| {
        format!("warn,wharfd={level},engine_api={level},engine_core={level},engine_images={level},engine_backend={level}")
    });
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

/// Serves until a signal asks for the end.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    if settings.validate_only {
        println!("configuration OK");
        return Ok(());
    }
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let engine_config = settings.engine.clone();
    make_dir(&engine_config.data_root, 0o710)?;
    make_dir(&engine_config.exec_root, 0o711)?;
    make_dir(&engine_config.exec_root.join("io"), 0o700)?;
    let _lock = DirectoryLock::acquire(&engine_config.data_root).with_context(|| {
        format!("failed to start daemon: data root {}", engine_config.data_root.display())
    })?;
    let _pidfile = settings.pidfile.as_deref().map(Pidfile::write).transpose()?;
    let mut listeners = Vec::new();
    for host in &settings.hosts {
        listeners.push(listen::open(host, settings.group.as_deref())?);
    }
    let backend = Backend::new(BackendConfig {
        address: settings.lifecycle.clone(),
        namespace: settings.namespace.clone(),
        snapshotter: "overlayfs".to_owned(),
        patience: PATIENCE,
    })?;
    let (events, usage) = (EventBus::new(), ImageUsage::default());
    let images = Images::new(images_config(&settings, &backend)?, events.clone(), usage.clone())?;
    let records = Records::open(&engine_config.database_path()).context("open the engine's database")?;
    let engine = Engine::new(engine_core::Parts {
        config: engine_config,
        lifecycle: Arc::new(backend.clone()),
        backend: Some(backend.clone()),
        images: Arc::new(images.clone()),
        records,
        events: events.clone(),
        usage,
    })?;
    let daemon = daemon_info(&settings, &engine)?;
    tokio::spawn(engine.clone().follow_lifecycle());
    let embedded = images.clone();
    let loading = tokio::spawn(async move {
        if let Err(error) = embedded.recover().await {
            tracing::warn!(%error, "leases of unfinished image operations were not given back");
        }
        if let Err(error) = embedded.load_embedded().await {
            tracing::warn!(%error, "the embedded image was not loaded");
        }
    });
    // the first client of a new root finds it there; without a lifecycle daemon nobody is kept waiting for it
    let _ = tokio::time::timeout(FIRST_LOAD, loading).await;
    let app = engine_api::routes::all(AppState::new(Parts { engine, images, events, backend, daemon }));
    for (listener, path) in listeners {
        tracing::info!(socket = %path.display(), "API listens");
        tokio::spawn(engine_api::server::serve(listener, app.clone()));
    }
    notify::tell("READY=1");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    notify::tell("STOPPING=1");
    tracing::info!("daemon ends; containers go on");
    for host in &settings.hosts {
        if let Some(path) = host.strip_prefix("unix://") {
            let _ = std::fs::remove_file(path);
        }
    }
    Ok(())
}

fn make_dir(path: &Path, mode: u32) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .with_context(|| format!("make directory {}", path.display()))
}

fn daemon_info(settings: &Settings, engine: &Engine) -> anyhow::Result<DaemonInfo> {
    Ok(DaemonInfo {
        id: engine.engine_id()?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        git_commit: option_env!("WHARF_GIT_COMMIT").unwrap_or_default().to_owned(),
        build_time: option_env!("WHARF_BUILD_TIME").unwrap_or_default().to_owned(),
        debug: settings.debug,
        labels: settings.labels.clone(),
        insecure_registries: settings.insecure_registries.clone(),
        registry_mirrors: settings.registry_mirrors.clone(),
        lifecycle_address: settings.lifecycle.to_string_lossy().into_owned(),
        namespace: settings.namespace.clone(),
    })
}

fn images_config(settings: &Settings, backend: &Backend) -> anyhow::Result<ImagesConfig> {
    let insecure = settings.insecure_registries.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let registry = wharf_registry::Config {
        insecure,
        mirrors: settings.registry_mirrors.clone(),
        hosts: Some(settings.registry_hosts.clone()),
        ..wharf_registry::Config::default()
    };
    Ok(ImagesConfig {
        backend: backend.clone(),
        registry,
        max_downloads: settings.max_downloads,
        state: settings.engine.data_root.join("images"),
    })
}
