//! Programs that turn a blob of another media type into a layer, such as one that decrypts it: the ones that the
//! configuration names, run as containerd runs them.
//!
//! The blob is on the program's standard input, the result is taken from its standard output,
//! `STREAM_PROCESSOR_MEDIATYPE` tells the type, and what the client sent for this processor can be read from
//! descriptor 3.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use wharf_kinds::Kind;
use wharf_sys::inherit::inherit;

/// Programs one after another.
const MAX_CHAIN: usize = 8;

/// Bytes of a program's complaints that are told.
const MAX_COMPLAINT: usize = 4 << 10;

/// How long a program that has closed its output may take to end.
const END_WITHIN: Duration = Duration::from_secs(30);

/// The descriptor of the client's payload.
const PAYLOAD: i32 = 3;

/// What the configuration says of one program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamProcessor {
    /// The name under which clients send something for it.
    pub id: String,
    /// Media types that it takes.
    pub accepts: Vec<String>,
    /// The media type that it gives.
    pub returns: String,
    pub path: PathBuf,
    pub args: Vec<String>,
    /// `NAME=value`, besides the daemon's own.
    pub env: Vec<String>,
}

/// All programs; cheap to clone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Processors(Arc<[StreamProcessor]>);

#[derive(Debug, thiserror::Error)]
pub enum ProcessorError {
    #[error("stream processor {id}: {act}: {source}")]
    Start { id: String, act: &'static str, source: io::Error },
    #[error("stream processor {id}: {status}: {complaint}")]
    Failed { id: String, status: String, complaint: String },
    #[error("stream processor {id} has closed its output and does not end")]
    Stuck { id: String },
    #[error("more than {MAX_CHAIN} stream processors after one another for {0:?}")]
    Endless(String),
}

impl ProcessorError {
    pub fn kind(&self) -> Kind {
        match self {
            ProcessorError::Endless(_) => Kind::FailedPrecondition,
            _ => Kind::Internal,
        }
    }
}

impl Processors {
    pub fn new(all: Vec<StreamProcessor>) -> Self {
        Processors(all.into())
    }

    fn accepting(&self, media_type: &str) -> Option<&StreamProcessor> {
        self.0.iter().find(|one| one.accepts.iter().any(|accepted| accepted == media_type))
    }

    /// The blob as it comes out of as many programs as accept it and what came before, with the media type that it then
    /// has. `payload` has what the client sent for a processor.
    pub fn open(
        &self,
        media_type: &str,
        blob: File,
        payload: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<(String, Processed), ProcessorError> {
        let mut media_type = media_type.to_owned();
        let mut processed = Processed { source: Source::Blob(blob), programs: Vec::new(), is_at_end: false };
        while let Some(processor) = self.accepting(&media_type) {
            if processed.programs.len() == MAX_CHAIN {
                return Err(ProcessorError::Endless(media_type));
            }
            processed = processed.through(processor, &media_type, payload(&processor.id))?;
            media_type.clone_from(&processor.returns);
        }
        Ok((media_type, processed))
    }
}

/// A blob on its way through programs. Dropped, it takes them with it.
pub struct Processed {
    source: Source,
    programs: Vec<Program>,
    is_at_end: bool,
}

enum Source {
    Blob(File),
    Program(ChildStdout),
    Nothing,
}

struct Program {
    id: String,
    child: Child,
    complaint: Option<JoinHandle<String>>,
}

impl Processed {
    /// Whether any program was needed.
    pub fn is_changed(&self) -> bool {
        !self.programs.is_empty()
    }

    fn through(
        mut self,
        processor: &StreamProcessor,
        media_type: &str,
        payload: Option<Vec<u8>>,
    ) -> Result<Self, ProcessorError> {
        let failed = |act| {
            let id = processor.id.clone();
            move |source| ProcessorError::Start { id, act, source }
        };
        let mut command = Command::new(&processor.path);
        command.args(&processor.args).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(processor.env.iter().filter_map(|pair| pair.split_once('=')));
        command.env("STREAM_PROCESSOR_MEDIATYPE", media_type);
        command.stdin(match std::mem::replace(&mut self.source, Source::Nothing) {
            Source::Blob(file) => Stdio::from(file),
            Source::Program(output) => Stdio::from(output),
            Source::Nothing => Stdio::null(),
        });
        let mut writer = None;
        if let Some(payload) = payload {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
                .map_err(|e| failed("open a pipe")(e.into()))?;
            inherit(&mut command, vec![(read, PAYLOAD)]).map_err(failed("hand on the payload"))?;
            writer = Some((write, payload));
        }
        let mut child = command.spawn().map_err(failed("start"))?;
        // its own copies are in the child now; here they would keep the pipe open
        drop(command);
        if let Some((write, payload)) = writer {
            let write = move || send(write, &payload);
            std::thread::Builder::new()
                .name("payload".into())
                .spawn(write)
                .map_err(failed("start a thread"))?;
        }
        let output = child.stdout.take();
        let complaint = child
            .stderr
            .take()
            .map(|stderr| std::thread::Builder::new().name("complaint".into()).spawn(move || listen(stderr)));
        self.source = output.map_or(Source::Nothing, Source::Program);
        let complaint = complaint.transpose().map_err(failed("start a thread"))?;
        self.programs.push(Program { id: processor.id.clone(), child, complaint });
        Ok(self)
    }

    /// Whether all programs did their work. To be asked once nothing more is read: where reading did not come to the
    /// end they are broken off, and that is no failure of theirs.
    pub fn finish(mut self) -> Result<(), ProcessorError> {
        if !self.is_at_end {
            return Ok(());
        }
        // a later one may have failed for want of what an earlier one should have given
        for program in &mut self.programs {
            program.finish()?;
        }
        Ok(())
    }
}

impl Read for Processed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.source {
            Source::Blob(file) => file.read(buffer)?,
            Source::Program(output) => output.read(buffer)?,
            Source::Nothing => 0,
        };
        self.is_at_end |= count == 0 && !buffer.is_empty();
        Ok(count)
    }
}

impl Drop for Processed {
    fn drop(&mut self) {
        for program in &mut self.programs {
            // one that has ended was waited for, and is not hit
            let _ = program.child.kill();
            let _ = program.child.wait();
        }
    }
}

impl Program {
    fn finish(&mut self) -> Result<(), ProcessorError> {
        let failed = |act: &'static str, id: &str| {
            let id = id.to_owned();
            move |source: io::Error| ProcessorError::Start { id, act, source }
        };
        if !ends_within(&self.child, END_WITHIN).map_err(failed("wait", &self.id))? {
            return Err(ProcessorError::Stuck { id: self.id.clone() });
        }
        let status = self.child.wait().map_err(failed("wait", &self.id))?;
        if status.success() {
            return Ok(());
        }
        let complaint = self.complaint.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let complaint = complaint.trim().to_owned();
        Err(ProcessorError::Failed { id: self.id.clone(), status: status.to_string(), complaint })
    }
}

/// The child has not been waited for, so its number is its own.
fn ends_within(child: &Child, limit: Duration) -> io::Result<bool> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("a process without a number"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// A program that does not read it all does not need it all.
fn send(pipe: OwnedFd, mut payload: &[u8]) {
    while !payload.is_empty() {
        match rustix::io::write(&pipe, payload) {
            Ok(count) => payload = &payload[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// The beginning of what a program says; the rest is taken, so that it is not held up.
fn listen(mut stderr: ChildStderr) -> String {
    let mut told = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer) {
        let room = MAX_COMPLAINT.saturating_sub(told.len()).min(count);
        told.extend_from_slice(&buffer[..room]);
    }
    String::from_utf8_lossy(&told).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};
    use std::time::Instant;

    use super::*;

    fn script(id: &str, accepts: &str, returns: &str, script: &str) -> StreamProcessor {
        StreamProcessor {
            id: id.into(),
            accepts: vec![accepts.into()],
            returns: returns.into(),
            path: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: vec!["GREETING=hello".into()],
        }
    }

    fn blob(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    fn none(_: &str) -> Option<Vec<u8>> {
        None
    }

    #[test]
    fn a_blob_that_nobody_accepts_stays_as_it_is() {
        let processors = Processors::new(vec![script("p", "a", "b", "cat")]);
        let (media_type, mut processed) = processors.open("x", blob(b"as it is"), none).unwrap();
        let mut text = String::new();
        processed.read_to_string(&mut text).unwrap();
        assert_eq!((media_type.as_str(), text.as_str(), processed.is_changed()), ("x", "as it is", false));
        processed.finish().unwrap();
    }

    #[test]
    fn programs_follow_each_other_and_get_what_is_meant_for_them() {
        let processors = Processors::new(vec![
            script("second", "b", "c", "cat; echo \" $GREETING $STREAM_PROCESSOR_MEDIATYPE\""),
            script("first", "a", "b", "cat; cat <&3"),
        ]);
        let payload = |id: &str| (id == "first").then(|| vec![b'!'; 200_000]);
        let (media_type, mut processed) = processors.open("a", blob(b"text"), payload).unwrap();
        let mut text = String::new();
        processed.read_to_string(&mut text).unwrap();
        assert_eq!(media_type, "c");
        assert_eq!(text, format!("text{} hello b\n", "!".repeat(200_000)));
        processed.finish().unwrap();
    }

    #[test]
    fn a_program_that_fails_is_told_with_what_it_said() {
        let talk = "cat >/dev/null; echo no key >&2; head -c 1000000 /dev/zero >&2; exit 3";
        let processors =
            Processors::new(vec![script("p", "a", "b", talk), script("q", "b", "c", "cat; exit 1")]);
        let (_, mut processed) = processors.open("a", blob(b"text"), none).unwrap();
        io::copy(&mut processed, &mut io::sink()).unwrap();
        let error = processed.finish().unwrap_err().to_string();
        assert!(error.starts_with("stream processor p: exit status: 3: no key"), "{:.100}", error);
        assert!(error.len() < 2 * MAX_COMPLAINT);
    }

    #[test]
    fn breaking_off_ends_the_programs() {
        let processors = Processors::new(vec![script("p", "a", "b", "exec cat /dev/zero")]);
        let (_, mut processed) = processors.open("a", blob(b""), none).unwrap();
        let mut buffer = [0; 100];
        processed.read_exact(&mut buffer).unwrap();
        let began = Instant::now();
        processed.finish().unwrap();
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn what_cannot_be_started_or_never_ends_is_refused() {
        let missing = StreamProcessor { path: "/no/such/program".into(), ..script("p", "a", "b", "") };
        assert!(Processors::new(vec![missing]).open("a", blob(b""), none).is_err());
        let endless = Processors::new(vec![script("p", "a", "a", "cat")]);
        assert!(matches!(endless.open("a", blob(b""), none), Err(ProcessorError::Endless(_))));
    }
}
