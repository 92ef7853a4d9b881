//! `wharf run`.

use super::attached::{Attached, Wanted};
use super::create::{Making, with_help};
use super::flags::ContainerFlags;
use super::waiting::Waiting;
use crate::error::CliError;
use crate::session::{Session, println};
use crate::stream::interactive::End;
use crate::terminal;
use crate::terminal::signals::{Caught, Resized};
use crate::transport::RequestBody;
use crate::transport::url::Query;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct RunOptions {
    /// Run container in background and print container ID
    #[arg(long, short)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string", default_value = "")]
    detach_keys: String,
    /// Proxy received signals to the process (default true)
    #[arg(long, default_value = "true")]
    sig_proxy: bool,
    #[command(flatten)]
    flags: ContainerFlags,
}

impl Options for RunOptions {
    const USAGE: &'static str = "[OPTIONS] IMAGE [COMMAND] [ARG...]";
    const ABOUT: &'static str = "Create and run a new container from an image";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let attaches = !self.flags.attach.is_empty();
        let auto_remove = self.flags.rm;
        let mut making = Making::of(session, self.flags).map_err(|text| with_help(text, "run", 125))?;
        let config = &mut making.request.config;
        if self.detach {
            if attaches {
                return Err(CliError::invalid(
                    "conflicting options: cannot specify both --attach and --detach",
                ));
            }
            (config.attach_stdin, config.attach_stdout, config.attach_stderr) = (false, false, false);
            config.stdin_once = false;
        } else {
            super::check_tty(config.attach_stdin, config.tty)?;
        }
        let detach_keys = session.detach_keys(&self.detach_keys)?;
        let wanted = Wanted {
            stdin: config.attach_stdin,
            stdout: config.attach_stdout,
            stderr: config.attach_stderr,
            tty: config.tty,
            detach_keys,
        };
        let id = making.create(session).await.map_err(failed)?;
        if !wanted.any() {
            start(session, &id).await.map_err(failed)?;
            return println(&id);
        }
        foreground(session, &id, wanted, auto_remove, self.sig_proxy).await
    }
}

async fn start(session: &Session, id: &str) -> Result<(), CliError> {
    let answer =
        session.client()?.post(&format!("/containers/{id}/start"), Query::new(), RequestBody::Empty).await?;
    answer.bytes().await?;
    Ok(())
}

/// The exit code says what went wrong: 127 for a program that is not there, 126 for one that cannot run.
fn failed(bad: CliError) -> CliError {
    if let CliError::Status { .. } = bad {
        return bad;
    }
    let text = bad.to_string();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let code = if says(&[
        "executable file not found",
        "no such file or directory",
        "system cannot find the file specified",
    ]) {
        127
    } else if says(&["permission denied", "is a directory"]) {
        126
    } else {
        125
    };
    with_help(text, "run", code)
}

/// Attaches, starts, and stays until the container has exited or the user detaches.
async fn foreground(
    session: &Session,
    id: &str,
    wanted: Wanted,
    auto_remove: bool,
    sig_proxy: bool,
) -> Result<(), CliError> {
    let client = session.client()?;
    let caught = Caught::begin(sig_proxy);
    let resized = wanted.tty && terminal::stdout_is_terminal();
    let outputs = wanted.stdout || wanted.stderr;
    // both are on the wire before the container starts, side by side
    let (attached, waiting) =
        tokio::join!(Attached::open(client, id, &wanted), Waiting::begin(client, id, auto_remove));
    let (attached, waiting) = (attached?, waiting?);
    let mut stream = attached.begin(&wanted, client.version().await?)?;
    if let Err(bad) = start(session, id).await {
        terminal::restore();
        if auto_remove {
            waiting.finish(client, std::future::ready(())).await;
        }
        return Err(failed(bad));
    }
    let (ended, on_end) = tokio::sync::oneshot::channel();
    let streaming = async {
        let end = stream.end().await;
        let _ = ended.send(());
        end
    };
    let waited = waiting.finish(client, async {
        let _ = on_end.await;
    });
    let both = async {
        tokio::pin!(streaming, waited);
        tokio::select! {
            end = &mut streaming => match end {
                Ok(End::Detached) => Ok(0),
                Ok(End::Closed) => Ok(waited.await),
                Err(bad) => Err(CliError::Io { act: "stream".to_owned(), source: bad }),
            },
            code = &mut waited => {
                // what was written before the exit is still to be shown
                if outputs {
                    let _ = streaming.await;
                }
                Ok(code)
            }
        }
    };
    let resizing = async {
        if resized {
            Resized::Container(id).follow(client).await;
        }
        std::future::pending::<()>().await;
    };
    let code = tokio::select! {
        code = both => code?,
        never = caught.forward(client, id) => match never {},
        () = resizing => 0,
    };
    terminal::restore();
    if code == 0 { Ok(()) } else { Err(CliError::exit(code)) }
}
