//! What a Create asks for, understood before anything is done.

use std::path::PathBuf;

use wharf_containerd::containerd::task::v3::CreateTaskRequest;
use wharf_kinds::Kind;

use crate::error::TaskError;
use crate::io::Plan;
use crate::log;
use crate::mounts::{self, Planned};
use crate::options::Options;
use crate::runtime::{Checkpoint, is_plain_name};
use crate::task::container::SpecFacts;
use crate::task::process::Stdio;

/// A request that makes sense; nothing was done yet.
pub(super) struct Order {
    pub(super) request: CreateTaskRequest,
    pub(super) bundle: PathBuf,
    pub(super) options: Options,
    pub(super) streams: Plan,
    pub(super) stdio: Stdio,
    pub(super) mounts: Vec<Planned>,
    pub(super) own_pids: bool,
}

impl Order {
    /// Reads a request.
    ///
    /// # Errors
    /// InvalidArgument, with what is wrong with it.
    pub(super) fn of(request: CreateTaskRequest) -> Result<Order, TaskError> {
        let invalid = |text: String| TaskError::new(Kind::InvalidArgument, text);
        if !is_plain_name(&request.id) {
            return Err(invalid(format!(
                "container id {:?} must be letters, digits, '_', '.', '-'",
                request.id
            )));
        }
        let bundle = PathBuf::from(&request.bundle);
        if !bundle.is_absolute() {
            return Err(invalid(format!("bundle {:?} is not an absolute path", request.bundle)));
        }
        if !request.checkpoint.is_empty() && !request.checkpoint.starts_with('/') {
            return Err(invalid(format!("checkpoint {:?} is not an absolute path", request.checkpoint)));
        }
        let options = Options::from_any(request.options.as_ref()).map_err(invalid)?;
        let streams = Plan::of_process(request.terminal, &request.stdin, &request.stdout, &request.stderr);
        let streams = streams.map_err(|e| invalid(e.to_string()))?;
        let mounts = mounts::plan(&request.rootfs).map_err(|e| invalid(e.to_string()))?;
        let own_pids = SpecFacts::read(&bundle).map(|facts| facts.own_pids).unwrap_or_else(|e| {
            // the runtime says what is wrong with the spec
            log::debug(format_args!("bundle {}: config.json: {e}", bundle.display()));
            false
        });
        let stdio = Stdio {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        Ok(Order { request, bundle, options, streams, stdio, mounts, own_pids })
    }

    /// The checkpoint that the request names.
    pub(super) fn checkpoint(&self) -> Checkpoint {
        let parent = &self.request.parent_checkpoint;
        let work = &self.options.criu_work_path;
        Checkpoint {
            images: PathBuf::from(&self.request.checkpoint),
            parent: (!parent.is_empty()).then(|| PathBuf::from(parent)),
            work: if work.is_empty() { self.bundle.join("work") } else { PathBuf::from(work) },
        }
    }
}
