//! wharf-lifecycled: the container lifecycle daemon.

mod config;
mod file;
mod flags;
mod hook;
mod log;
mod notify;
mod plugins;
mod processors;
mod reload;
mod trace;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use config::Config;
use flags::{Command, ConfigCommand, Flags};
use lifecycle_api::Settings;
use log::Log;
use notify::Manager;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;
use trace::Traces;
use wharf_cgroups::{Cgroup, Driver, Hierarchies, Plan};

/// Threads that serve: requests cost little, blobs are moved on threads of their own.
const WORKERS: usize = 2;
/// Threads for files and databases, made when needed.
const BLOCKING: usize = 32;
/// How long work on files may go on after the end was asked for.
const FAREWELL: Duration = Duration::from_millis(500);
/// Between two looks at how much of the heap is free.
const GIVE_BACK: Duration = Duration::from_secs(10);
/// Arenas of the heap. Hardly anything is allocated by more threads than serve.
const ARENAS: i32 = 2;
/// Open files, enough for thirty thousand shims.
const DESCRIPTORS: u64 = 65_536;

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wharf-lifecycled: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, each once: most errors say their cause themselves.
fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn run(flags: &Flags) -> anyhow::Result<()> {
    match &flags.command {
        Some(Command::Config(command)) => return show(*command, flags),
        Some(Command::OciHook { command }) => return Err(hook::run(command).into()),
        None => {}
    }
    let config = flags.config()?;
    wharf_failpoints::arm()?;
    wharf_sys::heap::share_arenas(ARENAS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_keep_alive(Duration::from_secs(2))
        .thread_name("lifecycled")
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let traces = {
        let _within = runtime.enter();
        config.traces()?.map(|target| Traces::start(&target)).transpose()?
    };
    let tracer = traces.as_ref().map(Traces::tracer);
    let log = Arc::new(log::to_stderr(config::level(&config.debug.level)?, tracer).context("start the log")?);
    prepare_process(&config)?;
    let mut settings = config.settings();
    settings.adopt = traces.is_some().then_some(trace::adopt);
    let served = runtime.block_on(serve(&config, settings, flags, &log));
    // while the runtime that carries them still runs
    drop(traces);
    // whatever still works on files is made to be cut short
    runtime.shutdown_timeout(FAREWELL);
    served
}

async fn serve(config: &Config, settings: Settings, flags: &Flags, log: &Arc<Log>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    // a log that nobody reads any more must not end the daemon
    let _pipe = signal(SignalKind::pipe()).context("ignore SIGPIPE")?;
    let manager = Manager::of_environment();
    // from before the tasks are found again: an early SIGHUP must not end the daemon
    let hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    tokio::spawn(show_threads());
    tokio::spawn(give_memory_back());
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
    lifecycle_api::serve(settings, ready, shutdown).await?;
    Ok(())
}

/// Writes what the threads are doing to the log at each SIGUSR1, for ever.
async fn show_threads() {
    let Ok(mut signals) = signal(SignalKind::user_defined1()) else { return };
    while signals.recv().await.is_some() {
        if let Ok(threads) = tokio::task::spawn_blocking(lifecycle_api::threads).await {
            tracing::info!("threads:\n{threads}");
        }
    }
}

/// Lets go of what a burst of work has left in the heap, for ever: a pull needs much more than an idle daemon.
async fn give_memory_back() {
    let mut ticks = tokio::time::interval(GIVE_BACK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let _ = tokio::task::spawn_blocking(wharf_sys::heap::give_back).await;
    }
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
        ConfigCommand::Dump | ConfigCommand::Migrate => flags.config()?,
        ConfigCommand::Check => {
            // the environment's part too
            flags.config()?.traces()?;
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
    join_cgroup(&config.cgroup.path)
}

/// `[cgroup] path`: puts this process into that cgroup of every hierarchy.
fn join_cgroup(path: &str) -> anyhow::Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    let failed = || format!("join cgroup.path {path:?}");
    let absolute = Path::new("/").join(path.trim_start_matches('/'));
    let hierarchies = Hierarchies::detect().with_context(failed)?;
    let plan = Plan::new(&hierarchies, Driver::Cgroupfs, Some(&absolute), "").with_context(failed)?;
    let cgroup = Cgroup::create(&hierarchies, &plan).with_context(failed)?;
    cgroup.add(std::process::id() as i32).with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let missing = std::io::Error::from_raw_os_error(2);
        let text = missing.to_string();
        let read = config::ConfigError::Read { path: "/c".into(), source: missing };
        let error = anyhow::Error::from(read).context("start");
        assert_eq!(told(&error), format!("start: read configuration /c: {text}"));
    }
}
