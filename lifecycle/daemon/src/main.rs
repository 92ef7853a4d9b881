//! wharf-lifecycled: the container lifecycle daemon.

mod config;
mod flags;
mod log;
mod notify;
mod reload;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use config::Config;
use flags::{Command, ConfigCommand, Flags};
use log::Log;
use notify::Manager;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Threads that serve: requests cost little, blobs are moved on threads of their own.
const WORKERS: usize = 2;
/// Threads for files and databases, made when needed.
const BLOCKING: usize = 32;
/// How long work on files may go on after the end was asked for.
const FAREWELL: Duration = Duration::from_millis(500);
/// Open files, enough for thirty thousand shims.
const DESCRIPTORS: u64 = 65_536;

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wharf-lifecycled: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> anyhow::Result<()> {
    if let Some(Command::Config(command)) = flags.command {
        return show(command, flags);
    }
    let config = flags.config()?;
    wharf_failpoints::arm()?;
    let log = Arc::new(log::to_stderr(config::level(&config.debug.level)?).context("start the log")?);
    prepare_process(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_keep_alive(Duration::from_secs(2))
        .thread_name("lifecycled")
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let served = runtime.block_on(serve(&config, flags, &log));
    // whatever still works on files is made to be cut short
    runtime.shutdown_timeout(FAREWELL);
    served
}

async fn serve(config: &Config, flags: &Flags, log: &Arc<Log>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    // a log that nobody reads any more must not end the daemon
    let _pipe = signal(SignalKind::pipe()).context("ignore SIGPIPE")?;
    let manager = Manager::of_environment();
    // from before the tasks are found again: an early SIGHUP must not end the daemon
    let hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    tokio::spawn(reload_on(hangup, config.clone(), flags.clone(), log.clone(), manager.clone()));
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down, tasks go on");
    };
    let ready = || {
        tracing::info!(
            version = lifecycle_api::VERSION,
            address = %config.grpc.address.display(),
            root = %config.root.display(),
            "serving"
        );
        let Some(manager) = manager else { return };
        if let Err(error) = manager.ready() {
            tracing::warn!(%error, "failed to notify the service manager");
        }
        tokio::spawn(manager.keep_alive());
    };
    lifecycle_api::serve(config.settings(), ready, shutdown).await?;
    Ok(())
}

/// Reads the configuration again at each signal, for ever.
async fn reload_on(
    mut signals: Signal,
    mut running: Config,
    flags: Flags,
    log: Arc<Log>,
    manager: Option<Manager>,
) {
    while signals.recv().await.is_some() {
        let (flags, log, manager, mut next) = (flags.clone(), log.clone(), manager.clone(), running.clone());
        let reloaded = tokio::task::spawn_blocking(move || {
            reload::reload(&mut next, &flags, &log, manager.as_ref());
            next
        });
        match reloaded.await {
            Ok(next) => running = next,
            Err(error) => tracing::error!(%error, "configuration not reloaded"),
        }
    }
}

fn show(command: ConfigCommand, flags: &Flags) -> anyhow::Result<()> {
    let config = match command {
        ConfigCommand::Default => Config::default().validate()?,
        ConfigCommand::Dump => flags.config()?,
        ConfigCommand::Check => {
            flags.config()?;
            return Ok(());
        }
    };
    print!("{}", toml::to_string(&config).context("print configuration")?);
    Ok(())
}

/// Two descriptors are needed for each shim, and the usual soft limit is 1024. Not raised to the hard one: shims
/// inherit it, and programs in containers that close every possible descriptor would take seconds.
fn prepare_process(config: &Config) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(DESCRIPTORS, |hard| hard.min(DESCRIPTORS));
    let raised = Rlimit { current: Some(wanted.max(limit.current.unwrap_or(u64::MAX))), ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "failed to raise the limit of open files");
    }
    if config.oom_score != 0 {
        std::fs::write("/proc/self/oom_score_adj", config.oom_score.to_string())
            .with_context(|| format!("set oom_score to {}", config.oom_score))?;
    }
    Ok(())
}
