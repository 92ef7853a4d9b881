//! The ttrpc services: decode, call, encode. `containerd.task.v2.Task` and `v3` have the same methods and
//! messages; `containerd.runtime.sandbox.v1.Sandbox` is for a shim that holds a sandbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prost::Message;
use wharf_containerd::containerd::runtime::sandbox::v1::ShutdownSandboxRequest;
use wharf_kinds::Kind;

use super::{Shim, thread};
use crate::error::TaskError;
use crate::log;
use crate::ttrpc::{Responder, Service};

/// Requests at work at once; more are refused.
const MAX_SLOW: usize = 256;
static SLOW: AtomicUsize = AtomicUsize::new(0);

impl Service for Shim {
    fn call(self: &Arc<Self>, service: &str, method: &str, payload: Vec<u8>, responder: Responder) {
        if service == "containerd.runtime.sandbox.v1.Sandbox" {
            return self.call_sandbox(method, payload, responder);
        }
        if !matches!(service, "containerd.task.v3.Task" | "containerd.task.v2.Task") {
            return responder.error(Kind::Unimplemented, format!("service {service}"));
        }
        match method {
            // waits for a creation under way
            "State" => self.slow(payload, responder, |shim, r| shim.state(&r)),
            "Connect" => quick(&payload, responder, |r| Ok(self.connect(&r))),
            "ResizePty" => quick(&payload, responder, |r| self.resize(&r)),
            "CloseIO" => quick(&payload, responder, |r| self.close_io(&r)),
            "Wait" => self.wait(&payload, responder),
            "Create" => self.slow(payload, responder, |shim, r| shim.create(r)),
            "Start" => self.slow(payload, responder, |shim, r| shim.start(&r)),
            "Delete" => self.slow(payload, responder, |shim, r| shim.delete(&r)),
            "Exec" => self.slow(payload, responder, |shim, r| shim.exec(r)),
            "Kill" => self.slow(payload, responder, |shim, r| shim.kill(&r)),
            "Pause" => self.slow(payload, responder, |shim, r| shim.pause(&r)),
            "Resume" => self.slow(payload, responder, |shim, r| shim.resume(&r)),
            "Update" => self.slow(payload, responder, |shim, r| shim.update(&r)),
            "Pids" => self.slow(payload, responder, |shim, r| shim.pids(&r)),
            "Stats" => self.slow(payload, responder, |shim, r| shim.stats(&r)),
            "Checkpoint" => self.slow(payload, responder, |shim, r| shim.checkpoint(&r)),
            "Shutdown" => {
                let ends = self.shutdown();
                self.answer_and_end(responder, ends);
            }
            _ => responder.error(Kind::Unimplemented, format!("method {method}")),
        }
    }
}

impl Shim {
    fn call_sandbox(self: &Arc<Self>, method: &str, payload: Vec<u8>, responder: Responder) {
        match method {
            "CreateSandbox" => self.slow(payload, responder, |shim, r| shim.create_sandbox(&r)),
            "StartSandbox" => quick(&payload, responder, |r| self.start_sandbox(&r)),
            "Platform" => quick(&payload, responder, |r| self.platform(&r)),
            "StopSandbox" => self.slow(payload, responder, |shim, r| shim.stop_sandbox(&r)),
            "WaitSandbox" => self.wait_sandbox(&payload, responder),
            "SandboxStatus" => quick(&payload, responder, |r| self.sandbox_status(&r)),
            "PingSandbox" => quick(&payload, responder, |r| self.ping_sandbox(&r)),
            "SandboxMetrics" => self.slow(payload, responder, |shim, r| shim.sandbox_metrics(&r)),
            "ShutdownSandbox" => self.slowly(payload, responder, |shim, payload, responder| {
                let request = ShutdownSandboxRequest::decode(payload);
                let request = request.map_err(|e| TaskError::new(Kind::InvalidArgument, e));
                match request.and_then(|r| shim.shutdown_sandbox(&r)) {
                    Ok(ends) => shim.answer_and_end(responder, ends),
                    Err(e) => responder.error(e.kind(), e.to_string()),
                }
            }),
            _ => responder.error(Kind::Unimplemented, format!("method {method}")),
        }
    }

    fn wait(&self, payload: &[u8], responder: Responder) {
        let request = wharf_containerd::containerd::task::v3::WaitRequest::decode(payload);
        let process = request
            .map_err(|e| TaskError::new(Kind::InvalidArgument, e))
            .and_then(|r| self.container(&r.id)?.process(&r.exec_id));
        match process {
            Ok(process) => process.wait(responder),
            Err(e) => responder.error(e.kind(), e.to_string()),
        }
    }

    /// Answers from a thread of its own.
    fn slow<Q: Message + Default, A: Message>(
        self: &Arc<Self>,
        payload: Vec<u8>,
        responder: Responder,
        call: impl FnOnce(&Arc<Shim>, Q) -> Result<A, TaskError> + Send + 'static,
    ) {
        self.slowly(payload, responder, |shim, payload, responder| {
            quick(payload, responder, |request| call(shim, request));
        });
    }

    /// Nothing follows the program's end: it is answered first.
    fn answer_and_end(self: &Arc<Self>, responder: Responder, ends: bool) {
        responder.ok(Vec::new());
        if ends && let Err(e) = self.end() {
            log::error(format_args!("shutdown: {e}"));
        }
    }

    fn slowly(
        self: &Arc<Self>,
        payload: Vec<u8>,
        responder: Responder,
        work: impl FnOnce(&Arc<Shim>, &[u8], Responder) + Send + 'static,
    ) {
        if SLOW.fetch_add(1, Ordering::Relaxed) >= MAX_SLOW {
            SLOW.fetch_sub(1, Ordering::Relaxed);
            return responder.error(Kind::ResourceExhausted, "too many requests at once".to_owned());
        }
        let shim = Arc::clone(self);
        // if the thread cannot be started, the responder is dropped with it and answers an error
        let spawned = thread("call", move || {
            work(&shim, &payload, responder);
            SLOW.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            SLOW.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn quick<Q: Message + Default, A: Message>(
    payload: &[u8],
    responder: Responder,
    call: impl FnOnce(Q) -> Result<A, TaskError>,
) {
    match Q::decode(payload) {
        Ok(request) => answer(responder, call(request)),
        Err(e) => responder.error(Kind::InvalidArgument, format!("bad request: {e}")),
    }
}

fn answer<A: Message>(responder: Responder, result: Result<A, TaskError>) {
    match result {
        Ok(response) => responder.ok(response.encode_to_vec()),
        Err(e) => responder.error(e.kind(), e.to_string()),
    }
}
