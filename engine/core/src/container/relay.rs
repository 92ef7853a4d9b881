//! Stdio through pipes, for shims that do not speak our stdio address.
//!
//! What our own shim does in its process is done here in the daemon: output is read from FIFOs, written to the log and
//! to clients; clients' input goes to the stdin FIFO. It works as long as the daemon does: with a shim of others an
//! attached client does not outlive the daemon, though the log goes on where it stopped when the daemon is back.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use wharf_logs::{LogFile, Stream};
use wharf_stdio::{Framing, StdinMode, StdioAddress};

use super::attach::{AttachClient, Watch};
use crate::engine::Shared;
use crate::error::EngineError;

/// Chunks a client may be behind; then the output waits for it, but not for long.
const BEHIND: usize = 64;
const STUCK: Duration = Duration::from_secs(30);
/// Bytes read at once.
const CHUNK: usize = 32 << 10;

/// The relays at work, by container and exec.
#[derive(Default)]
pub(crate) struct Relays(Mutex<HashMap<(String, String), mpsc::Sender<(AttachClient, Watch)>>>);

/// The three FIFOs of a process.
#[derive(Debug, Clone)]
pub(crate) struct Pipes {
    pub stdin: Option<PathBuf>,
    pub stdout: PathBuf,
    pub stderr: Option<PathBuf>,
}

/// Which process a relay serves.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub container: String,
    /// Empty for the container's first process.
    pub exec: String,
}

impl Pipes {
    /// Names FIFOs in a container's stdio directory.
    pub(crate) fn name(dir: &Path, exec: &str, stdin: bool, terminal: bool) -> Self {
        let prefix = if exec.is_empty() { "init" } else { crate::id::short(exec) };
        let path = |name: &str| dir.join(format!("{prefix}-{name}"));
        Self {
            stdin: stdin.then(|| path("in")),
            stdout: path("out"),
            stderr: (!terminal).then(|| path("err")),
        }
    }

    fn make(&self) -> Result<(), EngineError> {
        if let Some(dir) = self.stdout.parent() {
            std::fs::create_dir_all(dir)
                .map_err(|e| EngineError::host(format!("make {}", dir.display()), e))?;
        }
        for path in [Some(&self.stdout), self.stdin.as_ref(), self.stderr.as_ref()].into_iter().flatten() {
            match rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::from_raw_mode(0o600)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => {
                    return Err(EngineError::host(format!("make FIFO {}", path.display()), error.into()));
                }
            }
        }
        Ok(())
    }
}

impl Relays {
    /// Makes the FIFOs and serves them until the process has closed its ends.
    pub(crate) fn start(
        &self,
        shared: &Arc<Shared>,
        process: Process,
        pipes: &Pipes,
        address: &StdioAddress,
    ) -> Result<(), EngineError> {
        pipes.make()?;
        let open = |path: &PathBuf| {
            pipe::OpenOptions::new()
                .open_receiver(path)
                .map_err(|e| EngineError::host(format!("open FIFO {}", path.display()), e))
        };
        let stdout = open(&pipes.stdout)?;
        let stderr = pipes.stderr.as_ref().map(open).transpose()?;
        let stdin = match &pipes.stdin {
            // both ends, or it could not be opened before the shim has
            Some(path) => Some(
                pipe::OpenOptions::new()
                    .read_write(true)
                    .open_sender(path)
                    .map_err(|e| EngineError::host(format!("open FIFO {}", path.display()), e))?,
            ),
            None => None,
        };
        let (send, clients) = mpsc::channel(16);
        let key = (process.container.clone(), process.exec.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, send);
        let relay = Relay {
            shared: shared.clone(),
            process,
            log: open_log(address),
            once: address.stdin == StdinMode::Once,
            stdin: stdin.map(|pipe| Arc::new(tokio::sync::Mutex::new(Some(pipe)))),
            out: Vec::new(),
        };
        tokio::spawn(relay.run(stdout, stderr, clients));
        Ok(())
    }

    /// Attaches a client; gives it back if there is no relay.
    pub(crate) async fn attach(
        &self,
        key: (&str, &str),
        client: AttachClient,
        watch: Watch,
    ) -> Result<(), AttachClient> {
        let relay = {
            let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(&(key.0.to_owned(), key.1.to_owned())).cloned()
        };
        match relay {
            Some(relay) => {
                relay.send((client, watch)).await.map_err(|mpsc::error::SendError((client, _))| client)
            }
            None => Err(client),
        }
    }
}

fn open_log(address: &StdioAddress) -> Option<LogFile> {
    let format = match address.format {
        wharf_stdio::LogFormat::JsonFile => wharf_logs::Format::JsonFile,
        wharf_stdio::LogFormat::Local => wharf_logs::Format::Local,
        wharf_stdio::LogFormat::Cri => wharf_logs::Format::Cri,
        wharf_stdio::LogFormat::None => return None,
    };
    let options = wharf_logs::Options {
        format,
        max_size: address.max_size,
        max_files: address.max_file,
        attrs: std::collections::BTreeMap::new(),
    };
    match LogFile::open(&address.log, &options) {
        Ok(log) => Some(log),
        Err(error) => {
            tracing::error!(%error, "container's log cannot be written");
            None
        }
    }
}

type Stdin = Arc<tokio::sync::Mutex<Option<pipe::Sender>>>;

struct Relay {
    shared: Arc<Shared>,
    process: Process,
    log: Option<LogFile>,
    once: bool,
    stdin: Option<Stdin>,
    out: Vec<Output>,
}

/// A client's way out.
struct Output {
    chunks: mpsc::Sender<Arc<Vec<u8>>>,
    framing: Framing,
    stdout: bool,
    stderr: bool,
}

impl Relay {
    async fn run(
        mut self,
        stdout: pipe::Receiver,
        stderr: Option<pipe::Receiver>,
        mut clients: mpsc::Receiver<(AttachClient, Watch)>,
    ) {
        let (mut stdout, mut stderr) = (Some(stdout), stderr);
        let (mut first, mut second) = (vec![0; CHUNK], vec![0; CHUNK]);
        while stdout.is_some() || stderr.is_some() {
            tokio::select! {
                Some((client, watch)) = clients.recv() => self.attach(client, watch),
                read = read(&mut stdout, &mut first) => match read {
                    Ok(length) if length > 0 => self.pass(Stream::Stdout, &first[..length]).await,
                    _ => stdout = None,
                },
                read = read(&mut stderr, &mut second) => match read {
                    Ok(length) if length > 0 => self.pass(Stream::Stderr, &second[..length]).await,
                    _ => stderr = None,
                },
            }
        }
        if let Some(log) = &mut self.log {
            for stream in [Stream::Stdout, Stream::Stderr] {
                if let Err(error) = log.finish(stream) {
                    tracing::error!(container = self.process.container, %error, "end of the log was not written");
                }
            }
        }
        if let Ok(exec) = self.shared.registry.exec(&self.process.exec) {
            exec.stream_ended();
        }
        let key = (self.process.container.clone(), self.process.exec.clone());
        self.shared.relays.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    async fn pass(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(log) = &mut self.log
            && let Err(error) = log.write(stream, bytes)
        {
            tracing::error!(container = self.process.container, %error, "output was not logged");
        }
        let mut kept = Vec::with_capacity(self.out.len());
        for output in self.out.drain(..) {
            let wanted = if stream == Stream::Stdout { output.stdout } else { output.stderr };
            if wanted {
                let number = if stream == Stream::Stdout { 1 } else { 2 };
                let mut chunk = Vec::with_capacity(bytes.len() + 8);
                if output.framing == Framing::Multiplexed {
                    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    chunk.extend(wharf_stdio::frame::multiplex_header(number, length));
                }
                chunk.extend_from_slice(bytes);
                match tokio::time::timeout(STUCK, output.chunks.send(Arc::new(chunk))).await {
                    Ok(Ok(())) => {}
                    _ => continue,
                }
            }
            kept.push(output);
        }
        self.out = kept;
    }

    fn attach(&mut self, client: AttachClient, watch: Watch) {
        let AttachClient { stream, buffered, stdin, stdout, stderr, framing, .. } = client;
        let stream = stream.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(stream));
        let Ok(stream) = stream else { return };
        let (mut reader, mut writer) = stream.into_split();
        let (chunks, mut waiting) = mpsc::channel::<Arc<Vec<u8>>>(BEHIND);
        self.out.push(Output { chunks, framing, stdout, stderr });
        tokio::spawn(async move {
            while let Some(chunk) = waiting.recv().await {
                if writer.write_all(&chunk).await.is_err() {
                    return;
                }
            }
            let _ = writer.shutdown().await;
        });
        let Some(pipe) = self.stdin.clone().filter(|_| stdin) else { return };
        let (shared, process, once) = (self.shared.clone(), self.process.clone(), self.once);
        tokio::spawn(async move {
            let _watch = watch;
            let mut chunk = buffered;
            loop {
                {
                    let mut pipe = pipe.lock().await;
                    let Some(open) = pipe.as_mut() else { return };
                    if !chunk.is_empty() && open.write_all(&chunk).await.is_err() {
                        return;
                    }
                }
                chunk.clear();
                chunk.resize(CHUNK, 0);
                match reader.read(&mut chunk).await {
                    Ok(length) if length > 0 => chunk.truncate(length),
                    _ => break,
                }
            }
            if once {
                pipe.lock().await.take();
                let closed = shared.lifecycle.close_stdin(&process.container, &process.exec).await;
                if let Err(error) = closed {
                    tracing::debug!(container = process.container, %error, "stdin was not closed");
                }
            }
        });
    }
}

async fn read(pipe: &mut Option<pipe::Receiver>, buffer: &mut [u8]) -> std::io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => std::future::pending().await,
    }
}
