//! A process's streams, and the runtime's making of the process with them.

use std::io;
use std::path::Path;

use super::Shim;
use super::process::Stdio;
use crate::error::TaskError;
use crate::io::{Console, ConsoleSocket, Logger, Opened, Owner, Pipes, Plan, SessionId};
use crate::log;
use crate::runtime::{ChildStdio, Launch, read_pid};

/// What a process's streams are made from.
pub(super) struct Streams<'a> {
    pub bundle: &'a Path,
    /// The container's or the exec's id.
    pub name: &'a str,
    pub stdio: &'a Stdio,
    pub pipes: [bool; 3],
    pub io_owner: (u32, u32),
}

impl Shim {
    pub(super) fn open_streams(&self, plan: &Plan, stdio: &Stdio, id: &str) -> Result<Opened, TaskError> {
        let owner = Owner { id, namespace: &self.settings.namespace };
        let opened = crate::io::open(plan, stdio.terminal, &owner, &self.reaper);
        let mut opened =
            opened.map_err(|e| TaskError::failed(format_args!("failed to create process I/O: {e}")))?;
        opened.pipes[0] &= !stdio.stdin.is_empty();
        Ok(opened)
    }

    /// Has the runtime make a process, with its streams; returns its terminal and pid.
    pub(super) fn launch(
        &self,
        streams: &Streams<'_>,
        session: SessionId,
        direct: ChildStdio,
        pid_file: &Path,
        run: impl FnOnce(Launch<'_>) -> Result<(), TaskError>,
    ) -> Result<(Option<Console>, u32), TaskError> {
        let failed = |what: &'static str| move |e: io::Error| TaskError::failed(format_args!("{what}: {e}"));
        let _ = std::fs::remove_file(pid_file);
        let console = if streams.stdio.terminal {
            let socket = ConsoleSocket::new(streams.bundle, streams.name)
                .map_err(failed("failed to create OCI runtime console socket"))?;
            let path = socket.path();
            run(Launch { pid_file, console_socket: Some(&path), stdio: ChildStdio::default() })?;
            let console = socket.receive().map_err(failed("failed to retrieve console master"))?;
            let sources = console.sources(!streams.stdio.stdin.is_empty());
            self.io.connect(session, sources.map_err(failed("failed to start console copy"))?);
            Some(console)
        } else {
            let mut pipes = Pipes::new(streams.pipes, streams.io_owner)
                .map_err(failed("failed to create process I/O"))?;
            pipes.child.stdout = pipes.child.stdout.or(direct.stdout);
            pipes.child.stderr = pipes.child.stderr.or(direct.stderr);
            run(Launch { pid_file, console_socket: None, stdio: pipes.child })?;
            self.io.connect(session, pipes.sources);
            None
        };
        let pid = read_pid(pid_file).map_err(failed("failed to retrieve OCI runtime container pid"))?;
        Ok((console, pid))
    }
}

/// A logging program may take its time to write what it has.
pub(super) fn stop_in_background(logger: Logger) {
    if let Err(e) = super::thread("logger", move || logger.stop()) {
        log::error(format_args!("no thread to stop a logging program: {e}"));
    }
}
