//! The sandbox that a shim may hold: a group of containers that comes before its first and outlives its last.
//!
//! `containerd.runtime.sandbox.v1.Sandbox`. There is no process for the sandbox itself: the shim is it. While
//! there is one, `Task.Shutdown` does not end the shim; `ShutdownSandbox` does.

use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use prost::Message;
use wharf_cgroups::Stats;
use wharf_containerd::containerd::runtime::sandbox::v1::{
    CreateSandboxRequest, PingRequest, PlatformRequest, PlatformResponse, SandboxMetricsRequest,
    SandboxMetricsResponse, SandboxStatusRequest, SandboxStatusResponse, ShutdownSandboxRequest,
    StartSandboxRequest, StartSandboxResponse, StopSandboxRequest, WaitSandboxRequest, WaitSandboxResponse,
};
use wharf_containerd::containerd::types::{Metric, Platform};
use wharf_kinds::Kind;

use super::container::Container;
use super::{Shim, metrics};
use crate::error::TaskError;
use crate::runtime::is_plain_name;
use crate::ttrpc::Responder;
use crate::{log, mounts};

const SIGTERM: u32 = 15;
const SIGKILL: u32 = 9;
/// What the kernel may take to end processes that were killed.
const KILLED: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Sandbox {
    id: String,
    /// Where its root filesystem was mounted, if it was given one.
    rootfs: Option<PathBuf>,
    netns: String,
    stage: Stage,
    waiters: Vec<Responder>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Created,
    Ready { since: SystemTime },
    Stopped { since: Option<SystemTime>, at: SystemTime },
}

impl Stage {
    fn word(self) -> &'static str {
        match self {
            Stage::Created => "created",
            Stage::Ready { .. } => "running",
            Stage::Stopped { .. } => "stopped",
        }
    }
}

impl Shim {
    fn sandbox(&self) -> MutexGuard<'_, Option<Sandbox>> {
        self.sandbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the sandbox of that id.
    fn with_sandbox<T>(
        &self,
        id: &str,
        work: impl FnOnce(&mut Sandbox) -> Result<T, TaskError>,
    ) -> Result<T, TaskError> {
        match self.sandbox().as_mut().filter(|sandbox| sandbox.id == id) {
            Some(sandbox) => work(sandbox),
            None => Err(TaskError::new(Kind::NotFound, format_args!("sandbox {id}"))),
        }
    }

    /// Whether a sandbox keeps the shim.
    pub(super) fn has_sandbox(&self) -> bool {
        self.sandbox().is_some()
    }

    /// Refuses a container for a sandbox that was stopped.
    pub(super) fn admits(&self) -> Result<(), TaskError> {
        match self.sandbox().as_ref() {
            Some(Sandbox { id, stage: Stage::Stopped { .. }, .. }) => {
                Err(TaskError::new(Kind::FailedPrecondition, format_args!("sandbox {id} is stopped")))
            }
            _ => Ok(()),
        }
    }

    /// `CreateSandbox`.
    pub(super) fn create_sandbox(&self, request: &CreateSandboxRequest) -> Result<(), TaskError> {
        let invalid = |text: String| TaskError::new(Kind::InvalidArgument, text);
        let id = &request.sandbox_id;
        if !is_plain_name(id) {
            return Err(invalid(format!("sandbox id {id:?} must be letters, digits, '_', '.', '-'")));
        }
        let bundle = Path::new(&request.bundle_path);
        if !bundle.is_absolute() {
            return Err(invalid(format!("bundle {:?} is not an absolute path", request.bundle_path)));
        }
        let planned = mounts::plan(&request.rootfs).map_err(|e| invalid(e.to_string()))?;
        // held throughout: two at once are one too many
        let mut sandbox = self.sandbox();
        if let Some(sandbox) = sandbox.as_ref() {
            return Err(TaskError::new(Kind::AlreadyExists, format_args!("sandbox {}", sandbox.id)));
        }
        let rootfs = bundle.join("rootfs");
        if !planned.is_empty()
            && let Err(e) = mounts::execute(&planned, &rootfs, &self.reaper)
        {
            let _ = mounts::unmount_all(&rootfs);
            return Err(TaskError::failed(format_args!("failed to mount rootfs component: {e}")));
        }
        *sandbox = Some(Sandbox {
            id: id.clone(),
            rootfs: (!planned.is_empty()).then_some(rootfs),
            netns: request.netns_path.clone(),
            stage: Stage::Created,
            waiters: Vec::new(),
        });
        Ok(())
    }

    /// `StartSandbox`; the pid is the shim's own.
    pub(super) fn start_sandbox(
        &self,
        request: &StartSandboxRequest,
    ) -> Result<StartSandboxResponse, TaskError> {
        self.with_sandbox(&request.sandbox_id, |sandbox| {
            let Stage::Created = sandbox.stage else {
                let text = format_args!("cannot start a {} sandbox", sandbox.stage.word());
                return Err(TaskError::new(Kind::FailedPrecondition, text));
            };
            let since = SystemTime::now();
            sandbox.stage = Stage::Ready { since };
            Ok(StartSandboxResponse {
                pid: std::process::id(),
                created_at: Some(since.into()),
                ..StartSandboxResponse::default()
            })
        })
    }

    /// `Platform`.
    pub(super) fn platform(&self, request: &PlatformRequest) -> Result<PlatformResponse, TaskError> {
        self.with_sandbox(&request.sandbox_id, |_| {
            let (architecture, variant) = architecture();
            let platform = Platform {
                os: "linux".to_owned(),
                architecture: architecture.to_owned(),
                variant: variant.to_owned(),
                ..Platform::default()
            };
            Ok(PlatformResponse { platform: Some(platform) })
        })
    }

    /// `StopSandbox`: its containers are asked to end, and killed once the time is over, which may be at once.
    /// They stay, stopped, for their deletion. A sandbox that is stopped stays so.
    pub(super) fn stop_sandbox(self: &Arc<Self>, request: &StopSandboxRequest) -> Result<(), TaskError> {
        let over = self.with_sandbox(&request.sandbox_id, |sandbox| {
            let since = match sandbox.stage {
                Stage::Stopped { .. } => return Ok(true),
                Stage::Ready { since } => Some(since),
                Stage::Created => None,
            };
            // from now on none is admitted; those who wait are told when all have ended
            sandbox.stage = Stage::Stopped { since, at: SystemTime::now() };
            Ok(false)
        })?;
        let ended = self.end_containers(Duration::from_secs(request.timeout_secs.into()));
        if !over {
            let waiters = self.with_sandbox(&request.sandbox_id, |sandbox| {
                if let Stage::Stopped { at, .. } = &mut sandbox.stage {
                    *at = SystemTime::now();
                }
                Ok(std::mem::take(&mut sandbox.waiters))
            })?;
            for waiter in waiters {
                self.answer_waiter(&request.sandbox_id, waiter);
            }
        }
        ended
    }

    /// `WaitSandbox`: answered once the sandbox has stopped. Its status is 0: it has no process of its own.
    pub(super) fn wait_sandbox(&self, payload: &[u8], responder: Responder) {
        let request = match WaitSandboxRequest::decode(payload) {
            Ok(request) => request,
            Err(e) => return responder.error(Kind::InvalidArgument, format!("bad request: {e}")),
        };
        self.answer_waiter(&request.sandbox_id, responder);
    }

    fn answer_waiter(&self, id: &str, responder: Responder) {
        let mut responder = Some(responder);
        let found = self.with_sandbox(id, |sandbox| match sandbox.stage {
            Stage::Stopped { at, .. } => Ok(Some(at)),
            _ => {
                sandbox.waiters.extend(responder.take());
                Ok(None)
            }
        });
        let Some(responder) = responder else { return };
        match found {
            Ok(at) => responder
                .ok(WaitSandboxResponse { exit_status: 0, exited_at: at.map(Into::into) }.encode_to_vec()),
            Err(e) => responder.error(e.kind(), e.to_string()),
        }
    }

    /// `SandboxStatus`; the states are the CRI's words.
    pub(super) fn sandbox_status(
        &self,
        request: &SandboxStatusRequest,
    ) -> Result<SandboxStatusResponse, TaskError> {
        let containers = self.containers();
        self.with_sandbox(&request.sandbox_id, |sandbox| {
            let (state, created, exited) = match sandbox.stage {
                Stage::Created => ("SANDBOX_NOTREADY", None, None),
                Stage::Ready { since } => ("SANDBOX_READY", Some(since), None),
                Stage::Stopped { since, at } => ("SANDBOX_NOTREADY", since, Some(at)),
            };
            let mut response = SandboxStatusResponse {
                sandbox_id: sandbox.id.clone(),
                pid: std::process::id(),
                state: state.to_owned(),
                created_at: created.map(Into::into),
                exited_at: exited.map(Into::into),
                ..SandboxStatusResponse::default()
            };
            if request.verbose {
                let mut ids: Vec<_> = containers.iter().map(|c| c.id.as_str()).collect();
                ids.sort_unstable();
                response.info.insert("containers".to_owned(), ids.join(","));
                response.info.insert("netnsPath".to_owned(), sandbox.netns.clone());
            }
            Ok(response)
        })
    }

    /// `PingSandbox`.
    pub(super) fn ping_sandbox(&self, request: &PingRequest) -> Result<(), TaskError> {
        self.with_sandbox(&request.sandbox_id, |_| Ok(()))
    }

    /// `SandboxMetrics`: what the containers use together.
    pub(super) fn sandbox_metrics(
        &self,
        request: &SandboxMetricsRequest,
    ) -> Result<SandboxMetricsResponse, TaskError> {
        self.with_sandbox(&request.sandbox_id, |_| Ok(()))?;
        let mut total = Stats::default();
        for container in self.containers() {
            // one that has just gone uses nothing
            let stats = container.cgroup.get().filter(|c| c.exists()).and_then(|c| c.stats().ok());
            if let Some(stats) = stats {
                add(&mut total, &stats);
            }
        }
        Ok(SandboxMetricsResponse {
            metrics: Some(Metric {
                timestamp: Some(SystemTime::now().into()),
                id: request.sandbox_id.clone(),
                data: Some(metrics::to_any(&total)),
            }),
        })
    }

    /// `ShutdownSandbox`: stops it and deletes what containers are left; whether the program is to end now.
    pub(super) fn shutdown_sandbox(
        self: &Arc<Self>,
        request: &ShutdownSandboxRequest,
    ) -> Result<bool, TaskError> {
        let stop = StopSandboxRequest { sandbox_id: request.sandbox_id.clone(), timeout_secs: 0 };
        self.stop_sandbox(&stop)?;
        for container in self.containers() {
            self.delete_init(&container)?;
        }
        if let Some(rootfs) = self.sandbox().take().and_then(|sandbox| sandbox.rootfs)
            && let Err(e) = mounts::unmount_all(&rootfs)
        {
            log::warn(format_args!("sandbox {}: {e}", request.sandbox_id));
        }
        Ok(self.shutdown())
    }

    fn containers(&self) -> Vec<Arc<Container>> {
        self.lock().containers.values().flatten().cloned().collect()
    }

    fn end_containers(&self, patience: Duration) -> Result<(), TaskError> {
        let containers = self.containers();
        let end = |signal, all, patience| {
            for container in &containers {
                if container.init.state().child().is_some()
                    && let Err(e) = container.runtime.kill(&container.id, signal, all)
                {
                    log::debug(format_args!("container {}: {e}", container.id));
                }
            }
            let deadline = Instant::now() + patience;
            let lives = |c: &&Arc<Container>| {
                let left = deadline.saturating_duration_since(Instant::now());
                c.init.wait_stopped(left).is_none()
            };
            containers.iter().find(lives).map(|c| c.id.clone())
        };
        if !patience.is_zero() && end(SIGTERM, false, patience).is_none() {
            return Ok(());
        }
        match end(SIGKILL, true, KILLED) {
            None => Ok(()),
            Some(id) => Err(TaskError::failed(format_args!("container {id} was killed but did not end"))),
        }
    }
}

/// The machine in Go's words: architecture and variant.
fn architecture() -> (&'static str, &'static str) {
    match std::env::consts::ARCH {
        "x86_64" => ("amd64", ""),
        "x86" => ("386", ""),
        "aarch64" => ("arm64", "v8"),
        "arm" => ("arm", "v7"),
        "powerpc64" => ("ppc64le", ""),
        "loongarch64" => ("loong64", ""),
        same => (same, ""),
    }
}

/// Adds up what can be added; limits and peaks of several cgroups have no sum.
fn add(total: &mut Stats, one: &Stats) {
    total.v2 = one.v2;
    total.pids.current += one.pids.current;
    total.cpu.total_ns += one.cpu.total_ns;
    total.cpu.user_ns += one.cpu.user_ns;
    total.cpu.system_ns += one.cpu.system_ns;
    total.cpu.periods += one.cpu.periods;
    total.cpu.throttled_periods += one.cpu.throttled_periods;
    total.cpu.throttled_ns += one.cpu.throttled_ns;
    total.memory.usage.usage += one.memory.usage.usage;
    total.memory.oom_kill += one.memory.oom_kill;
    for (from, to) in
        [(&one.memory.stat, &mut total.memory.stat), (&one.memory.events, &mut total.memory.events)]
    {
        for (key, value) in from {
            let sum = to.entry(key.clone()).or_default();
            *sum = sum.saturating_add(*value);
        }
    }
}
